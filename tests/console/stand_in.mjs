// A stand-in for the API, the issuer and the GRIP proxy, as docs/console.md and the OpenAPI document describe them. Tests
// change its jobs directly, and make it fail in ways that the real stack does only in bad nights.

import { createHash, randomBytes } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

const ASSETS = fileURLToPath(new URL("../../functions/jobs-api/console/", import.meta.url));
const TYPES = { html: "text/html", js: "text/javascript", css: "text/css" };
const USERS = { viewer1: ["viewer"], operator1: ["viewer", "operator"], approver1: ["viewer", "approver"], all1: ["viewer", "operator", "approver"] };
const CLIENT = "console";

export class StandIn {
  static async start() {
    const standIn = new StandIn();
    standIn.jobs = new Map();
    standIn.workers = new Map();
    standIn.codes = new Map();
    standIn.tokens = new Map();
    standIn.keys = new Map();
    standIn.tickets = new Set();
    standIn.requests = [];
    standIn.tokenSeconds = 3600;
    standIn.refreshes = false;
    /** The status of every answer of the API while it is not null. */
    standIn.failure = null;
    /** Answers that are held back, while it is not null. */
    standIn.held = null;
    standIn.proxy = await Proxy.start(standIn.tickets);
    standIn.issuer = await listen(createServer((request, response) => standIn.issue(request, response)));
    standIn.api = await listen(createServer((request, response) => standIn.serve(request, response)));
    return standIn;
  }

  get url() {
    return `http://127.0.0.1:${this.api.address().port}/`;
  }

  get issuerUrl() {
    return `http://127.0.0.1:${this.issuer.address().port}`;
  }

  stop() {
    this.proxy.kill();
    for (const server of [this.api, this.issuer]) {
      server.closeAllConnections();
      server.close();
    }
  }

  // ---- What happens to jobs ------------------------------------------------------------------------

  /** Makes or changes a job, and sends the hint. */
  job(jobId, changes, { hint = true } = {}) {
    const at = new Date().toISOString();
    const before = this.jobs.get(jobId) ?? {
      jobId, tenant: "tenant1", state: "DISPATCHED", kind: "copy", name: null, execution: `arn:aws:states:eu-west-1:123456789012:execution:copy:${jobId}`,
      stateName: "Copy", attempt: 0, worker: null, dispatchedAt: at, acceptedAt: null, endedAt: null, deadline: null, percent: null, progressAt: null,
      message: null, data: null, resumed: false, error: null, cause: null, approval: false, log: [], events: [{ at, type: "dispatched", detail: null }],
      input: "{}", result: "null",
    };
    const job = { ...before, ...changes };
    if (job.percent !== before.percent) job.progressAt = at;
    if (job.state === "ACCEPTED" && !job.acceptedAt) {
      job.acceptedAt = at;
      job.events = [...job.events, { at, type: "accepted", detail: job.worker }];
    }
    if (!["DISPATCHED", "ACCEPTED"].includes(job.state) && !job.endedAt) {
      job.endedAt = at;
      job.events = [...job.events, { at, type: "done", detail: job.state }];
    }
    this.jobs.set(jobId, job);
    if (hint) this.proxy.publish(JSON.stringify({ jobId, state: job.state }));
  }

  worker(name, changes) {
    const at = new Date();
    const before = this.workers.get(name) ?? {
      worker: name, state: "UP", version: "0.1.0", kinds: ["copy", "report"], concurrency: 4, running: 1, waiting: 0, jobs: [],
      group: null, certificateEnds: new Date(at.getTime() + 90 * 86_400_000).toISOString(), at: at.toISOString(),
    };
    this.workers.set(name, { ...before, at: at.toISOString(), ...changes });
  }

  /** Holds back every answer from now on, until `release`. */
  hold() {
    this.held = [];
  }

  release() {
    const held = this.held;
    this.held = null;
    for (const answer of held) answer();
  }

  // ---- The API -------------------------------------------------------------------------------------

  async serve(request, response) {
    const url = new URL(request.url, this.url);
    const body = await text(request);
    const asset = url.pathname === "/" ? "index.html" : url.pathname.slice(1);
    if (readdirSync(ASSETS).includes(asset)) return this.asset(response, asset);

    this.requests.push({ method: request.method, path: url.pathname, query: url.searchParams, body, headers: request.headers });
    if (this.held) await new Promise((resolve) => this.held.push(resolve));
    if (this.failure) return problem(response, this.failure, "Internal error", "The table does not answer");
    if (asset === "config.json") return json(response, 200, this.config());

    const token = this.tokens.get(request.headers.authorization?.replace("Bearer ", ""));
    if (!token || token.expiresAt < Date.now()) return json(response, 401, { message: "Unauthorized" });
    try {
      const answer = this.answer(request, url, body, token);
      if (request.method === "GET") return cached(request, response, answer);
      json(response, 202, answer);
    } catch (error) {
      problem(response, error.status ?? 500, error.message, error.detail);
    }
  }

