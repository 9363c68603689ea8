// How a page's test talks to tests/e2e/api/page.rs, which works on the stack for it: it prints what is to be done, and waits for a
// line. Where Chromium is not installed, it prints `absent` and ends the process.

import { createInterface } from "node:readline";

import { program } from "../chromium.mjs";

if (!program) {
  console.log("absent");
  process.exit(0);
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Has something done to the stack, and waits until it is done. */
export async function ask(what) {
  console.log(what);
  await lines.next();
}
