/**
 * A client for channels that lose nothing: each item once and in order, also across dropped connections, or a report of
 * what is lost. One ES module, without dependencies, for browsers and for Node. Its types are in grip-channels.d.ts.
 *
 * It connects by WebSocket. Where WebSockets do not get through, it falls back to long-polls. It does not keep positions
 * across a reload of the page: pass `after` to `subscribe` for that.
 */

const SUBPROTOCOL = "grip-channels.1";
const START = "0";

/** The most items of a channel that wait for an item before them. */
const PENDING = 1000;

/** Opens a client. It connects at the first subscription, publication or entry. */
export function connect(url, options = {}) {
  return new Client(url, options);
}

class Client {
  constructor(url, options) {
    this.url = String(url).replace(/^http/, "ws").replace(/\/$/, "");
    this.options = options;
    this.WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.fetch = options.fetch ?? ((...request) => globalThis.fetch(...request));
    this.random = options.random ?? Math.random;
    this.timeout = options.timeout ?? 15000;
    this.sync = options.sync ?? 300000;
    this.state = "idle";
    this.channels = new Map();
    this.present = new Map();
    this.requests = new Map();
    this.references = 0;
    this.failures = 0;
    this.timers = new Set();
    this.wake = () => this.check();
    globalThis.addEventListener?.("online", this.wake);
    globalThis.addEventListener?.("pageshow", this.wake);
    globalThis.document?.addEventListener?.("visibilitychange", this.wake);
  }

  /** Subscribes to a channel. Returns a function that ends the subscription. */
  subscribe(name, handlers = {}) {
    if (this.channels.has(name)) throw new Error(`the client is already subscribed to ${name}`);
    const channel = { name, handlers, position: handlers.after ?? null, recent: handlers.recent ?? 0, pending: new Map(), live: false };
    this.channels.set(name, channel);
    if (this.state === "open") this.sendSubscribe([channel]);
    else if (this.state === "polling") this.poll(channel, this.generation);
    else this.start();
    return () => {
      this.channels.delete(name);
      if (this.state === "open") this.send({ type: "unsubscribe", channels: [name] });
    };
  }

  /** The position of a channel: pass it as `after` to continue there. */
  position(name) {
    return this.channels.get(name)?.position ?? null;
  }

  /** Publishes a value. The promise holds the item's position. */
  async publish(channel, data) {
    this.start();
    if (this.state === "polling") return this.post(channel, data);
    const ref = ++this.references;
    return new Promise((resolve, reject) => {
      this.requests.set(ref, { resolve, reject, message: { type: "publish", channel, data, ref }, sent: false });
      this.flush();
    });
  }

  /** Becomes present in a channel, also after each reconnection. */
  enter(channel, info) {
    this.present.set(channel, info);
    if (this.state === "open") this.send({ type: "enter", channel, info });
    else this.start();
  }

  /** Ends the presence in a channel. */
  leave(channel) {
    this.present.delete(channel);
    if (this.state === "open") this.send({ type: "leave", channel });
  }

  /** Ends the client. */
  close() {
    this.end("closed");
    globalThis.removeEventListener?.("online", this.wake);
    globalThis.removeEventListener?.("pageshow", this.wake);
    globalThis.document?.removeEventListener?.("visibilitychange", this.wake);
  }

  // ---- The connection ----------------------------------------------------------------------------

  start() {
    if (this.state === "idle") this.open();
  }

  async open() {
    this.change("connecting");
    const generation = (this.generation = (this.generation ?? 0) + 1);
    let token;
    try {
      token = await this.token();
    } catch {
      return this.retry(generation);
    }
    if (generation !== this.generation) return;
    const protocols = token ? [SUBPROTOCOL, `bearer.${token}`] : [SUBPROTOCOL];
    let socket;
    try {
      socket = new this.WebSocket(this.url, protocols);
    } catch {
      return this.retry(generation);
    }
    this.socket = socket;
    this.round = { n: 0 };
    const opening = this.later(this.timeout, () => this.lose(socket));
    socket.onopen = () => {
      this.cancel(opening);
      socket.opened = true;
      this.change("open");
      this.sendSubscribe([...this.channels.values()]);
      for (const [channel, info] of this.present) this.send({ type: "enter", channel, info });
      this.flush();
    };
    socket.onmessage = (event) => socket === this.socket && this.receive(event.data);
    socket.onclose = (event) => {
      this.cancel(opening);
      this.lose(socket, event?.code);
    };
    socket.onerror = () => {};
  }