  asset(response, name) {
    const policy = `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ${this.issuerUrl} ${this.proxy.origin}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;
    response.writeHead(200, { "Content-Type": `${TYPES[name.split(".").at(-1)]}; charset=utf-8`, "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff" });
    response.end(readFileSync(ASSETS + name));
  }

  config() {
    return { auth: "jwt", issuer: this.issuerUrl, clientId: CLIENT, audience: null, live: this.proxy.url };
  }

  answer(request, url, body, { roles }) {
    const [, kind, id, part] = url.pathname.split("/").map(decodeURIComponent);
    const route = `${request.method} ${kind}${id ? "/*" : ""}${part ? `/${part}` : ""}`;
    const allow = (role) => roles.includes(role) || fail(403, "Forbidden", `This needs the role ${role}`);
    if (request.method !== "GET" && request.headers["content-type"] !== "application/json") fail(415, "Unsupported media type");
    const job = () => this.jobs.get(id) ?? fail(404, "Not found", `There is no job ${id}`);
    const shown = ({ log, events, input, result, ...rest }) => rest;

    switch (route) {
      case "GET session": return { tenant: "tenant1", roles, live: Boolean(this.proxy.url) };
      case "GET jobs": return this.list(url.searchParams, shown);
      case "GET jobs/*": return shown(job());
      case "GET jobs/*/timeline": return { events: job().events.map((event) => ({ jobId: id, attempt: job().attempt + 1, ...event })) };
      case "GET jobs/*/log": return { lines: job().log };
      case "GET jobs/*/input": return new Raw(job().input);
      case "GET jobs/*/result": return new Raw(job().result);
      case "GET machines": return { machines: [{ name: "copy" }, { name: "report" }] };
      case "GET workers": return { workers: [...this.workers.values()] };
      case "POST live-ticket": return this.ticket();
      case "POST jobs": return allow("operator") && this.begin(request.headers["idempotency-key"], JSON.parse(body));
      case "POST jobs/*/stop": return allow("operator") && this.end(id, "CANCELLED", { error: "Worker.Cancelled", cause: JSON.parse(body).reason });
      case "POST jobs/*/approve": return allow("approver") && this.end(id, "SUCCEEDED", { result: body });
      case "POST jobs/*/reject": return allow("approver") && this.end(id, "FAILED", { error: "Approval.Rejected", cause: JSON.parse(body).comment });
      case "POST workers/*/pause": return allow("operator") && this.command(id, { state: "PAUSED" });
      case "POST workers/*/resume": return allow("operator") && this.command(id, { state: "UP" });
      case "PUT workers/*/concurrency": return allow("operator") && this.command(id, JSON.parse(body));
      default: return fail(404, "Not found");
    }
  }

  list(query, shown) {
    if (Number.isNaN(Date.parse(query.get("from") ?? "2020-01-01"))) fail(400, "Bad request", "from is not a time");
    const start = Number(query.get("cursor") ?? 0);
    const end = start + Number(query.get("limit"));
    const jobs = [...this.jobs.values()]
      .filter((job) => !query.get("state") || job.state === query.get("state"))
      .filter((job) => !query.get("from") || job.dispatchedAt >= query.get("from"))
      .filter((job) => !query.get("to") || job.dispatchedAt <= query.get("to"))
      .sort((a, b) => (a.dispatchedAt < b.dispatchedAt ? 1 : -1));
    return { jobs: jobs.slice(start, end).map(shown), next: end < jobs.length ? String(end) : null };
  }

  begin(key, { machine, input }) {
    if (!key) fail(400, "Bad request", "Idempotency-Key is missing");
    if (!this.keys.has(key)) {
      const name = `started-${this.keys.size + 1}`;
      this.keys.set(key, name);
      this.job(name, { name, kind: machine, input: JSON.stringify(input) });
    }
    return { execution: this.keys.get(key), name: this.keys.get(key) };
  }

  end(jobId, state, changes) {
    this.job(jobId, { state, ...changes });
    return {};
  }

  command(name, changes) {
    if (!this.workers.has(name)) fail(404, "Not found", `There is no worker ${name}`);
    this.worker(name, changes);
    return {};
  }

  ticket() {
    if (!this.proxy.url) fail(404, "Not found", "There is no proxy");
    const ticket = secret();
    this.tickets.add(ticket);
    return { ticket, channel: "jobs-tenant1", expiresAt: new Date(Date.now() + 60_000).toISOString() };
  }

  // ---- The issuer ----------------------------------------------------------------------------------

  async issue(request, response) {
    const url = new URL(request.url, this.issuerUrl);
    response.setHeader("Access-Control-Allow-Origin", this.url.replace(/\/$/, ""));
    if (url.pathname === "/.well-known/openid-configuration") {
      return json(response, 200, { issuer: this.issuerUrl, authorization_endpoint: `${this.issuerUrl}/authorize`, token_endpoint: `${this.issuerUrl}/token` });
    }
    if (url.pathname === "/authorize") return this.authorize(url, response);
    if (url.pathname === "/token") return this.exchange(new URLSearchParams(await text(request)), response);
    json(response, 404, {});
  }

  authorize(url, response) {
    const query = Object.fromEntries(url.searchParams);
    if (query.client_id !== CLIENT || query.redirect_uri !== this.url || query.code_challenge_method !== "S256") return json(response, 400, query);
    const links = Object.keys(USERS).map((user) => {
      const code = secret();
      this.codes.set(code, { ...query, user });
      const target = `${query.redirect_uri}?${new URLSearchParams({ code, state: query.state })}`;
      return `<a id="${user}" href="${target.replaceAll("&", "&amp;")}">${user}</a>`;
    });
    response.writeHead(200, { "Content-Type": "text/html" }).end(`<!doctype html><title>Issuer</title>${links.join(" ")}`);
  }

  exchange(form, response) {
    const refresh = form.get("grant_type") === "refresh_token";
    const code = refresh ? this.refreshToken : this.codes.get(form.get("code"));
    this.codes.delete(form.get("code"));
    const challenge = createHash("sha256").update(form.get("code_verifier") ?? "").digest("base64url");
    if (!code || (!refresh && challenge !== code.code_challenge)) return json(response, 400, { error: "invalid_grant" });

    const token = secret();
    this.tokens.set(token, { roles: USERS[code.user], expiresAt: Date.now() + this.tokenSeconds * 1000 });
    if (this.refreshes) this.refreshToken = code;
    const claims = Buffer.from(JSON.stringify({ nonce: code.nonce, sub: code.user })).toString("base64url");
    json(response, 200, { access_token: token, token_type: "Bearer", expires_in: this.tokenSeconds, id_token: `e30.${claims}.x`, ...(this.refreshes ? { refresh_token: "refresh" } : {}) });
  }
}

/** The proxy's WebSocket side. It can be killed, restarted, and made to lose messages without closing a connection. */
export class Proxy {
  static async start(tickets) {
    const proxy = new Proxy();
    proxy.tickets = tickets;
    proxy.sockets = new Set();
    proxy.isDeaf = false;
    await proxy.restart();
    return proxy;
  }

  async restart() {
    const server = createServer((request, response) => response.writeHead(404).end());
    server.on("upgrade", (request, socket) => this.accept(request, socket));
    this.server = await listen(server, this.port ?? 0);
    this.port = this.server.address().port;
    this.origin = `ws://127.0.0.1:${this.port}`;
    this.url = `${this.origin}/live`;
  }

