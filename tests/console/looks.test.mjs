// How the page looks and how it is used without a mouse, a good eye or a large screen. The pictures go to
// target/console, which CI keeps; docs/pictures has some of them.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { row, signIn, test, untilFresh } from "./world.mjs";

const PICTURES = fileURLToPath(new URL("../../target/console/", import.meta.url));
const AXE = fileURLToPath(new URL("../../.postern/console-npm/node_modules/axe-core/axe.min.js", import.meta.url));
mkdirSync(PICTURES, { recursive: true });

/** Jobs and workers as a small site has them. */
function populate(standIn) {
  const at = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
  standIn.job("c5d1e20f4b", { state: "SUCCEEDED", name: "nightly report", kind: "report", worker: "plant-8", dispatchedAt: at(4000), acceptedAt: at(3999), percent: 100, message: "412 rows" });
  standIn.job("9b07aa315c", { state: "FAILED", name: "import prices", kind: "files", worker: "plant-7", attempt: 2, dispatchedAt: at(900), acceptedAt: at(899), percent: 31, message: "row 1,204", error: "Files.NotFound", cause: "/data/prices.csv does not exist" });
  standIn.job("77f3c0d911", { state: "CANCELLED", name: "copy archive", kind: "copy", worker: "plant-7", dispatchedAt: at(500), acceptedAt: at(499), percent: 12 });
  standIn.job("1fe2a7b3c8", { state: "ACCEPTED", name: "pay invoice 2041", kind: "approval", dispatchedAt: at(200), acceptedAt: at(199), approval: true, message: "waits for approval" });
  const first = { jobId: "5d90c1e7aa", attempt: 1 };
  standIn.job("5d90c1e7aa", { state: "FAILED", name: "copy orders", kind: "copy", worker: "plant-8", dispatchedAt: at(130), acceptedAt: at(129), percent: 69, error: "Worker.Interrupted" });
  standIn.job("0a4be8d276", { state: "ACCEPTED", name: "copy orders", kind: "copy", worker: "plant-7", attempt: 1, resumed: true, dispatchedAt: at(65), acceptedAt: at(64), percent: 72, message: "item 720 of 1,000", data: { item: 720 }, log: Array.from({ length: 30 }, (_, n) => `copied orders-${691 + n}.csv`),
    events: [{ at: at(130), type: "dispatched", detail: "attempt 1", ...first }, { at: at(129), type: "accepted", detail: "by plant-8", ...first }, { at: at(66), type: "done", detail: "FAILED: Worker.Interrupted", ...first },
      { at: at(65), type: "retried", detail: "attempt 2" }, { at: at(65), type: "resumed", detail: "with the progress of the attempt before" }] });
  standIn.job("e81c6d02f7", { name: "copy returns" });
  standIn.worker("plant-7", { jobs: ["0a4be8d276", "1fe2a7b3c8"], running: 2 });
  standIn.worker("plant-8", { state: "PAUSED", running: 0, concurrency: 8 });
  standIn.worker("plant-9", { state: "DOWN", running: 0, certificateEnds: new Date(Date.now() + 5 * 86_400_000).toISOString() });
}

const VIEWS = [
  { name: "light", scheme: "light", width: 1280, height: 800 },
  { name: "dark", scheme: "dark", width: 1280, height: 800 },
  { name: "phone", scheme: "light", width: 360, height: 740 },
  { name: "phone-dark", scheme: "dark", width: 360, height: 740 },
];

/** Takes a picture, and finds what axe finds and what is wider than the screen. */
async function look(page, name) {
  await page.picture(`${PICTURES}${name}.webp`);
  const run = "axe.run(document, { resultTypes: ['violations'] })";
  const describe = "({ id, nodes }) => `${id}: ${nodes.map((node) => node.target + ' ' + node.failureSummary).join(' | ')}`";
  assert.deepEqual(await page.run(`${run}.then(({ violations }) => violations.map(${describe}))`), [], name);
  assert.ok(await page.run("document.documentElement.scrollWidth <= innerWidth"), `${name} is wider than the screen`);
}

function loadAxe(page) {
  return page.run(`${readFileSync(AXE, "utf8")}; true`);
}

