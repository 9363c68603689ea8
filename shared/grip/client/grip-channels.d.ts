/** The options of `connect`. */
export interface Options {
  /** The token, or a function that gets one before each connection. */
  token?: string | (() => string | undefined | Promise<string | undefined>);
  /** Called when the state changes. */
  onState?: (state: State) => void;
  /** Called when a channel is refused and has no handler of its own. */
  onDenied?: (refusal: Refusal) => void;
  /** Whether to fall back to long-polls. The default is true. */
  fallback?: boolean;
  /** The number of WebSockets in a row that must fail to open before the client falls back. The default is 3. */
  fallbackAfter?: number;
  /** How long long-polls are used before a WebSocket is tried again, in milliseconds. The default is 5 minutes. */
  retryWebSocket?: number;
  /** The first wait before a reconnection, in milliseconds. It doubles up to 30 seconds. The default is 500. */
  backoff?: number;
  /** After how many milliseconds without a reply a connection is given up. The default is 15,000. */
  timeout?: number;
  /** How often an idle client asks whether it missed an item, in milliseconds; 0 for never. The default is 5 minutes. */
  sync?: number;
  /** Replacements, for tests and for Node before version 22. */
  WebSocket?: unknown;
  fetch?: typeof fetch;
  random?: () => number;
}

export type State = "idle" | "connecting" | "open" | "waiting" | "polling" | "denied" | "closed";

export interface Refusal {
  channel: string;
  reason: string;
  code?: string;
  action?: "subscribe" | "publish" | "presence";
}

/** A connection that is present in a channel. */
export interface Member {
  id: string;
  subject?: string;
  info?: unknown;
}

export interface Handlers<T = unknown> {
  /** Continues after this position. */
  after?: string;
  /** Without `after`: how many of the newest items to begin with. The default is 0. */
  recent?: number;
  /** Called with each item, once and in order. */
  onItem?: (data: T, position: string) => void;
  /** Items after `from` are lost. What follows starts after `to`; null: with the newest items. */
  onLost?: (loss: { from: string; to: string | null }) => void;
  /** Called after each connection, when nothing is missing and the subscription is active. */
  onLive?: (position: string) => void;
  /** The subscription is refused, and has ended. */
  onDenied?: (refusal: Refusal) => void;
  onMembers?: (members: Member[]) => void;
  onJoined?: (member: Member) => void;
  onLeft?: (member: Member) => void;
}

/** A publication that failed. `uncertain` says that the item may have been published nevertheless. */
export interface PublishError extends Error {
  code?: string;
  uncertain?: boolean;
}

export interface Client {
  /** Subscribes to a channel. Returns a function that ends the subscription. */
  subscribe<T = unknown>(channel: string, handlers?: Handlers<T>): () => void;
  /** The position of a channel: pass it as `after` to continue there. */
  position(channel: string): string | null;
  /** Publishes a value. The promise holds the item's position, or fails with a `PublishError`. */
  publish(channel: string, data: unknown): Promise<string>;
  /** Becomes present in a channel, also after each reconnection. */
  enter(channel: string, info?: unknown): void;
  /** Ends the presence in a channel. */
  leave(channel: string): void;
  /** Ends the client. */
  close(): void;
}

/** Opens a client for the address of the channels: `wss://…` or `https://…`. */
export function connect(url: string, options?: Options): Client;
