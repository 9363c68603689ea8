// Two pages of the chat in a real Chromium, driven by its debugging protocol. One of them is frozen, as a browser does with
// a page that nobody looks at, loses its connection, and wakes up.
//
// Started by browser.rs as `node --experimental-websocket browser.mjs CHROMIUM PROFILE URL URL_THROUGH_LINK`. It prints
// `cut` when the connections of the second page are to be cut, and waits for a line.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const [chromium, profile, directly, throughLink] = process.argv.slice(2);
const MESSAGES = 30;

const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
  "--remote-debugging-port=0", "--remote-debugging-address=127.0.0.1", "--disable-background-networking",
  "--disable-component-update", `--user-data-dir=${profile}`, "about:blank"];
const browser = spawn(chromium, flags, { stdio: ["ignore", "ignore", "pipe"] });
process.on("exit", () => browser.kill());
const address = await new Promise((resolve, reject) => {
  browser.on("exit", (code) => reject(new Error(`Chromium ended with ${code}`)));
  createInterface({ input: browser.stderr }).on("line", (line) => {
    const found = line.match(/DevTools listening on (ws:.*)/);
    if (found) resolve(found[1]);
  });
});

const socket = new WebSocket(address);
await new Promise((resolve) => (socket.onopen = resolve));
const replies = new Map();
let requests = 0;
socket.onmessage = ({ data }) => {
  const { id, result, error } = JSON.parse(data);
  if (!replies.has(id)) return;
  const { resolve, reject } = replies.get(id);
  replies.delete(id);
  error ? reject(new Error(error.message)) : resolve(result);
};
function call(method, params = {}, sessionId = undefined) {
  const id = ++requests;
  socket.send(JSON.stringify({ id, method, params, sessionId }));
  return new Promise((resolve, reject) => replies.set(id, { resolve, reject }));
}

class Page {
  static async open(url) {
    const { targetId } = await call("Target.createTarget", { url });
    const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page();
    page.session = sessionId;
    await page.until("document.readyState === 'complete' && location.href !== 'about:blank'");
    return page;
  }

  async run(expression) {
    const { result, exceptionDetails } = await call(
      "Runtime.evaluate",
      { expression, awaitPromise: true, returnByValue: true },
      this.session,
    );
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  async until(expression) {
    const end = Date.now() + 60000;
    while (!(await this.run(expression))) {
      if (Date.now() > end) throw new Error(`it did not become true: ${expression}\n${await this.run("document.body.innerText")}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async enter(name) {
    const fill = (id, value) => `document.getElementById(${JSON.stringify(id)}).value = ${JSON.stringify(value)};`;
    await this.run(`${fill("name", name)} ${fill("room", "test")} document.querySelector("#enter button").click()`);
    await this.until(`document.getElementById("state").textContent === "connected"`);
  }

  async write(text) {
    await this.run(`document.getElementById("text").value = ${JSON.stringify(text)}; document.querySelector("#write button").click()`);
    await this.until(`document.getElementById("text").value === "" && [...document.querySelectorAll("#messages li")].some((li) => li.textContent.endsWith(${JSON.stringify(`: ${text}`)}))`);
  }

  messages() {
    return this.run(`[...document.querySelectorAll("#messages li[data-position]")].map((li) => li.textContent)`);
  }
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ann = await Page.open(directly);
const bob = await Page.open(throughLink);
await ann.enter("Ann");
await bob.enter("Bob");
await ann.until(`document.getElementById("members").textContent === "Here: Ann, Bob"`);
await ann.write("before");
await bob.until(`document.querySelectorAll("#messages li[data-position]").length === 1`);

await call("Page.setWebLifecycleState", { state: "frozen" }, bob.session);
console.log("cut");
await lines.next();
const expected = ["Ann: before"];
for (let n = 1; n <= MESSAGES; n++) {
  await ann.write(`message ${n}`);
  expected.push(`Ann: message ${n}`);
}
await ann.write("<img src=x onerror=alert(1)>");
expected.push("Ann: <img src=x onerror=alert(1)>");

await call("Page.setWebLifecycleState", { state: "active" }, bob.session);
await bob.until(`document.querySelectorAll("#messages li[data-position]").length >= ${expected.length}`);
await bob.write("awake");
expected.push("Bob: awake");
await ann.until(`document.querySelectorAll("#messages li[data-position]").length >= ${expected.length}`);

for (const page of [ann, bob]) {
  const messages = await page.messages();
  if (JSON.stringify(messages) !== JSON.stringify(expected)) throw new Error(`a page shows ${JSON.stringify(messages)}`);
  if (await page.run(`document.querySelectorAll("#messages .lost, #messages img").length`)) throw new Error("a page shows a loss");
}
console.log("whole");
process.exit(0);
