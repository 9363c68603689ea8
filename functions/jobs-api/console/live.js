/**
 * The WebSocket through the GRIP proxy. What arrives over it is a hint that something changed. Its content is not read:
 * the page fetches the truth from the API.
 */

const SUBPROTOCOL = "postern-live.1";

/** A connection that was open for this long was a good one: the next attempt comes soon. */
const GOOD = 10_000;

const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 30_000;

/** An attempt that has not come to a connection after this time is given up. */
const TIMEOUT = 10_000;

export class Live {
  /** `ticket` fetches `{ticket, channel}` from the API. `onHint` and `onChange` are called without arguments. */
  constructor({ url, ticket, onHint, onChange }) {
    Object.assign(this, { url, ticket, onHint, onChange });
    this.socket = null;
    this.isOpen = false;
    this.failures = 0;
    this.timer = null;
    this.attempt = 0;
  }

  /** Opens the connection, and a new one where there is one: after a sleep it may be dead without knowing it. */
  async open() {
    this.close();
    const attempt = this.attempt;
    try {
      const ticket = await this.ticket();
      if (attempt === this.attempt) this.connect(ticket);
    } catch {
      // The refresher reports an API that does not answer. Here it is one more failed attempt.
      if (attempt === this.attempt) this.retry();
    }
  }

  close() {
    this.attempt += 1;
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    this.change(false);
  }

  connect({ ticket, channel }) {
    const url = new URL(this.url);
    url.searchParams.set("channel", channel);
    const socket = new WebSocket(url, [SUBPROTOCOL, `ticket.${ticket}`]);
    this.socket = socket;
    let openedAt = null;
    this.timer = setTimeout(() => socket.close(), TIMEOUT);

    socket.onopen = () => {
      clearTimeout(this.timer);
      openedAt = Date.now();
      this.change(true);
    };
    socket.onmessage = () => this.onHint();
    socket.onclose = () => {
      clearTimeout(this.timer);
      if (openedAt !== null && Date.now() - openedAt > GOOD) this.failures = 0;
      this.socket = null;
      this.change(false);
      this.retry();
    };
  }

  /** Waits half to all of a time that doubles with each failure. A hidden page waits until it is seen, and is then opened. */
  retry() {
    const limit = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(this.failures, 10));
    this.failures += 1;
    this.timer = setTimeout(() => document.hidden || this.open(), limit * (0.5 + Math.random() / 2));
  }

  change(isOpen) {
    if (this.isOpen === isOpen) return;
    this.isOpen = isOpen;
    this.onChange();
  }
}
