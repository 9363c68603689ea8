// The console against the real stack, with a page that never makes its regular check: what it shows, a hint has announced.
//
// Started by tests/e2e/api/page.rs as `node --experimental-websocket hints.mjs URL DONE_FILE`. It prints what is to be done to
// the stack, which happens outside of the page, and waits for a line after each. It prints `absent` where Chromium is not
// installed, and `true` at the end.

import assert from "node:assert/strict";

import { EVERY } from "../../functions/jobs-api/console/freshness.js";
import { Chromium } from "../chromium.mjs";
import { ask } from "./outside.mjs";

const [url] = process.argv.slice(2);

/** Timers of the regular check never end, and are counted. */
const WITHOUT_CHECKS = `{
  const set = window.setTimeout;
  window.checksLeftOut = 0;
  window.setTimeout = (work, wait, ...rest) => {
    if (wait !== ${EVERY}) return set(work, wait, ...rest);
    window.checksLeftOut += 1;
    return 0;
  };
}`;

const chromium = await Chromium.start();
const page = await chromium.open(url, WITHOUT_CHECKS);
const rowIn = (state) => `#jobs > li:first-child .state[data-state="${state}"]`;

await page.click("#sign-in");
await page.click("#admin1");
await page.until(`document.querySelector("#freshness").dataset.kind === "live"`);
await page.until("checksLeftOut > 0");

await ask("start-job");
await page.untilVisible(rowIn("DISPATCHED"));
await page.click("#jobs > li:first-child a");
await page.untilText("#timeline", "Dispatched: attempt 1");
await ask("start-worker");
await page.untilText("#job-state", "Accepted");
await page.untilText("#timeline", "Accepted: by");
const bar = await page.until(`document.querySelector("#job-bar progress").value`);
await page.until(`document.querySelector("#job-bar progress").value > ${bar}`);
await ask("finish-job");
await page.untilText("#job-state", "Succeeded");
await page.untilVisible(rowIn("SUCCEEDED"));

await ask("start-approval");
await page.untilVisible(rowIn("DISPATCHED"));
await ask("approve");
await page.until(`document.querySelectorAll('#jobs .state[data-state="SUCCEEDED"]').length >= 2`);

assert.deepEqual(page.faults, []);
await chromium.stop();
console.log("true");
process.exit(0);
