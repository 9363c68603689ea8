// Tests of the browser client against a simulated function and proxy: `node --test shared/grip/client`.
//
// The simulation drops, doubles and reorders live items, cuts connections and deletes histories, all by a seed.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "./grip-channels.js";

/** Random numbers by a seed (mulberry32). */
function seeded(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A function with one history, and a proxy with one connection. */
class Server {
  constructor(random) {
    this.random = random;
    this.start("e1");
    this.sockets = new Set();
    const server = this;
    this.WebSocket = class {
      constructor() {
        this.readyState = 0;
        server.sockets.add(this);
        setTimeout(() => {
          if (server.random() < server.refuses) return this.drop();
          this.readyState = 1;
          this.onopen?.({});
        });
      }
      send(text) {
        setTimeout(() => this.readyState === 1 && server.answer(this, JSON.parse(text)), server.random() * 5);
      }
      close() {
        this.readyState = 3;
        server.sockets.delete(this);
      }
      drop() {
        this.close();
        this.onclose?.({ code: 1006 });
      }
    };
    this.refuses = 0;
    this.loses = 0;
  }

  start(epoch) {
    this.epoch = epoch;
    this.items = [];
    this.count = 0;
  }

  id(offset) {
    return `${this.epoch}-${offset}`;
  }

  publish(data) {
    this.count += 1;
    const item = { type: "item", channel: "room", id: this.id(this.count), prev: this.id(this.count - 1), data };
    this.items.push({ offset: this.count, item });
    for (const socket of this.sockets) {
      if (!socket.subscribed) continue;
      const times = this.random() < this.loses ? (this.random() < 0.5 ? 0 : 2) : 1;
      for (let n = 0; n < times; n++) this.tell(socket, item, this.random() * 10);
    }
  }

  tell(socket, message, delay = 0) {
    setTimeout(() => socket.readyState === 1 && socket.onmessage?.({ data: JSON.stringify(message) }), delay);
  }

  answer(socket, { type, n, channels }) {
    if (type !== "subscribe" && type !== "confirm") return;
    if (type === "confirm" && socket.subscribed && this.random() < 0.8) this.tell(socket, { type: "live", n });
    const replies = [];
    if (channels.room !== undefined) replies.push(...this.replay(channels.room));
    replies.push({ type: type === "confirm" ? "confirmed" : "subscribing", n });
    for (const reply of replies) this.tell(socket, reply);
    // The subscription becomes active some time after the reply.
    if (type === "subscribe") setTimeout(() => (socket.subscribed = true), this.random() * 20);
  }

  replay(position) {
    if (position === null) return [{ type: "subscribed", channel: "room", id: this.count ? this.id(this.count) : "0" }];
    const [epoch, offset] = position === "0" ? [this.epoch, 0] : [position.split("-")[0], Number(position.split("-")[1])];
    const left = this.items.filter((entry) => entry.offset > offset);
    const isWhole = epoch === this.epoch && offset <= this.count && (left.length === 0 ? offset === this.count : left[0].offset === offset + 1);
    if (isWhole) return left.map(({ item }) => item);
    if (epoch === this.epoch && offset > this.count) return [{ type: "refused", channel: "room", code: "position" }];
    const first = this.items[0]?.item.prev ?? "0";
    return [{ type: "lost", channel: "room", from: position, id: first }, ...this.items.map(({ item }) => item)];
  }
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function until(condition) {
  for (let n = 0; n < 2000; n++) {
    if (condition()) return;
    await sleep(5);
  }
  assert.fail("the condition did not come true within ten seconds");
}

/** A WebSocket that never opens. */
const refusing = class {
  constructor() {
    throw new Error("no");
  }
};

/** Options with which a test takes seconds instead of minutes. */
const quick = (server, random) => ({ WebSocket: server.WebSocket, random, backoff: 5, timeout: 300, sync: 100, fallback: false });

for (let seed = 1; seed <= 20; seed++) {
  test(`each item comes once and in order, seed ${seed}`, async () => {
    const random = seeded(seed);
    const server = new Server(random);
    Object.assign(server, { loses: 0.3, refuses: 0.2 });
    const client = connect("ws://test", quick(server, random));
    const events = [];
    client.subscribe("room", {
      after: "0",
      onItem: (data, id) => events.push({ data, id }),
      onLost: (loss) => events.push(loss),
    });

    let deletions = 0;
    for (let n = 1; n <= 150; n++) {
      server.publish(n);
      if (random() < 0.05) for (const socket of server.sockets) socket.drop();
      if (random() < 0.02) {
        server.items.splice(0, server.items.length - 1);
        deletions += 1;
      }
      if (random() < 0.01) {
        server.start(`e${n + 1000}`);
        deletions += 1;
      }
      await sleep(random() * 4);
    }
    server.publish("end");
    await until(() => events.at(-1)?.data === "end");
    client.close();

    let position = "0";
    let losses = 0;
    for (const event of events) {
      if (event.from !== undefined) {
        assert.equal(event.from, position);
        losses += 1;
        position = event.to;
        continue;
      }
      const [epoch, offset] = event.id.split("-");
      assert.ok(position === `${epoch}-${offset - 1}` || (position === "0" && offset === "1"), `${event.id} after ${position}`);
      position = event.id;
    }
    assert.ok(losses === 0 || deletions > 0, "a loss was reported, and nothing was deleted");
  });
}

test("a client that falls back to long-polls gets what it missed, and publishes", async () => {
  const server = new Server(seeded(1));
  const posted = [];
  const fetch = async (url, { method, body }) => {
    const { pathname, searchParams } = new URL(url);
    if (method === "POST") {
      posted.push([pathname, body]);
      return { ok: true, status: 200, json: async () => ({ id: "e1-9" }) };
    }
    await sleep(1);
    const after = searchParams.get("after");
    const replies = after ? server.replay(after) : [];
    const items = replies.filter(({ type }) => type === "item");
    const lost = replies.find(({ type }) => type === "lost");
    return { ok: true, status: 200, json: async () => ({ id: server.id(server.count), items, lost }) };
  };
  const client = connect("ws://test", { WebSocket: refusing, fetch, backoff: 1, fallbackAfter: 2 });
  const data = [];
  client.subscribe("room", { after: "0", onItem: (item) => data.push(item) });
  for (const n of [1, 2, 3]) server.publish(n);

  await until(() => data.length === 3);
  assert.deepEqual(data, [1, 2, 3]);
  assert.equal(await client.publish("room", { a: 1 }), "e1-9");
  assert.deepEqual(posted, [["/room", '{"a":1}']]);
  client.close();
});

test("an item that is published before the subscription is active comes without waiting for another one", async () => {
  const server = new Server(seeded(1));
  const { answer } = server;
  // The connection is subscribed a while after the client has seen the reply, and the item is published in between.
  server.answer = (socket, message) => {
    if (message.type !== "subscribe") return answer.call(server, socket, message);
    server.tell(socket, { type: "subscribing", n: message.n });
    setTimeout(() => server.publish("in between"), 20);
    setTimeout(() => (socket.subscribed = true), 40);
  };
  // The client does not confirm from time to time.
  const client = connect("ws://test", { ...quick(server, seeded(2)), sync: 0 });
  const seen = [];
  client.subscribe("room", { after: "0", onItem: (data) => seen.push(data), onLive: () => seen.push("live") });

  await until(() => seen.length === 2);
  assert.deepEqual(seen, ["in between", "live"]);
  client.close();
});

test("a long-poll's item that does not follow is left for the next poll", async () => {
  const item = (n) => ({ id: `e1-${n}`, prev: `e1-${n - 1}`, data: n });
  // The proxy sends the newest item alone, and then the one before again.
  const bodies = [[item(1)], [item(3)], [item(2), item(3)], [item(2)]].map((items) => ({ id: items.at(-1).id, items }));
  const fetch = async () => {
    await sleep(1);
    return { ok: true, status: 200, json: async () => bodies.shift() ?? { id: "e1-3", items: [] } };
  };
  const client = connect("ws://test", { WebSocket: refusing, fetch, backoff: 1, fallbackAfter: 1 });
  const data = [];
  client.subscribe("room", { after: "0", onItem: (item) => data.push(item) });

  await until(() => bodies.length === 0 && data.length >= 3);
  client.close();
  assert.deepEqual(data, [1, 2, 3]);
});

test("a publication without a reply is reported as uncertain", async () => {
  const server = new Server(seeded(1));
  const client = connect("ws://test", quick(server, seeded(2)));
  const published = client.publish("room", 1);
  await until(() => [...server.sockets].some((socket) => socket.readyState === 1));
  await sleep(20);
  for (const socket of server.sockets) socket.drop();

  await assert.rejects(published, (error) => error.uncertain === true);
  client.close();
});

test("waits double up to half a minute, and differ between clients", () => {
  const waits = [0, 0.5, 0.999].map((random) => {
    const client = connect("ws://test", { random: () => random });
    return [1, 2, 3, 50].map((failures) => {
      client.failures = failures;
      return client.backoff();
    });
  });
  assert.deepEqual(waits[0], [250, 500, 1000, 15000]);
  assert.ok(waits[2].every((wait, n) => wait > waits[1][n] && wait <= 2 * waits[0][n]));
});
