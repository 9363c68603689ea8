// An echo with faas-grip for Node: `node faas_grip.js EVENT.json TIMES` prints the CPU time of one echo in nanoseconds.
'use strict';
const fs = require('fs');
const faasGrip = require('faas-grip');

const text = fs.readFileSync(process.argv[2], 'utf8');
const times = Number(process.argv[3]);

function echo() {
  const ws = faasGrip.lambdaGetWebSocket(JSON.parse(text));
  if (ws.isOpening()) {
    ws.accept();
  }
  while (ws.canRecv()) {
    const message = ws.recvRaw();
    if (message === null) {
      ws.close();
      break;
    }
    if (Buffer.isBuffer(message)) {
      ws.sendBinary(message);
    } else {
      ws.send(message);
    }
  }
  return JSON.stringify(ws.toResponse());
}

for (let n = 0; n < times / 10; n++) echo();
const before = process.cpuUsage();
for (let n = 0; n < times; n++) echo();
const spent = process.cpuUsage(before);
console.log(Math.round(((spent.user + spent.system) * 1000) / times));
