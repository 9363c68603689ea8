// A real Chromium, driven by its debugging protocol, for the tests of the console and of the channels. Node needs
// --experimental-websocket before version 22.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** The programs that are Chromium on Debian, on Ubuntu, and on a Mac. */
const PROGRAMS = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

const FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
  "--remote-debugging-port=0", "--remote-debugging-address=127.0.0.1", "--disable-background-networking",
  "--disable-component-update", "--hide-scrollbars", "--lang=en-GB"];

/** The longest wait for a condition. Nothing waits that long unless it is broken. */
const TIMEOUT = 60_000;

/** The program, or undefined where Chromium is not installed. */
export const program = PROGRAMS.find(existsSync);

export class Chromium {
  static async start() {
    const chromium = new Chromium();
    chromium.profile = mkdtempSync(join(tmpdir(), "postern-chromium-"));
    chromium.process = spawn(program, [...FLAGS, `--user-data-dir=${chromium.profile}`, "about:blank"], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, TZ: "UTC" },
    });
    process.on("exit", () => chromium.process.kill("SIGKILL"));
    process.on("exit", () => rmSync(chromium.profile, { recursive: true, force: true, maxRetries: 5 }));
    await chromium.connect(await chromium.address());
    return chromium;
  }

  address() {
    return new Promise((resolve, reject) => {
      this.process.on("exit", (code) => reject(new Error(`Chromium ended with ${code}`)));
      createInterface({ input: this.process.stderr }).on("line", (line) => {
        const found = line.match(/DevTools listening on (ws:.*)/);
        if (found) resolve(found[1]);
      });
    });
  }

  async connect(address) {
    this.replies = new Map();
    this.requests = 0;
    this.pages = new Map();
    this.socket = new WebSocket(address);
    await new Promise((resolve) => (this.socket.onopen = resolve));
    this.socket.onmessage = ({ data }) => {
      const { id, result, error, method, params, sessionId } = JSON.parse(data);
      if (method) return this.pages.get(sessionId)?.event(method, params);
      const { resolve, reject } = this.replies.get(id) ?? {};
      this.replies.delete(id);
      if (error) reject?.(new Error(error.message));
      else resolve?.(result);
    };
  }

  call(method, params = {}, sessionId = undefined) {
    const id = ++this.requests;
    this.socket.send(JSON.stringify({ id, method, params, sessionId }));
    return new Promise((resolve, reject) => this.replies.set(id, { resolve, reject }));
  }

  /** Opens a page that shares nothing with the others: its storage is its own. `script` runs before the page's own. */
  async open(url, script = "") {
    const { browserContextId } = await this.call("Target.createBrowserContext");
    const { targetId } = await this.call("Target.createTarget", { url: "about:blank", browserContextId, width: 1280, height: 800 });
    const { sessionId } = await this.call("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, sessionId, browserContextId);
    this.pages.set(sessionId, page);
    await page.call("Page.enable");
    await page.call("Runtime.enable");
    await page.call("Log.enable");
    await page.call("Network.enable");
    if (script) await page.call("Page.addScriptToEvaluateOnNewDocument", { source: script });
    await page.call("Page.navigate", { url });
    await page.until("document.readyState === 'complete' && location.href !== 'about:blank'");
    return page;
  }

  async stop() {
    const ended = new Promise((resolve) => this.process.on("exit", resolve));
    await this.call("Browser.close");
    await ended;
    // Its last processes may still be writing.
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

export class Page {
  constructor(chromium, session, context) {
    Object.assign(this, { chromium, session, context });
    /** Uncaught exceptions, and violations of the content security policy. */
    this.faults = [];
    this.received = [];
  }

  call(method, params = {}) {
    return this.chromium.call(method, params, this.session);
  }

  event(method, params) {
    if (method === "Runtime.exceptionThrown") this.faults.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === "Log.entryAdded" && params.entry.source === "security") this.faults.push(params.entry.text);
    if (method === "Network.responseReceived") this.received.push({ id: params.requestId, url: params.response.url, bytes: 0 });
    if (method === "Network.loadingFinished") {
      const response = this.received.find(({ id }) => id === params.requestId);
      if (response) response.bytes = params.encodedDataLength;
    }
  }

  async run(expression) {
    const { result, exceptionDetails } = await this.call("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Waits until an expression is true in the page. A page that is just being replaced counts as false. */
  async until(expression) {
    const end = Date.now() + TIMEOUT;
    for (;;) {
      const value = await this.run(expression).catch((error) => String(error).includes("SyntaxError") ? Promise.reject(error) : false);
      if (value) return value;
      if (Date.now() > end) {
        const text = await this.run("document.body.innerText").catch(String);
        throw new Error(`it did not become true: ${expression}\n${text}\n${this.faults.join("\n")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  }

  /** The text of the first element that matches, or null where none is visible. */
  text(selector) {
    return this.run(`(${visibleElement})(${JSON.stringify(selector)})?.innerText ?? null`);
  }

  untilText(selector, text) {
    return this.until(`(${visibleElement})(${JSON.stringify(selector)})?.innerText.includes(${JSON.stringify(text)})`);
  }

  untilVisible(selector) {
    return this.until(`(${visibleElement})(${JSON.stringify(selector)}) !== null`);
  }

  untilGone(selector) {
    return this.until(`(${visibleElement})(${JSON.stringify(selector)}) === null`);
  }

  async isVisible(selector) {
    return this.run(`(${visibleElement})(${JSON.stringify(selector)}) !== null`);
  }

  async click(selector) {
    await this.untilVisible(selector);
    await this.run(`(${visibleElement})(${JSON.stringify(selector)}).click()`);
  }

  /** Sets a field as somebody does who types or chooses. */
  async fill(selector, value) {
    await this.untilVisible(selector);
    await this.run(`(() => {
      const field = (${visibleElement})(${JSON.stringify(selector)});
      field.value = ${JSON.stringify(value)};
      for (const name of ["input", "change"]) field.dispatchEvent(new Event(name, { bubbles: true }));
    })()`);
  }

  /** Presses a key, as the keyboard does. */
  async press(key) {
    const codes = { Tab: 9, Enter: 13, Escape: 27, Space: 32 };
    const text = key === "Enter" ? "\r" : key === "Space" ? " " : undefined;
    const event = { key: key === "Space" ? " " : key, code: key, windowsVirtualKeyCode: codes[key], text };
    await this.call("Input.dispatchKeyEvent", { type: text ? "keyDown" : "rawKeyDown", ...event });
    await this.call("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  }

  /** Freezes the page, as a browser does before the computer sleeps: no timer runs, and messages wait. */
  sleep() {
    return this.call("Page.setWebLifecycleState", { state: "frozen" });
  }

  /** Ends the sleep. A headless Chromium keeps such a page hidden, until it is told that the page has the focus. */
  async wake() {
    await this.call("Page.setWebLifecycleState", { state: "active" });
    await this.call("Emulation.setFocusEmulationEnabled", { enabled: true });
  }

  async size(width, height) {
    await this.call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
  }

  async scheme(value) {
    await this.call("Emulation.setEmulatedMedia", {
      features: [{ name: "prefers-color-scheme", value }, { name: "prefers-reduced-motion", value: "reduce" }],
    });
  }

  async picture(file) {
    const { data } = await this.call("Page.captureScreenshot", { format: "webp", quality: 80 });
    writeFileSync(file, Buffer.from(data, "base64"));
  }

  async close() {
    this.chromium.pages.delete(this.session);
    await this.chromium.call("Target.disposeBrowserContext", { browserContextId: this.context });
  }
}

/** Finds the first element that matches and is rendered. */
const visibleElement = `(selector) => [...document.querySelectorAll(selector)].find((element) => element.getClientRects().length > 0) ?? null`;
