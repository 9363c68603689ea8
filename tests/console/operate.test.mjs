// What an operator does with the console, in a real Chromium against the stand-in.

import assert from "node:assert/strict";

import { row, signIn, test, untilFresh } from "./world.mjs";

test("an operator starts a job and sees its bar and its log move", async ({ standIn, open }) => {
  const page = await open();
  await page.click("#start");
  await page.until(`document.querySelectorAll("#start-dialog option").length === 2`);
  await page.fill("#start-dialog textarea", "{not json");
  await page.click("#start-dialog [type=submit]");
  await page.untilText("#start-error", "not JSON");
  await page.fill("#start-dialog textarea", `{"items": 12345678901234567890}`);
  await page.click("#start-dialog [type=submit]");
  await page.untilText("#notice", "Started started-1");
  const { body } = standIn.requests.find(({ method, path }) => method === "POST" && path === "/jobs");
  assert.equal(body, `{"machine":"copy","input":{"items": 12345678901234567890}}`);

  await page.click(row("started-1", "a"));
  await page.untilText("#job-title", "started-1");
  standIn.job("started-1", { state: "ACCEPTED", worker: "plant-7", percent: 10, message: "item 1", log: ["one"] });
  await page.until(`document.querySelector("#job-bar progress").value === 10`);
  await page.until(`document.querySelector('${row("started-1", "progress")}').value === 10`);
  await page.untilText("#log", "one");
  standIn.job("started-1", { percent: 66.6, message: "item 2", log: ["one", "two"] });
  await page.until(`document.querySelector("#job-bar progress").value === 66.6`);
  await page.untilText("#log", "two");
  await page.untilText("#job-bar .percent", "66 %");

  standIn.job("started-1", { state: "SUCCEEDED", result: `{"copied":12345678901234567890}` });
  await page.untilText("#job-state", "Succeeded");
  await page.untilText("#timeline", "Done: SUCCEEDED");
  await page.click("#result summary");
  await page.untilText("#result pre", "12345678901234567890");
});

test("a timeline shows the attempts before, and leads to them", async ({ standIn, open }) => {
  const at = new Date().toISOString();
  standIn.job("a1", { state: "FAILED", name: "copy orders", error: "Worker.Interrupted" });
  standIn.job("a2", { state: "ACCEPTED", name: "copy orders", attempt: 1, events: [
    { at, type: "dispatched", detail: "attempt 1", jobId: "a1", attempt: 1 },
    { at, type: "done", detail: "FAILED: Worker.Interrupted", jobId: "a1", attempt: 1 },
    { at, type: "retried", detail: "attempt 2" },
  ] });
  const page = await open("viewer1", { query: "?job=a2" });
  await page.untilText("#timeline", "Retried: attempt 2");
  assert.equal(await page.run(`[...document.querySelectorAll("#timeline a")].filter((a) => !a.hidden).length`), 2);

  await page.click("#timeline a");
  await page.untilText("#job-facts", "a1");
  await page.untilText("#job-error", "Worker.Interrupted");
});

test("an operator stops a job, and a repeated start after a lost answer starts nothing twice", async ({ standIn, open }) => {
  standIn.job("a1", { state: "ACCEPTED", name: "copy orders", worker: "plant-7", percent: 40 });
  const page = await open("operator1", { query: "?job=a1" });
  await page.click("#stop");
  await page.fill("#ask-dialog input", "the wrong file");
  await page.click("#ask-confirm");
  await page.untilText("#job-state", "Cancelled");
  await page.untilText("#job-error", "Worker.Cancelled: the wrong file");
  assert.equal(await page.isVisible("#stop"), false);

  await page.click("#start");
  await page.until(`document.querySelectorAll("#start-dialog option").length === 2`);
  const begin = standIn.begin.bind(standIn);
  standIn.begin = (...start) => {
    begin(...start);
    standIn.begin = begin;
    throw Object.assign(new Error("The answer was lost"), { status: 502 });
  };
  await page.click("#start-dialog [type=submit]");
  await page.untilText("#start-error", "The answer was lost");
  await page.click("#start-dialog [type=submit]");
  await page.untilText("#notice", "Started started-1");
  assert.equal(standIn.keys.size, 1);
});

