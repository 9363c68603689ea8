// The page ends true, whatever happens to the proxy, the API, the clock and the network between them. And until it knows
// the truth, it says so.

import assert from "node:assert/strict";

import { row, test, untilFresh } from "./world.mjs";

test("the proxy is killed and restarted in the middle", async ({ standIn, open }) => {
  standIn.job("a1", { state: "ACCEPTED", percent: 1 });
  const page = await open("viewer1");
  await untilFresh(page, "live");
  await page.untilText("#freshness-text", "Live");

  standIn.proxy.kill();
  await untilFresh(page, "polling");
  await page.untilText("#freshness-text", "Polling every 5 s");
  standIn.job("a1", { percent: 50 });
  await page.until(`document.querySelector('${row("a1", "progress")}').value === 50`);

  // A change whose hint nobody could receive shows as soon as the connection is there again.
  await standIn.proxy.restart();
  await untilFresh(page, "live");
  standIn.job("a1", { state: "SUCCEEDED" });
  await page.untilText(row("a1"), "Succeeded");
});

// Polls never come, so that they cannot hide that something else did not fetch. The page is idle when it waits for one.
const NO_POLLS = `{
  const [timeout, clear, request] = [setTimeout, clearTimeout, fetch];
  const polls = new Set();
  let fetching = 0;
  window.isIdle = () => polls.size === 1 && fetching === 0;
  window.setTimeout = (run, wait, ...rest) => {
    const isPoll = wait === 5000;
    const id = timeout(run, isPoll ? 1e9 : wait, ...rest);
    if (isPoll) polls.add(id);
    return id;
  };
  window.clearTimeout = (id) => {
    polls.delete(id);
    clear(id);
  };
  window.fetch = (...call) => {
    fetching += 1;
    return request(...call).finally(() => (fetching -= 1));
  };
}`;

test("a change of which no hint arrived shows after the reconnection, without a poll", async ({ standIn, open }) => {
  standIn.job("a1", { state: "ACCEPTED" });
  const page = await open("viewer1", { script: NO_POLLS });
  await untilFresh(page, "live");

  standIn.proxy.kill();
  await untilFresh(page, "polling");
  await page.until("isIdle()");
  standIn.job("a1", { state: "FAILED" }, { hint: false });
  await standIn.proxy.restart();
  await page.untilText(row("a1"), "Failed");
});

test("a connection that is dead without knowing it is replaced, and what it lost shows meanwhile", async ({ standIn, open }) => {
  standIn.job("a1", { state: "ACCEPTED", percent: 0 });
  const page = await open("viewer1");
  await untilFresh(page, "live");
  standIn.proxy.isDeaf = true;
  const [socket] = standIn.proxy.sockets;
  for (let percent = 1; !socket.destroyed; percent += 1) {
    standIn.job("a1", { percent });
    await page.until(`document.querySelector('${row("a1", "progress")}').value === ${percent}`);
  }
  standIn.proxy.isDeaf = false;
  await untilFresh(page, "live");
});

test("the API answers 500 for a while", async ({ standIn, open }) => {
  standIn.job("a1", { state: "ACCEPTED", percent: 1 });
  const page = await open("viewer1");
  await page.untilVisible(row("a1"));
  standIn.failure = 500;
  standIn.job("a1", { percent: 99 });
  await untilFresh(page, "failing");
  assert.match(await page.text("#freshness-text"), /^No answer since \d\d:\d\d:\d\d, this is from then\. Internal error/);
  assert.equal(await page.run("document.body.hasAttribute('data-stale')"), true);
  assert.equal(await page.run(`document.querySelector('${row("a1", "progress")}').value`), 1);

  const failed = standIn.requests.length;
  await page.until(`document.querySelector("#freshness").dataset.kind === "failing"`);
  standIn.failure = null;
  await page.until(`document.querySelector('${row("a1", "progress")}').value === 99`);
  await untilFresh(page, "live");
  assert.equal(await page.run("document.body.hasAttribute('data-stale')"), false);
  assert.ok(standIn.requests.length > failed);
});

test("the API is down when the page is opened", async ({ standIn, open }) => {
  standIn.failure = 503;
  const page = await open(null);
  await untilFresh(page, "failing");
  await page.untilText("#freshness-text", "The API answered 503");
  standIn.failure = null;
  await page.untilVisible("#sign-in");
});

test("a view that the API refuses says why, and the next one works", async ({ standIn, open }) => {
  standIn.job("a1", {});
  const page = await open("viewer1");
  await page.untilVisible(row("a1"));
  await page.run(`history.pushState(null, "", "?from=yesterday"); history.pushState(null, "", "?"); history.back()`);
  await page.untilText("#freshness-text", "The API refuses this view. Bad request: from is not a time");
  assert.equal(await page.isVisible(row("a1")), false);
  await page.click("[data-view=jobs]");
  await page.untilVisible(row("a1"));
  await untilFresh(page, "live");
});

