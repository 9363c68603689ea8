// Two pages of the chat in a real Chromium. One of them is frozen, as a browser does with a page that nobody looks at,
// loses its connection, and wakes up.
//
// Started by browser.rs as `node --experimental-websocket browser.mjs URL URL_THROUGH_LINK`. It prints `absent` where
// Chromium is not installed. It prints `cut` when the connections of the second page are to be cut, and waits for a line.

import { createInterface } from "node:readline";

import { Chromium, program } from "../../chromium.mjs";

const [directly, throughLink] = process.argv.slice(2);
const MESSAGES = 30;

if (!program) {
  console.log("absent");
  process.exit(0);
}

async function enter(page, name) {
  const fill = (id, value) => `document.getElementById(${JSON.stringify(id)}).value = ${JSON.stringify(value)};`;
  await page.run(`${fill("name", name)} ${fill("room", "test")} document.querySelector("#enter button").click()`);
  await page.until(`document.getElementById("state").textContent === "connected"`);
}

async function write(page, text) {
  await page.run(`document.getElementById("text").value = ${JSON.stringify(text)}; document.querySelector("#write button").click()`);
  await page.until(`document.getElementById("text").value === "" && [...document.querySelectorAll("#messages li")].some((li) => li.textContent.endsWith(${JSON.stringify(`: ${text}`)}))`);
}

function messagesOf(page) {
  return page.run(`[...document.querySelectorAll("#messages li[data-position]")].map((li) => li.textContent)`);
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const chromium = await Chromium.start();
const ann = await chromium.open(directly);
const bob = await chromium.open(throughLink);
await enter(ann, "Ann");
await enter(bob, "Bob");
await ann.until(`document.getElementById("members").textContent === "Here: Ann, Bob"`);
await write(ann, "before");
await bob.until(`document.querySelectorAll("#messages li[data-position]").length === 1`);

await bob.sleep();
console.log("cut");
await lines.next();
const expected = ["Ann: before"];
for (let n = 1; n <= MESSAGES; n++) {
  await write(ann, `message ${n}`);
  expected.push(`Ann: message ${n}`);
}
await write(ann, "<img src=x onerror=alert(1)>");
expected.push("Ann: <img src=x onerror=alert(1)>");

await bob.wake();
await bob.until(`document.querySelectorAll("#messages li[data-position]").length >= ${expected.length}`);
await write(bob, "awake");
expected.push("Bob: awake");
await ann.until(`document.querySelectorAll("#messages li[data-position]").length >= ${expected.length}`);

for (const page of [ann, bob]) {
  const messages = await messagesOf(page);
  if (JSON.stringify(messages) !== JSON.stringify(expected)) throw new Error(`a page shows ${JSON.stringify(messages)}`);
  if (await page.run(`document.querySelectorAll("#messages .lost, #messages img").length`)) throw new Error("a page shows a loss");
}
await chromium.stop();
console.log("whole");
process.exit(0);
