// Many clients in one process, for the fault test: a third each on WebSockets, long-polls and streams.
//
// Started by faults.rs as `node --experimental-websocket clients.mjs CLIENT_JS URL CLIENTS CHANNELS SABOTAGE`, with the
// token in TOKEN. It prints one line of JSON for each event of a client. A line of JSON on its standard input tells the last
// position of each channel; it ends when every client has reached its own.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [library, url, clients, channels, sabotage] = process.argv.slice(2);
const { connect } = await import(pathToFileURL(library));
const token = process.env.TOKEN;
const reached = [];
let last = null;

/** What keeps a client from opening a WebSocket. */
class NoWebSocket {
  constructor() {
    throw new Error("no WebSockets here");
  }
}

function log(n, event) {
  process.stdout.write(`${JSON.stringify({ client: n, ...event })}\n`);
}

function at(n, id) {
  reached[n] = id;
  finish();
}

function finish() {
  if (!last) return;
  for (let n = 0; n < clients; n++) if (reached[n] !== last[`room.${n % channels}`]) return;
  process.exit(0);
}

function throughClient(n, options) {
  // Many clients confirm less often, so that their confirmations do not take up most of the emulated table's time.
  const sync = Math.max(2000, clients * 25);
  const client = connect(url, { token, backoff: 50, sync, timeout: 5000, ...options });
  if (sabotage === "no-order") {
    client.take = (channel, item) => client.deliver(channel, item);
  } else if (sabotage === "no-replay") {
    // A subscription asks for what was missed, and so does a confirmation.
    client.confirm = () => {};
    client.positions = (channels) => Object.fromEntries(channels.map((channel) => [channel.name, null]));
  }
  client.subscribe(`room.${n % channels}`, {
    after: "0",
    onItem: (data, id) => {
      log(n, { id, data });
      at(n, id);
    },
    onLost: ({ from, to }) => {
      log(n, { lost: from, to: to ?? "0" });
      at(n, to);
    },
    onDenied: (refusal) => log(n, { denied: refusal.reason }),
  });
}

/** A reader of server-sent events that continues as browsers do, with Last-Event-ID. */
async function throughStream(n) {
  for (let id = "0"; ; ) {
    try {
      const headers = { authorization: `Bearer ${token}`, "last-event-id": id };
      const response = await fetch(`${url.replace(/^ws/, "http")}/room.${n % channels}/stream`, { headers });
      if (response.status !== 200) throw new Error(`HTTP ${response.status}`);
      let text = "";
      for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
        text += part;
        for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
          const fields = Object.fromEntries(text.slice(0, end).split("\n").map((line) => line.split(/: (.*)/s)));
          if (fields.event === "item") {
            const item = JSON.parse(fields.data);
            log(n, { id: item.id, data: item.data });
          } else if (fields.event === "lost") {
            const { from, id } = JSON.parse(fields.data);
            log(n, { lost: from, to: id });
          }
          if (fields.id) at(n, (id = fields.id));
        }
      }
    } catch {
      // The connection ended: connect again.
    }
    await new Promise((resolve) => setTimeout(resolve, 50 + Math.random() * 200));
  }
}

for (let n = 0; n < clients; n++) {
  // Long-polls replay by themselves: a client that falls back to them would hide what the sabotage does to a WebSocket.
  if (n % 3 === 0) throughClient(n, { fallback: sabotage === "none" });
  else if (n % 3 === 1) throughClient(n, { WebSocket: NoWebSocket, fallbackAfter: 1 });
  else throughStream(n);
}
createInterface({ input: process.stdin }).on("line", (line) => {
  last = JSON.parse(line);
  finish();
});