test("an approver approves one job and rejects another", async ({ standIn, open }) => {
  standIn.job("a1", { state: "ACCEPTED", kind: "approval", name: "pay 1", approval: true });
  standIn.job("a2", { state: "ACCEPTED", kind: "approval", name: "pay 2", approval: true });
  const page = await open("approver1");
  assert.equal(await page.isVisible("#start"), false);
  await page.click(row("a1", "a"));
  await page.untilText("#job-title", "pay 1");
  assert.equal(await page.isVisible("#stop"), false);
  await page.click("#approve");
  await page.fill("#ask-dialog input", "as agreed");
  await page.click("#ask-confirm");
  await page.untilText("#job-state", "Succeeded");
  assert.equal(JSON.parse(standIn.jobs.get("a1").result).comment, "as agreed");

  await page.click(row("a2", "a"));
  await page.untilText("#job-title", "pay 2");
  await page.click("#reject");
  await page.click("#ask-confirm");
  await page.untilText(row("a2"), "Failed");
});

test("an operator pauses a worker, resumes it and sets how many jobs it runs", async ({ standIn, open }) => {
  standIn.job("a1", { state: "ACCEPTED", worker: "plant-7" });
  standIn.worker("plant-7", { jobs: ["a1"] });
  standIn.worker("plant-8", { state: "DOWN", running: 0, certificateEnds: new Date(Date.now() + 3_700_000).toISOString() });
  const page = await open("operator1");
  await page.click("[data-view=workers]");
  const plant = `#workers > [data-key="plant-7"]`;
  await page.untilText(plant, "1 of 4 busy");
  await page.untilText(`#workers > [data-key="plant-8"]`, "ends in 1 h");
  await untilFresh(page, "polling");

  await page.run(`document.querySelector('${plant} [data-command=pause]').focus()`);
  await page.click(`${plant} [data-command=pause]`);
  await page.untilText(plant, "Paused");
  assert.equal(await page.run("document.activeElement.dataset.command"), "resume");
  await page.click(`${plant} [data-command=resume]`);
  await page.untilText(plant, "Up");

  await page.fill(`${plant} input`, "0");
  await page.click(`${plant} [type=submit]`);
  assert.equal(standIn.workers.get("plant-7").concurrency, 4);
  await page.fill(`${plant} input`, "12");
  await page.click(`${plant} [type=submit]`);
  await page.untilText(plant, "1 of 12 busy");

  await page.click(`${plant} .running a`);
  await page.untilText("#job-facts", "plant-7");
});

test("a viewer sees everything and can change nothing", async ({ standIn, open }) => {
  standIn.job("a1", { state: "ACCEPTED", approval: true });
  standIn.worker("plant-7", {});
  const page = await open("viewer1", { query: "?job=a1" });
  await page.untilText("#job-state", "Accepted");
  for (const selector of ["#start", "#stop", "#approve", "#reject"]) assert.equal(await page.isVisible(selector), false, selector);
  await page.click("[data-view=workers]");
  await page.untilText("#workers", "plant-7");
  assert.equal(await page.isVisible("#workers button"), false);
});

