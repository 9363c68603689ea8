/**
 * Calls of the HTTP API: the token, ETags, time limits, and errors that say what happened. It never retries: who calls
 * knows whether a repetition is safe.
 */

/** The longest time that a call may take. */
const TIMEOUT = 10_000;

/** The most answers that are kept for their ETags. The page asks for fewer at a time. */
const KEPT = 16;

/** The API answered with an error. */
export class Problem extends Error {
  constructor(status, title, detail, retryAfter) {
    super(detail ? `${title}: ${detail}` : title);
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** Whether the same call can succeed later. */
  get isTemporary() {
    return this.status === 429 || this.status >= 500;
  }
}

/** The API did not answer: no network, a refused connection, or no answer in time. */
export class Unreachable extends Error {}

/** There is no valid sign-in. */
export class SignedOut extends Error {}

export class Api {
  constructor(session) {
    this.session = session;
    this.answers = new Map();
    this.clockOffset = 0;
  }

  /** The time by the API's clock. The browser's may be wrong. */
  now() {
    return Date.now() + this.clockOffset;
  }

  /** Reads JSON: the earlier answer, where the API says that it is still right. */
  async get(path, signal) {
    const earlier = this.answers.get(path);
    const headers = earlier ? { "If-None-Match": earlier.etag } : {};
    const response = await this.request("GET", path, { headers, signal });
    if (response.status === 304 && earlier) return earlier.value;
    const value = parse(await readBody(response));
    this.keep(path, response.headers.get("ETag"), value);
    return value;
  }

  /** Reads text as it is, for inputs and results: parsing would round long numbers. */
  async text(path, signal) {
    return readBody(await this.request("GET", path, { signal }));
  }

  /** Sends a change. A body that is text is JSON already. */
  async send(method, path, body, headers = {}) {
    const response = await this.request(method, path, {
      body: typeof body === "string" ? body : JSON.stringify(body),
      headers: { "Content-Type": "application/json", ...headers },
    });
    const text = await readBody(response);
    return text ? parse(text) : null;
  }

  async request(method, path, { headers = {}, body, signal } = {}) {
    const token = await this.session.token();
    let response;
    try {
      response = await fetch(new URL(path, document.baseURI), {
        method,
        body,
        headers: { Authorization: `Bearer ${token}`, Accept: "application/json", ...headers },
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        signal: signal ? AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]) : AbortSignal.timeout(TIMEOUT),
      });
    } catch (error) {
      throw failureOf(error, signal);
    }

    const date = Date.parse(response.headers.get("Date"));
    if (Number.isFinite(date)) this.clockOffset = date - Date.now();
    if (response.ok || response.status === 304) return response;
    if (response.status === 401) {
      this.session.drop();
      throw new SignedOut("The API did not accept the sign-in");
    }
    throw await problemOf(response);
  }

  keep(path, etag, value) {
    this.answers.delete(path);
    if (!etag) return;
    this.answers.set(path, { etag, value });
    if (this.answers.size > KEPT) this.answers.delete(this.answers.keys().next().value);
  }
}

async function readBody(response) {
  try {
    return await response.text();
  } catch (error) {
    throw failureOf(error);
  }
}

/** A proxy or a captive portal may answer in the API's place. */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Unreachable("Something else than the API answered");
  }
}

/** A call that the page itself ended keeps its name, so that nobody reports it. */
function failureOf(error, signal) {
  if (signal?.aborted) return error;
  return new Unreachable(error.name === "TimeoutError" ? "The API did not answer in time" : "The API cannot be reached");
}

async function problemOf(response) {
  let problem = {};
  try {
    problem = JSON.parse(await response.text());
  } catch {
    // A gateway's own error page is not JSON: its status says enough.
  }
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  return new Problem(response.status, problem.title ?? `The API answered ${response.status}`, problem.detail, retryAfter);
}
