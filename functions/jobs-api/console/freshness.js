/**
 * Decides when the page asks the API again, and what it may say about the age of what it shows. It does not know what is
 * fetched.
 */

import { Problem, SignedOut } from "./api.js";

/** How often the page polls. With a live connection it polls as well, because a message can be lost. */
export const EVERY = 5_000;

/** The shortest time between the starts of two fetches, however many hints arrive. */
const SHORTEST = 1_000;

/** The table's indexes may be behind the hint by a second. The page looks once more after this time. */
const SECOND_LOOK = 2_000;

/** What is shown counts as confirmed for this long after the next fetch was due. */
const GRACE = 5_000;

/** A tick that comes this late means that the computer slept, or that the clock was set. */
const JUMP = 5_000;

/** After an action of this page, its effect is awaited with frequent fetches for a while. */
const EAGER = 2_000;
const EAGER_FOR = 20_000;

const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 60_000;

/** So many fetches in succession that found progress of which no hint had come mean that the live connection is dead. */
const UNANNOUNCED = 3;

/**
 * What the page may say. `confirmedAt` is when the last answered fetch started, so an answer that waited through a sleep
 * does not make old data fresh.
 */
export function statusOf({ now, confirmedAt, failingSince, isRefused, reason, isSuspect, isLive }) {
  if (failingSince !== null) {
    return { kind: "failing", since: confirmedAt ?? failingSince, hasData: confirmedAt !== null, isRefused, reason };
  }
  if (confirmedAt === null) return { kind: "connecting" };
  const age = now - confirmedAt;
  if (isSuspect || age < 0 || age > EVERY + GRACE) return { kind: "checking", since: confirmedAt };
  return { kind: isLive ? "live" : "polling" };
}

/** The wait after a number of failures in succession: half to all of a time that doubles, and not below `retryAfter`. */
export function backoff(failures, retryAfter, random) {
  const limit = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(failures - 1, 10));
  return Math.max(limit * (0.5 + random / 2), retryAfter * 1000);
}

export class Refresher {
  /**
   * `refresh(signal)` fetches and shows all that is in view, and returns whether a job has progressed. `onStatus` gets each
   * new status, `onInterruption` is called after a sleep or a loss of the network, `onDeadLive` when the live connection
   * seems dead, and `onSignedOut` when there is no sign-in any longer.
   */
  constructor({ refresh, onStatus, onInterruption, onDeadLive, onSignedOut }) {
    Object.assign(this, { refresh, onStatus, onInterruption, onDeadLive, onSignedOut });
    this.confirmedAt = null;
    this.failingSince = null;
    this.failures = 0;
    this.isSuspect = false;
    this.isLive = false;
    this.isHinted = false;
    this.unannounced = 0;
    this.eagerUntil = 0;
    this.startedAt = 0;
    this.running = null;
    this.timer = null;
    this.ticker = null;
  }

  start() {
    this.lastTick = Date.now();
    this.ticker = setInterval(() => this.tick(), 1000);
    document.addEventListener("visibilitychange", () => this.interrupted());
    addEventListener("online", () => this.interrupted());
    addEventListener("offline", () => this.interrupted());
    addEventListener("pageshow", (event) => event.persisted && this.interrupted());
    this.now();
  }

  stop() {
    clearInterval(this.ticker);
    clearTimeout(this.timer);
    this.running?.abort();
    this.refresh = async () => false;
  }

  /** The time to the next fetch. */
  get wait() {
    return Date.now() < this.eagerUntil ? EAGER : EVERY;
  }

  /** This page caused a change that shows in a moment. */
  expect() {
    this.eagerUntil = Date.now() + EAGER_FOR;
    this.soon();
  }

  /** The live connection opened or closed. Messages may have been missed, so the page fetches. */
  setLive(isLive) {
    if (this.isLive === isLive) return;
    this.isLive = isLive;
    this.unannounced = 0;
    this.soon();
  }

  /** Something may have changed. */
  hint() {
    this.isHinted = true;
    this.unannounced = 0;
    this.soon();
  }

  /** The page was hidden, asleep or offline. Until the next answer it does not vouch for what it shows. */
  interrupted() {
    this.lastTick = Date.now();
    if (document.hidden) return;
    this.isSuspect = true;
    this.failures = 0;
    this.onInterruption();
    this.now();
  }

  /** Fetches at once, and gives up a fetch that is under way: it asks for what is no longer in view. */
  now() {
    this.running?.abort();
    this.running = null;
    this.run();
  }

  /** Fetches as soon as the time between two fetches and the backoff allow it. */
  soon() {
    if (this.running || this.failures > 0) return;
    this.plan(Math.max(0, this.startedAt + SHORTEST - Date.now()));
  }

  plan(wait) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.run(), wait);
    this.report();
  }

  async run() {
    clearTimeout(this.timer);
    if (document.hidden || this.running) return;
    const controller = new AbortController();
    this.running = controller;
    const startedAt = (this.startedAt = Date.now());
    const isHinted = this.isHinted;
    this.isHinted = false;

    let wait;
    try {
      const hasProgressed = await this.refresh(controller.signal);
      if (this.running !== controller) return;
      wait = this.succeeded(startedAt, hasProgressed, isHinted);
    } catch (error) {
      if (this.running !== controller) return;
      wait = this.failed(error);
      if (wait === null) return;
    }
    this.running = null;
    this.plan(wait);
  }

  /** Returns the time until the next fetch. */
  succeeded(startedAt, hasProgressed, isHinted) {
    const wasSuspect = this.isSuspect;
    this.confirmedAt = startedAt;
    this.failingSince = null;
    this.failures = 0;
    // An answer that waited through a sleep says nothing of the time since.
    this.isSuspect = Date.now() - startedAt > EVERY + GRACE;
    if (this.isSuspect) return 0;
    if (this.isHinted) return Math.max(0, startedAt + SHORTEST - Date.now());
    if (isHinted) return SECOND_LOOK;

    const isMissed = this.isLive && hasProgressed && !wasSuspect;
    this.unannounced = isMissed ? this.unannounced + 1 : 0;
    if (this.unannounced >= UNANNOUNCED) {
      this.unannounced = 0;
      this.onDeadLive();
    }
    return this.wait;
  }

  /** Returns the time until the next attempt, or null where there is none. */
  failed(error) {
    if (error instanceof SignedOut) {
      this.stop();
      this.onSignedOut(error);
      return null;
    }
    this.failures += 1;
    this.failingSince ??= this.startedAt;
    this.reason = error.message;
    this.isRefused = error instanceof Problem && !error.isTemporary;
    return backoff(this.failures, error.retryAfter ?? 0, Math.random());
  }

  /** Each second: notices a sleep, and that what is shown has become old. */
  tick() {
    const now = Date.now();
    const passed = now - this.lastTick;
    this.lastTick = now;
    if (passed < 0 || passed > JUMP) this.interrupted();
    else this.report();
  }

  report() {
    const { confirmedAt, failingSince, isRefused, reason, isSuspect, isLive } = this;
    const status = statusOf({ now: Date.now(), confirmedAt, failingSince, isRefused, reason, isSuspect, isLive });
    const text = JSON.stringify(status);
    if (text === this.reported) return;
    this.reported = text;
    this.onStatus(status);
  }
}
