// The parts of the console that need no page.

import assert from "node:assert/strict";
import { test } from "node:test";

import { link, listPath, readAddress } from "../../functions/jobs-api/console/address.js";
import { Refresher, backoff, statusOf } from "../../functions/jobs-api/console/freshness.js";
import { duration, indentJson, oneLine, visible } from "../../functions/jobs-api/console/text.js";

/** Small pseudo-random numbers from a seed, so that a failure can be repeated. */
function generator(seed) {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

function randomJson(pick, depth) {
  const space = () => ["", " ", "\n\t"][pick(3)];
  const kind = pick(depth > 0 ? 6 : 4);
  if (kind === 0) return ["12345678901234567890", "-0.10", "1E+400"][pick(3)];
  if (kind === 1) return [`"a,b:{}[]"`, `"\\"\\\\"`, `""`][pick(3)];
  if (kind < 4) return ["true", "null"][pick(2)];
  const items = Array.from({ length: pick(4) }, () => randomJson(pick, depth - 1));
  if (kind === 4) return `[${space()}${items.join(`${space()},${space()}`)}]`;
  return `{${items.map((item, n) => `"k${n}"${space()}:${space()}${item}`).join(",")}${space()}}`;
}

test("indented JSON has the same tokens, and indenting it again changes nothing", () => {
  for (let seed = 1; seed <= 2000; seed += 1) {
    const text = randomJson(generator(seed), 4);
    const indented = indentJson(text);
    const tokens = (value) => value.match(/"(?:[^"\\]|\\.)*"|[^\s]/g) ?? [];
    assert.deepEqual(tokens(indented).join(" "), tokens(text).join(" "), `seed ${seed}`);
    assert.equal(indentJson(indented), indented, `seed ${seed}`);
    assert.deepEqual(JSON.parse(indented), JSON.parse(text));
  }
  assert.equal(indentJson(`{"a":[],"b":{"c":1}}`), `{\n  "a": [],\n  "b": {\n    "c": 1\n  }\n}`);
  assert.equal(indentJson("<not json>"), "<not json>");
});

test("a deeply nested value does not grow beyond measure", () => {
  const deep = "[".repeat(5000) + "]".repeat(5000);
  assert.ok(indentJson(deep).length < 1_000_000);
});

test("no control character and no direction mark is left in what is shown", () => {
  for (let code = 0; code <= 0xffff; code += 1) {
    const shown = oneLine(String.fromCharCode(code));
    assert.doesNotMatch(shown, /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u2028\u2029]/, `U+${code.toString(16)}`);
    assert.notEqual(shown, "");
  }
  assert.equal(visible("a\tb\n"), "a\tb\n");
  assert.equal(visible(null), "");
});

test("durations have their two largest units", () => {
  assert.equal(duration(0), "0 s");
  assert.equal(duration(-5), "0 s");
  assert.equal(duration(59_499), "59 s");
  assert.equal(duration(192_000), "3 m 12 s");
  assert.equal(duration(3_600_000), "1 h");
  assert.equal(duration(90_061_000), "1 d 1 h");
});

test("an address that is read and written again is the same", () => {
  const search = "?view=workers&state=FAILED&within=1h&cursor=a%2Bb&job=x%26y";
  assert.equal(link(readAddress(search), {}), search);
  assert.equal(link(readAddress("?job=a&unknown=1"), { job: "" }), "?");
  assert.equal(link(readAddress("?"), { job: "a&b" }), "?job=a%26b");
});

test("a list of the last hour has the same path for a minute", () => {
  const address = readAddress("?within=1h&state=FAILED");
  const now = Date.parse("2026-11-24T22:51:14.123Z");
  const path = listPath(address, now);
  assert.equal(path, "jobs?limit=50&state=FAILED&from=2026-11-24T21%3A51%3A00.000Z");
  assert.equal(listPath(address, now + 40_000), path);
  assert.notEqual(listPath(address, now + 60_000), path);
});

test("what is old, suspect or unanswered is never called fresh", () => {
  const facts = { now: 100_000, confirmedAt: 99_000, failingSince: null, isSuspect: false, isLive: true };
  assert.equal(statusOf(facts).kind, "live");
  assert.equal(statusOf({ ...facts, isLive: false }).kind, "polling");
  assert.equal(statusOf({ ...facts, isSuspect: true }).kind, "checking");
  assert.equal(statusOf({ ...facts, now: 110_000 }).kind, "checking");
  assert.equal(statusOf({ ...facts, now: 98_000 }).kind, "checking", "the clock was set back");
  assert.equal(statusOf({ ...facts, confirmedAt: null }).kind, "connecting");
  const failing = statusOf({ ...facts, failingSince: 99_500, isRefused: false, reason: "down" });
  assert.deepEqual(failing, { kind: "failing", since: 99_000, hasData: true, isRefused: false, reason: "down" });
});

test("hints without an end cause one fetch a second", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
  globalThis.document = { hidden: false };
  let fetches = 0;
  const refresher = new Refresher({ onStatus: () => {}, refresh: async () => void (fetches += 1) });
  await refresher.run();
  for (let n = 0; n < 1000; n += 1) {
    refresher.hint();
    context.mock.timers.tick(10);
    await new Promise(setImmediate);
  }
  assert.ok(fetches >= 9 && fetches <= 11, `${fetches} fetches in ten seconds`);
  refresher.stop();
  delete globalThis.document;
});

test("an answer that waited through a sleep does not make what it says fresh", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
  globalThis.document = { hidden: false };
  const statuses = [];
  let sleep = 3_600_000;
  const refresher = new Refresher({
    onStatus: ({ kind }) => statuses.push(kind),
    refresh: async () => {
      context.mock.timers.setTime(Date.now() + sleep);
      return false;
    },
  });
  await refresher.run();
  assert.deepEqual(statuses, ["checking"]);
  sleep = 10;
  await refresher.run();
  assert.deepEqual(statuses, ["checking", "polling"]);
  refresher.stop();
  delete globalThis.document;
});

test("the wait between attempts grows to a minute, has jitter, and obeys Retry-After", () => {
  assert.equal(backoff(1, 0, 0), 500);
  assert.equal(backoff(1, 0, 1), 1000);
  assert.equal(backoff(4, 0, 1), 8000);
  assert.equal(backoff(50, 0, 1), 60_000);
  assert.equal(backoff(1, 30, 0), 30_000);
});
