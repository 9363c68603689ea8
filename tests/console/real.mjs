// The console against the real stack: a job is started, watched, stopped and approved, and a worker paused, while the proxy
// is killed and restarted.
//
// Started by tests/e2e/api/page.rs as `node --experimental-websocket real.mjs URL DONE_FILE`. It prints what is to be done
// to the stack, `kill-proxy`, `start-proxy` and `finish-job`, and waits for a line after each. It prints `absent` where
// Chromium is not installed, and `true` at the end.

import assert from "node:assert/strict";

import { Chromium } from "../chromium.mjs";
import { ask } from "./outside.mjs";

const [url, doneFile] = process.argv.slice(2);

const chromium = await Chromium.start();
const page = await chromium.open(url);
const untilFresh = (kind) => page.until(`document.querySelector("#freshness").dataset.kind === "${kind}"`);

/** Starts a job and opens it. Returns its id. */
async function start(machine, input) {
  const known = await page.run(`[...document.querySelectorAll("#jobs > li")].map((row) => row.dataset.key)`);
  await page.click("#start");
  await page.until(`[...document.querySelectorAll("#start-dialog option")].some((option) => option.value === "${machine}")`);
  await page.fill("#start-dialog select", machine);
  await page.fill("#start-dialog textarea", JSON.stringify(input));
  await page.click("#start-dialog [type=submit]");
  await page.untilText("#notice", "Started");
  const jobId = await page.until(
    `[...document.querySelectorAll("#jobs > li")].map((row) => row.dataset.key).find((key) => !${JSON.stringify(known)}.includes(key))`,
  );
  await page.click(`[data-key="${jobId}"] a`);
  await page.untilText("#job-facts", jobId);
  return jobId;
}

const stateOf = (jobId) => `#jobs > [data-key="${jobId}"] .state`;

await page.click("#sign-in");
await page.click("#admin1");
await untilFresh("live");

// A job, its bar and its log.
const first = await start("on-prem-job", { until: doneFile });
await page.untilText("#job-state", "Accepted");
const before = await page.until(`document.querySelector("#job-bar progress").value`);
await page.until(`document.querySelector("#job-bar progress").value > ${before}`);
const logged = await page.until(`document.querySelector("#log").lastElementChild?.textContent`);
await page.until(`document.querySelector("#log").lastElementChild.textContent !== ${JSON.stringify(logged)}`);

// Another one, stopped.
const second = await start("on-prem-job", { until: `${doneFile}.never` });
await page.untilText("#job-state", "Accepted");
await page.click("#stop");
await page.fill("#ask-dialog input", "no longer needed");
await page.click("#ask-confirm");
await page.untilText(stateOf(second), "Cancelled");

// The proxy is killed and restarted. The bar moves on without it.
await ask("kill-proxy");
await untilFresh("polling");
await page.click(`[data-key="${first}"] a`);
await page.untilText("#job-facts", first);
const meanwhile = await page.until(`document.querySelector("#job-bar progress").value`);
await page.until(`document.querySelector("#job-bar progress").value > ${meanwhile}`);
await ask("start-proxy");
await untilFresh("live");

// A third job waits for a person.
const third = await start("approve", { question: "Copy it?", job: { a: 15, b: 42 } });
await page.click("#approve");
await page.fill("#ask-dialog input", "as agreed");
await page.click("#ask-confirm");
await page.untilText(stateOf(third), "Succeeded");

// The worker is paused and goes on.
await page.click("[data-view=workers]");
await page.untilText("#workers .state", "Up");
await page.click("[data-command=pause]");
await page.untilText("#workers .state", "Paused");
await page.click("[data-command=resume]");
await page.untilText("#workers .state", "Up");
await page.fill("#workers input", "3");
await page.click("#workers [type=submit]");
await page.untilText("#workers dl", "of 3 busy");

// The end of the first, with its result.
await page.click("[data-view=jobs]");
await page.click(`[data-key="${first}"] a`);
await ask("finish-job");
await page.untilText("#job-state", "Succeeded");
await page.untilText("#timeline", "Done");
await page.click("#result summary");
await page.untilText("#result pre", doneFile);

assert.deepEqual(page.faults, []);
await chromium.stop();
console.log("true");
process.exit(0);
