// An echo with @fanoutio/grip, which does not support Lambda: this program reads the event itself.
'use strict';
const fs = require('fs');

const text = fs.readFileSync(process.argv[2], 'utf8');
const times = Number(process.argv[3]);

async function main() {
  const grip = await import('@fanoutio/grip');

  function echo() {
    const event = JSON.parse(text);
    const body = Buffer.from(event.body, event.isBase64Encoded ? 'base64' : 'utf8');
    const events = grip.decodeWebSocketEvents(new Uint8Array(body));
    const ws = new grip.WebSocketContext(event.headers['Connection-Id'], {}, events, '');
    if (ws.isOpening()) {
      ws.accept();
    }
    while (ws.canRecv()) {
      const message = ws.recvRaw();
      if (message === null) {
        ws.close();
        break;
      }
      if (typeof message === 'string') {
        ws.send(message);
      } else {
        ws.sendBinary(message);
      }
    }
    const answer = Buffer.from(grip.encodeWebSocketEvents(ws.getOutgoingEvents()));
    return JSON.stringify({
      statusCode: 200,
      headers: ws.toHeaders(),
      isBase64Encoded: true,
      body: answer.toString('base64'),
    });
  }

  for (let n = 0; n < times / 10; n++) echo();
  const before = process.cpuUsage();
  for (let n = 0; n < times; n++) echo();
  const spent = process.cpuUsage(before);
  console.log(Math.round(((spent.user + spent.system) * 1000) / times));
}

main();