test("filters are in the address, and last through a reload and through the way back", async ({ standIn, open }) => {
  standIn.job("a1", { state: "ACCEPTED" });
  standIn.job("a2", { state: "FAILED" });
  standIn.job("a3", { state: "FAILED", dispatchedAt: "2020-01-01T00:00:00.000Z" });
  const page = await open("viewer1");
  await page.until(`document.querySelectorAll("#jobs > li").length === 3`);
  await page.fill("#filters [name=state]", "FAILED");
  await page.until(`document.querySelectorAll("#jobs > li").length === 2`);
  await page.fill("#filters [name=within]", "1h");
  await page.until(`document.querySelectorAll("#jobs > li").length === 1`);
  assert.equal(await page.run("location.search"), "?state=FAILED&within=1h");

  await page.call("Page.reload");
  await page.until(`document.querySelector('${row("a2")}') && document.querySelectorAll("#jobs > li").length === 1`);
  assert.equal(await page.run(`document.querySelector("#filters [name=state]").value`), "FAILED");
  await page.run("history.go(-2)");
  await page.until(`document.querySelectorAll("#jobs > li").length === 3`);

  await page.fill("#filters [name=within]", "between");
  await page.fill("#filters [name=to]", "2021-01-01T00:00:00");
  await page.until(`document.querySelectorAll("#jobs > li").length === 1`);
  assert.match(await page.run("location.search"), /to=2021-01-01T00%3A00%3A00.000Z/);
});

test("a long list comes in pages", async ({ standIn, open }) => {
  for (let n = 0; n < 120; n += 1) standIn.job(`job-${n}`, { dispatchedAt: new Date(Date.now() - n * 1000).toISOString() });
  const page = await open("viewer1");
  await page.until(`document.querySelectorAll("#jobs > li").length === 50`);
  await page.click("#older");
  await page.untilVisible(row("job-50"));
  await page.click("#older");
  await page.until(`document.querySelectorAll("#jobs > li").length === 20`);
  await page.click("#newest");
  await page.untilVisible(row("job-0"));
});

test("a sign-in that this tab did not begin is refused", async ({ standIn, open }) => {
  const page = await open(null, { query: "?code=stolen&state=forged" });
  await page.untilText("#signed-out-reason", "another sign-in");
  assert.equal(await page.run("location.search"), "");

  // Nor is a forged answer taken for that of the sign-in that this tab has begun.
  await page.click("#sign-in");
  await page.untilVisible("#viewer1");
  const [code] = standIn.codes.keys();
  await page.call("Page.navigate", { url: `${standIn.url}?code=${code}&state=forged` });
  await page.untilText("#signed-out-reason", "another sign-in");
  await signIn(page, "viewer1");
  assert.equal(await page.run("location.href"), standIn.url);
  assert.equal(await page.run("document.cookie"), "");
});

test("a token of another nonce is refused", async ({ standIn, open }) => {
  const page = await open(null);
  await page.click("#sign-in");
  await page.untilVisible("#viewer1");
  for (const code of standIn.codes.values()) code.nonce = "other";
  await page.click("#viewer1");
  await page.untilText("#signed-out-reason", "of another sign-in");
});

test("after the token's end the page forgets the jobs and asks to sign in again", async ({ standIn, open }) => {
  standIn.job("a1", { name: "secret name" });
  const page = await open("viewer1", { query: "?state=DISPATCHED" });
  await page.untilVisible(row("a1"));
  standIn.tokens.clear();
  await page.untilText("#signed-out-reason", "did not accept the sign-in");
  assert.equal(await page.run(`document.body.innerText.includes("secret name")`), false);
  await signIn(page, "viewer1");
  await page.untilVisible(row("a1"));
  assert.equal(await page.run("location.search"), "?state=DISPATCHED");

  await page.click("#sign-out");
  await page.untilText("#signed-out-reason", "You have signed out");
  assert.equal(await page.run("sessionStorage.length"), 0);
});

test("a token is renewed before its end where the issuer allows that", async ({ standIn, open }) => {
  standIn.tokenSeconds = 30;
  standIn.refreshes = true;
  const page = await open("viewer1");
  standIn.job("a1", {});
  await page.untilVisible(row("a1"));
  assert.ok(standIn.tokens.size > 1, "no token was renewed");
  assert.equal(await page.isVisible("#sign-in"), false);
});