for (const { name, scheme, width, height } of VIEWS) {
  test(`axe finds nothing and nothing is cut off: ${name}`, async ({ standIn, open }) => {
    populate(standIn);
    const page = await open(null);
    await page.scheme(scheme);
    await page.size(width, height);
    await loadAxe(page);
    await page.untilVisible("#sign-in");
    await look(page, `sign-in-${name}`);

    await signIn(page, "all1");
    await loadAxe(page);
    await page.untilVisible(row("0a4be8d276"));
    await look(page, `jobs-${name}`);
    await page.click(row("0a4be8d276", "a"));
    await page.untilText("#log", "orders-720");
    await page.click("#data summary");
    await page.click("#input summary");
    await look(page, `job-${name}`);
    await page.click("#stop");
    await look(page, `stop-${name}`);
    await page.press("Escape");
    await page.untilGone("#ask-dialog");

    await page.click("[data-view=workers]");
    await page.untilText("#workers", "plant-9");
    await look(page, `workers-${name}`);
    await page.click("[data-view=jobs]");
    await page.click("#start");
    await look(page, `start-${name}`);
    await page.press("Escape");
    standIn.failure = 500;
    standIn.job("e81c6d02f7", {});
    await untilFresh(page, "failing");
    await look(page, `failing-${name}`);
  });
}

test("everything is done with the keyboard, and updates do not take the focus away", async ({ standIn, open }) => {
  for (const [jobId, age] of [["a1", 3], ["a2", 2], ["a3", 1]]) {
    standIn.job(jobId, { state: "ACCEPTED", dispatchedAt: new Date(Date.now() - age * 1000).toISOString() });
  }
  const page = await open("operator1", { query: "?state=ACCEPTED" });
  await page.untilVisible(row("a2"));
  const focused = () => page.run("document.activeElement.closest('[data-key]')?.dataset.key ?? document.activeElement.id");
  for (let n = 0; (await focused()) !== "a2"; n += 1) {
    assert.ok(n < 30, "Tab does not reach the job");
    await page.press("Tab");
  }

  // New jobs above it, and a change of the job itself.
  standIn.job("a4", { state: "ACCEPTED" });
  standIn.job("a2", { percent: 50 });
  await page.untilVisible(row("a4"));
  await page.until(`document.querySelector('${row("a2", "progress")}').value === 50`);
  assert.equal(await focused(), "a2");

  // The job leaves the list, because the filter matches it no longer.
  standIn.job("a2", { state: "SUCCEEDED" });
  await page.until(`!document.querySelector('${row("a2")}')`);
  assert.equal(await focused(), "a1");

  await page.press("Enter");
  await page.untilText("#job-state", "Accepted");
  assert.equal(await focused(), "job-title");
  for (let n = 0; (await focused()) !== "stop"; n += 1) {
    assert.ok(n < 10, "Tab does not reach Stop");
    await page.press("Tab");
  }
  await page.press("Enter");
  await page.untilVisible("#ask-dialog");
  await page.press("Escape");
  await page.untilGone("#ask-dialog");
  assert.equal(await focused(), "stop");
});

test("markup and terminal escapes are shown as text", async ({ standIn, open }) => {
  const markup = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
  standIn.job("a1", { state: "FAILED", name: markup, kind: markup, worker: markup, message: `\u001b[31mred\u0007 ${markup}`, error: markup, cause: "\u202Egpj.exe", percent: 5,
    data: { [markup]: markup }, input: JSON.stringify(markup), result: markup, log: [markup, "\u001b]0;title\u0007", "one\r\ntwo"], events: [{ at: new Date().toISOString(), type: markup, detail: markup }] });
  standIn.worker(markup, { kinds: [markup], version: markup, group: markup });
  const page = await open("viewer1", { query: "?job=a1" });
  await page.untilText("#job-message", "␛[31mred␇ <img");
  await page.untilText("#job-error", "⟨U+202E⟩gpj.exe");
  await page.untilText("#log", "␛]0;title␇");
  await page.untilText("#log", "one␍␊two");
  for (const name of ["input", "result", "data"]) await page.click(`#${name} summary`);
  for (const name of ["input", "result", "data"]) await page.untilText(`#${name} pre`, "<img src=x");
  await page.click("[data-view=workers]");
  await page.untilText("#workers h3", "<img src=x");
  assert.equal(await page.run(`document.querySelectorAll("main img, main script").length`), 0);
  assert.equal(await page.run("document.title"), "Workers · Postern");
});

test("the first paint needs less than 100 kB, and nothing from elsewhere", async ({ standIn, open }) => {
  const page = await open(null);
  await page.untilVisible("#sign-in");
  const bytes = page.received.reduce((sum, response) => sum + response.bytes, 0);
  assert.ok(bytes > 10_000 && bytes < 100_000, `${bytes} bytes`);
  const foreign = page.received.filter(({ url }) => !url.startsWith(standIn.url) && !url.startsWith("data:"));
  assert.deepEqual(foreign, []);
});
