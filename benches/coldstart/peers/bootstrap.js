// A Lambda runtime for Node: makes the named handler, polls for an event, parses it, calls the handler, and responds. It
// does what AWS's runtime interface client does, without logs and metrics.
//
//     node bootstrap.js HANDLER
"use strict";
const { Agent, request } = require("node:http");

const handlers = require("./handlers.js");

const agent = new Agent({ keepAlive: true, maxSockets: 1 });
const api = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation/`;

function call(method, path, body) {
  return new Promise((resolve, reject) => {
    const sent = request(api + path, { agent, method }, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("end", () => resolve({ headers: answer.headers, body: Buffer.concat(chunks) }));
      answer.on("error", reject);
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

async function main() {
  const handler = await handlers[process.argv[2]]();
  for (;;) {
    const { headers, body } = await call("GET", "next");
    const result = await handler(JSON.parse(body.toString()));
    await call("POST", `${headers["lambda-runtime-aws-request-id"]}/response`, JSON.stringify(result));
  }
}

main();