  /** Gives up a socket, whatever its state, and plans the next attempt. */
  lose(socket, code) {
    if (socket !== this.socket) return;
    this.socket = null;
    socket.onclose = socket.onmessage = socket.onopen = null;
    try {
      socket.close();
    } catch {
      // It was closed already.
    }
    for (const channel of this.channels.values()) channel.live = false;
    for (const [ref, request] of this.requests) {
      if (!request.sent) continue;
      this.requests.delete(ref);
      request.reject(Object.assign(new Error("the connection ended before the reply"), { uncertain: true }));
    }
    if (code === 4403) return this.end("denied");
    this.retry(this.generation, socket.opened);
  }

  retry(generation, opened = false) {
    if (generation !== this.generation || this.state === "closed" || this.state === "denied") return;
    this.stopTimers();
    this.failures += 1;
    if (!opened && this.failures >= (this.options.fallbackAfter ?? 3) && this.options.fallback !== false) {
      return this.startPolling();
    }
    this.change("waiting");
    this.later(this.backoff(), () => this.open());
  }

  /** Half to all of a time that doubles with each failure, at most 30 seconds. */
  backoff() {
    const limit = Math.min(30000, (this.options.backoff ?? 500) * 2 ** Math.min(this.failures - 1, 10));
    return limit * (0.5 + this.random() / 2);
  }

  /** Tries the connection at once, when the page or the network comes back. */
  check() {
    if (globalThis.document?.visibilityState === "hidden") return;
    if (this.state === "waiting") {
      this.stopTimers();
      this.open();
    } else if (this.state === "open") {
      this.confirm();
    }
  }

  // ---- Subscribing and confirming ----------------------------------------------------------------

  positions(channels) {
    return Object.fromEntries(channels.map((channel) => [channel.name, channel.position]));
  }

  sendSubscribe(channels) {
    const n = this.round.n + 1;
    const recent = Math.max(0, ...channels.map((channel) => channel.recent));
    this.round = { n, kind: "subscribe", attempts: 0, channels, marked: false, confirmed: false };
    this.send({ type: "subscribe", n, channels: this.positions(channels), recent });
    this.expectReply();
  }

  /** Asks for what is missing. A second call while a reply is due makes the client ask once more after it. */
  confirm() {
    if (this.state !== "open" || this.round.kind === "subscribe") return;
    if (this.round.kind === "confirm") {
      this.round.again = true;
      return;
    }
    this.round.kind = "confirm";
    this.round.again = false;
    this.round.sent = this.round.sent + 1 || 1;
    for (const channel of this.channels.values()) {
      for (const waiting of channel.pending.values()) waiting.before = this.round.sent;
    }
    const known = [...this.channels.values()].filter((channel) => channel.position !== null);
    this.send({ type: "confirm", n: this.round.n, channels: this.positions(known) });
    this.expectReply();
  }

  /** If the reply does not come in time, the connection is dead. */
  expectReply() {
    const { socket } = this;
    this.cancel(this.due);
    this.due = this.later(this.timeout, () => this.lose(socket));
  }

  confirmed() {
    const again = this.round.again;
    this.cancel(this.due);
    this.round.kind = "idle";
    this.round.confirmed = true;
    for (const channel of this.channels.values()) {
      // What arrived before the confirmation and still does not fit belongs to a history that has ended.
      for (const [id, waiting] of channel.pending) if (waiting.before === this.round.sent) channel.pending.delete(id);
    }
    if (again || [...this.channels.values()].some((channel) => channel.pending.size > 0)) {
      this.round.attempts += 1;
      this.later(Math.min(2000, 20 * 2 ** Math.min(this.round.attempts, 8)) * this.random(), () => this.confirm());
    } else if (!this.round.marked) {
      // The marker shows that the subscriptions are active. Until it comes, the client asks again.
      this.round.attempts += 1;
      const { n } = this.round;
      const wait = Math.min(10000, 100 * 2 ** Math.min(this.round.attempts, 8)) * (0.5 + this.random() / 2);
      this.cancel(this.marker);
      this.marker = this.later(wait, () => this.round.n === n && !this.round.marked && this.confirm());
    }
    this.goLive();
  }

