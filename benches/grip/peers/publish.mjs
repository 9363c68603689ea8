// Publishes with @fanoutio/grip and receives by WebSocket, one message after another. Prints the microseconds of each.
//
// Started by tests/grip/channels/latency.rs as
// `node --experimental-websocket publish.mjs NODE_MODULES CONTROL_URL WEBSOCKET_URL COUNT`.

import { createRequire } from "node:module";

const [modules, control, url, count] = process.argv.slice(2);
const { Publisher, WebSocketMessageFormat } = createRequire(`${modules}/x.js`)("@fanoutio/grip");
const publisher = new Publisher({ control_uri: control });
const socket = new WebSocket(url);
await new Promise((resolve) => (socket.onopen = resolve));

let received;
socket.onmessage = ({ data }) => received?.(data);
const next = (text) => new Promise((resolve) => (received = (data) => data === text && resolve(true)));

// The client is subscribed some time after it has connected.
for (let n = 0; ; n++) {
  const arrived = next(`probe ${n}`);
  await publisher.publishFormats("latency", new WebSocketMessageFormat(`probe ${n}`));
  if (await Promise.race([arrived, new Promise((resolve) => setTimeout(resolve, 100, false))])) break;
}
for (let n = 0; n < count; n++) {
  const text = `message ${n}`;
  const arrived = next(text);
  const start = process.hrtime.bigint();
  const published = publisher.publishFormats("latency", new WebSocketMessageFormat(text));
  await arrived;
  console.log(Number((process.hrtime.bigint() - start) / 1000n));
  await published;
}
process.exit(0);