  kill() {
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
  }

  accept(request, socket) {
    const [protocol, credential] = (request.headers["sec-websocket-protocol"] ?? "").split(", ");
    const url = new URL(request.url, this.url);
    const ticket = credential?.replace("ticket.", "");
    if (protocol !== "postern-live.1" || !this.tickets.delete(ticket) || url.searchParams.get("channel") !== "jobs-tenant1") {
      return socket.end("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    }
    const accept = createHash("sha1").update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: postern-live.1\r\n\r\n`);
    this.sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.sockets.delete(socket));
    // The page sends nothing but its close frame.
    socket.on("data", () => socket.end());
  }

  publish(message) {
    if (this.isDeaf) return;
    const body = Buffer.from(message);
    for (const socket of this.sockets) socket.write(Buffer.concat([Buffer.from([0x81, body.length]), body]));
  }
}

class Raw {
  constructor(text) {
    this.text = text;
  }
}

function fail(status, message, detail) {
  throw Object.assign(new Error(message), { status, detail });
}

function listen(server, port = 0) {
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(server)));
}

async function text(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

function secret() {
  return randomBytes(24).toString("base64url");
}

function json(response, status, value) {
  response.writeHead(status, { "Content-Type": "application/json" }).end(value instanceof Raw ? value.text : JSON.stringify(value));
}

function problem(response, status, title, detail) {
  response.writeHead(status, { "Content-Type": "application/problem+json" }).end(JSON.stringify({ type: "about:blank", title, detail, status }));
}

function cached(request, response, value) {
  const body = value instanceof Raw ? value.text : JSON.stringify(value);
  const etag = `W/"${createHash("sha256").update(body).digest("hex").slice(0, 16)}"`;
  const headers = { "Content-Type": "application/json", ETag: etag };
  if (request.headers["if-none-match"] === etag) return response.writeHead(304, headers).end();
  response.writeHead(200, headers).end(body);
}