  goLive() {
    if (!this.round.marked || !this.round.confirmed) return;
    this.failures = 0;
    this.round.attempts = 0;
    for (const channel of this.channels.values()) {
      if (channel.live || channel.position === null) continue;
      channel.live = true;
      channel.handlers.onLive?.(channel.position);
    }
    this.cancel(this.syncing);
    if (this.sync > 0) this.syncing = this.later(this.sync * (0.9 + this.random() / 5), () => this.confirm());
  }

  // ---- Messages ----------------------------------------------------------------------------------

  receive(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    const channel = this.channels.get(message.channel);
    switch (message.type) {
      case "item":
        return channel && this.take(channel, message);
      case "subscribed":
        return channel && this.placed(channel, message.id);
      case "lost":
        return channel && this.lost(channel, message);
      case "more":
        return (this.round.again = true);
      case "subscribing":
        if (message.n === this.round.n && this.round.kind === "subscribe") {
          this.round.kind = "idle";
          this.confirm();
        }
        return;
      case "confirmed":
        return message.n === this.round.n && this.round.kind === "confirm" && this.confirmed();
      case "live":
        if (message.n === this.round.n) {
          this.round.marked = true;
          this.goLive();
        }
        return;
      case "failed":
        return message.n === this.round.n && this.failed();
      case "denied":
        return this.refuse(message);
      case "refused":
        if (message.code === "position" && channel) return this.forget(channel);
        return this.refuse(message);
      case "published":
        return this.settle(message.ref, (request) => request.resolve(message.id));
      case "unpublished":
        return this.settle(message.ref, (request) =>
          request.reject(Object.assign(new Error(message.reason), { code: message.code, uncertain: message.code === "failed" })),
        );
      case "members":
        return channel?.handlers.onMembers?.(message.members);
      case "joined":
        return channel?.handlers.onJoined?.(message.member);
      case "left":
        return channel?.handlers.onLeft?.(message.member);
    }
  }

  /** An item, live or from the history. */
  take(channel, item) {
    if (channel.position !== null && follows(item, channel.position)) {
      this.deliver(channel, item);
      return this.drain(channel);
    }
    if (channel.position !== null && isOld(item, channel.position)) return;
    if (channel.pending.size < PENDING) channel.pending.set(item.id, { item });
    if (channel.position !== null) this.confirm();
  }

  deliver(channel, item) {
    channel.position = item.id;
    channel.handlers.onItem?.(item.data, item.id);
  }

  /** Delivers the items that now follow, and drops those that are old. */
  drain(channel) {
    for (let found = true; found; ) {
      found = false;
      for (const [id, { item }] of channel.pending) {
        if (follows(item, channel.position)) {
          channel.pending.delete(id);
          this.deliver(channel, item);
          found = true;
        } else if (isOld(item, channel.position)) {
          channel.pending.delete(id);
        }
      }
    }
  }

  placed(channel, id) {
    if (channel.position !== null) return;
    channel.position = id;
    this.drain(channel);
  }

  lost(channel, { from, id }) {
    // A report about a position that the client has left has no meaning.
    if (from !== channel.position) return;
    channel.position = id;
    channel.handlers.onLost?.({ from, to: id });
    this.drain(channel);
  }

  /** The server does not know the position: the client starts anew. */
  forget(channel) {
    const from = channel.position;
    channel.position = null;
    channel.pending.clear();
    channel.handlers.onLost?.({ from, to: null });
    if (this.round.kind === "confirm") this.round.kind = "idle";
    this.sendSubscribe([channel]);
  }

  refuse({ channel, reason, code, action }) {
    const found = this.channels.get(channel);
    if (found && action !== "presence") this.channels.delete(channel);
    (found?.handlers.onDenied ?? this.options.onDenied)?.({ channel, reason, code: code ?? "denied", action });
  }

  failed() {
    this.round.attempts += 1;
    const { kind, channels, n } = this.round;
    this.cancel(this.due);
    this.round.kind = "idle";
    const wait = Math.min(10000, 200 * 2 ** Math.min(this.round.attempts, 6)) * (0.5 + this.random() / 2);
    this.later(wait, () => {
      if (this.state !== "open" || this.round.n !== n) return;
      if (kind === "subscribe") {
        const { attempts } = this.round;
        this.sendSubscribe(channels);
        this.round.attempts = attempts;
      } else this.confirm();
    });
  }