test("a hidden page asks for nothing, and catches up when it is seen again", async ({ standIn, open }) => {
  standIn.job("a1", { state: "ACCEPTED", percent: 0 });
  const script = `
    let isHidden = false;
    Object.defineProperty(document, "hidden", { get: () => isHidden });
    window.hide = (hidden) => { isHidden = hidden; document.dispatchEvent(new Event("visibilitychange")); };`;
  const page = await open("viewer1", { script: NO_POLLS + script });
  await untilFresh(page, "live");
  await page.until("isIdle()");

  await page.run("hide(true)");
  const requests = standIn.requests.length;
  for (let percent = 1; percent <= 100; percent += 1) standIn.job("a1", { percent });
  standIn.proxy.kill();
  await page.until("document.querySelector('#freshness').dataset.kind !== 'live'");
  assert.equal(standIn.requests.length, requests);
  assert.equal(await page.run(`document.querySelector('${row("a1", "progress")}').value`), 0);

  await page.run("hide(false)");
  await page.until(`document.querySelector('${row("a1", "progress")}').value === 100`);
});

test("the network goes away and comes back", async ({ standIn, open }) => {
  standIn.job("a1", { state: "ACCEPTED" });
  const page = await open("viewer1");
  await untilFresh(page, "live");
  const network = (offline) => page.call("Network.emulateNetworkConditions", { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  await network(true);
  await untilFresh(page, "failing");
  await page.untilText("#freshness-text", "cannot be reached");
  standIn.job("a1", { state: "SUCCEEDED" }, { hint: false });
  await network(false);
  await page.untilText(row("a1"), "Succeeded");
});

// The clock of the page, which a test can move, and what the page said of itself at each change.
const CLOCK = `
  window.jump = 0;
  window.shown = [];
  const now = Date.now.bind(Date);
  Date.now = () => now() + window.jump;
  addEventListener("DOMContentLoaded", () => {
    const line = document.querySelector("#freshness");
    if (!line) return;
    const note = () => shown.push([line.dataset.kind, document.querySelector("#jobs .state")?.innerText]);
    new MutationObserver(note).observe(line, { attributes: true });
  });
`;

test("the laptop sleeps for an hour, and the page vouches for nothing until it knows", async ({ standIn, open }) => {
  standIn.job("a1", { state: "ACCEPTED", percent: 1 });
  standIn.tokenSeconds = 86_400;
  const page = await open("viewer1", { script: CLOCK + NO_POLLS });
  await untilFresh(page, "live");
  await page.until("isIdle()");

  await page.sleep();
  await page.run("shown.length = 0; jump = 3_600_000");
  standIn.proxy.isDeaf = true;
  standIn.job("a1", { state: "SUCCEEDED" });
  standIn.hold();
  await page.wake();

  await untilFresh(page, "checking");
  await page.untilText("#freshness-text", "Checking what changed since");
  assert.equal(await page.run("document.body.hasAttribute('data-stale')"), true);
  assert.equal(await page.text(row("a1", ".state")), "Accepted");
  standIn.proxy.isDeaf = false;
  standIn.release();
  await page.untilText(row("a1"), "Succeeded");
  await untilFresh(page, "live");
  const shown = await page.run("shown");
  const untrue = shown.filter(([kind, state]) => ["live", "polling"].includes(kind) && state !== "Succeeded");
  assert.deepEqual(untrue, [], JSON.stringify(shown));
});

test("a jump of the clock alone makes a page that stayed visible ask again", async ({ standIn, open }) => {
  standIn.job("a1", { state: "ACCEPTED", percent: 1 });
  standIn.tokenSeconds = 86_400;
  const page = await open("viewer1", { script: CLOCK + NO_POLLS });
  await untilFresh(page, "live");
  await page.until("isIdle()");

  standIn.hold();
  standIn.job("a1", { percent: 2 }, { hint: false });
  await page.run("jump = 3_600_000");
  await untilFresh(page, "checking");
  standIn.release();
  await page.until(`document.querySelector('${row("a1", "progress")}').value === 2`);
  await untilFresh(page, "live");
});

test("a thousand hints cost few requests, and a long log does not grow the page", async ({ standIn, open }) => {
  const linesFrom = (first) => Array.from({ length: 200 }, (_, line) => `line ${first + line}`);
  standIn.job("a1", { state: "ACCEPTED", percent: 0, log: linesFrom(0) });
  const page = await open("viewer1", { query: "?job=a1" });
  await untilFresh(page, "live");
  await page.until(`document.querySelector("#log").lastElementChild?.textContent === "line 199"`);
  const requests = () => standIn.requests.filter(({ path }) => path === "/jobs").length;
  const before = requests();

  for (let n = 0; n <= 1000; n += 1) {
    standIn.job("a1", { percent: n / 10, log: linesFrom(n) });
  }
  await page.until(`document.querySelector("#job-bar progress").value === 100`);
  await page.until(`document.querySelector("#log").lastElementChild?.textContent === "line 1199"`);
  assert.equal(await page.run(`document.querySelectorAll("#log > div").length`), 200);
  assert.equal(await page.run(`document.querySelector("#log").firstElementChild.textContent`), "line 1000");
  assert.ok(requests() - before < 10, `${requests() - before} requests`);
});

test("what did not change is answered 304", async ({ standIn, open }) => {
  standIn.proxy.kill();
  standIn.job("a1", {});
  const page = await open("viewer1");
  await untilFresh(page, "polling");
  await page.untilVisible(row("a1"));
  const conditional = () => standIn.requests.filter(({ path, headers }) => path === "/jobs" && headers["if-none-match"]).length;
  while (conditional() < 1) await page.until("true");
  await untilFresh(page, "polling");
  assert.ok(await page.isVisible(row("a1")));
});