  send(message) {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(message));
  }

  flush() {
    for (const request of this.requests.values()) {
      if (request.sent || this.state !== "open") continue;
      request.sent = true;
      this.send(request.message);
    }
  }

  settle(ref, how) {
    const request = this.requests.get(ref);
    this.requests.delete(ref);
    if (request) how(request);
  }

  // ---- Long-polls --------------------------------------------------------------------------------

  startPolling() {
    const generation = ++this.generation;
    this.change("polling");
    for (const channel of this.channels.values()) this.poll(channel, generation);
    for (const [ref, request] of this.requests) {
      this.requests.delete(ref);
      this.post(request.message.channel, request.message.data).then(request.resolve, request.reject);
    }
    // Tries a WebSocket again from time to time. If it does not open, the polls continue at once.
    this.later((this.options.retryWebSocket ?? 300000) * (0.9 + this.random() / 5), () => {
      this.failures = (this.options.fallbackAfter ?? 3) - 1;
      this.open();
    });
  }

  async poll(channel, generation) {
    const current = () => generation === this.generation && this.channels.get(channel.name) === channel;
    for (let failures = 0; current(); ) {
      const after = channel.position === null ? `recent=${channel.recent}` : `after=${channel.position}`;
      try {
        const response = await this.request(`${encodeURIComponent(channel.name)}/poll?${after}`);
        if (!current()) return;
        if (response.status === 400 && channel.position !== null) {
          channel.handlers.onLost?.({ from: channel.position, to: null });
          channel.position = null;
        } else if ([400, 401, 403].includes(response.status)) {
          const { error } = await response.json();
          if (response.status !== 401 || failures > 0) return this.refuse({ channel: channel.name, reason: error });
          throw new Error(error);
        } else if (!response.ok) {
          throw new Error(`HTTP ${response.status}`);
        } else {
          this.polled(channel, await response.json());
        }
        failures = 0;
      } catch {
        failures += 1;
        const wait = Math.min(30000, 500 * 2 ** Math.min(failures, 6)) * (0.5 + this.random() / 2);
        await new Promise((resolve) => this.later(wait, resolve));
      }
    }
  }

  polled(channel, { id, items, lost }) {
    if (channel.position === null) channel.position = items.length > 0 ? items[0].prev : id;
    else if (lost) this.lost(channel, lost);
    for (const item of items) {
      // An item that does not follow is left: the next poll asks the history for what comes before it.
      if (follows(item, channel.position)) this.deliver(channel, item);
    }
    if (channel.live) return;
    channel.live = true;
    channel.handlers.onLive?.(channel.position);
  }

  async post(channel, data) {
    const response = await this.request(encodeURIComponent(channel), { method: "POST", body: JSON.stringify(data) });
    const body = await response.json();
    if (!response.ok) throw Object.assign(new Error(body.error), { uncertain: response.status >= 500 });
    return body.id;
  }

  async request(path, init = {}) {
    const token = await this.token();
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const aborter = new AbortController();
    const timer = this.later(120000, () => aborter.abort());
    try {
      const url = `${this.url.replace(/^ws/, "http")}/${path}`;
      return await this.fetch(url, { ...init, headers, cache: "no-store", signal: aborter.signal });
    } finally {
      this.cancel(timer);
    }
  }

  // ---- Small things ------------------------------------------------------------------------------

  async token() {
    const { token } = this.options;
    return typeof token === "function" ? token() : token;
  }

  change(state) {
    if (this.state === state || this.state === "closed") return;
    this.state = state;
    this.options.onState?.(state);
  }

  end(state) {
    const { socket } = this;
    this.stopTimers();
    this.generation = (this.generation ?? 0) + 1;
    this.socket = null;
    for (const request of this.requests.values()) request.reject(new Error(`the client is ${state}`));
    this.requests.clear();
    this.change(state);
    socket?.close?.(1000);
  }

  later(milliseconds, action) {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      action();
    }, milliseconds);
    this.timers.add(timer);
    return timer;
  }

  cancel(timer) {
    clearTimeout(timer);
    this.timers.delete(timer);
  }

  stopTimers() {
    for (const timer of this.timers) clearTimeout(timer);
    this.timers.clear();
  }
}

/** The epoch and the offset of a position. Offsets may exceed what a number holds. */
function parse(position) {
  const [epoch, offset] = position.split("-");
  return { epoch, offset: BigInt(offset ?? 0) };
}

/** Whether an item is the next one after a position. */
function follows(item, position) {
  return item.prev === position || (position === START && parse(item.id).offset === 1n);
}

/** Whether a client that stands at a position has had the item. */
function isOld(item, position) {
  const [one, other] = [parse(item.id), parse(position)];
  return one.epoch === other.epoch && one.offset <= other.offset;
}
