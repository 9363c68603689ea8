/**
 * Signs in by OpenID Connect: the authorization code flow with PKCE. The tokens stay in this tab (`sessionStorage`), so
 * that a reload keeps them and closing the tab forgets them. They are never in the address, nor in a cookie.
 */

import { SignedOut } from "./api.js";

const TOKENS = "postern.tokens";
const ATTEMPT = "postern.sign-in";

/** A token is renewed this long before its end. */
const RENEW_BEFORE = 60_000;

/** The issuer refused, or what came back does not belong to the sign-in that this tab began. */
export class SignInFailed extends Error {}

export class Session {
  constructor(config) {
    this.config = config;
    this.tokens = read(TOKENS);
    this.renewal = null;
  }

  get isSignedIn() {
    return this.tokens !== null;
  }

  /** A token that is valid now. It is renewed where the issuer allows that. */
  async token() {
    if (this.tokens && this.tokens.expiresAt - Date.now() > RENEW_BEFORE) return this.tokens.access;
    if (this.tokens?.refresh) {
      this.renewal ??= this.renew().finally(() => (this.renewal = null));
      await this.renewal;
    }
    if (this.tokens && this.tokens.expiresAt > Date.now()) return this.tokens.access;
    this.drop();
    throw new SignedOut("The sign-in has ended");
  }

  /** Forgets the tokens. */
  drop() {
    this.tokens = null;
    sessionStorage.removeItem(TOKENS);
  }

  /** Leaves for the issuer's page. It comes back to this page, and `finish` restores the address. */
  async begin() {
    const { authorization_endpoint: endpoint } = await this.metadata();
    const attempt = { state: random(), nonce: random(), verifier: random(), address: location.search };
    sessionStorage.setItem(ATTEMPT, JSON.stringify(attempt));

    const url = new URL(endpoint);
    const parameters = {
      response_type: "code",
      client_id: this.config.clientId,
      redirect_uri: redirectUri(),
      scope: "openid",
      state: attempt.state,
      nonce: attempt.nonce,
      code_challenge: await challengeOf(attempt.verifier),
      code_challenge_method: "S256",
    };
    if (this.config.audience) parameters.audience = this.config.audience;
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
    location.assign(url);
  }

  /** Whether the address is that of a return from the issuer. */
  static isReturn(search) {
    const parameters = new URLSearchParams(search);
    return parameters.has("code") || parameters.has("error");
  }

  /** Exchanges the code of a return for tokens. The address is cleaned first, whatever comes of it. */
  async finish(search) {
    const parameters = new URLSearchParams(search);
    const attempt = read(ATTEMPT);
    sessionStorage.removeItem(ATTEMPT);
    history.replaceState(null, "", `${location.pathname}${attempt?.address ?? ""}`);

    if (!attempt || parameters.get("state") !== attempt.state) {
      throw new SignInFailed("This answer belongs to another sign-in. Sign in again");
    }
    if (parameters.has("error")) {
      throw new SignInFailed(`The issuer refused: ${parameters.get("error_description") ?? parameters.get("error")}`);
    }
    const iss = parameters.get("iss");
    if (iss !== null && iss !== this.config.issuer) throw new SignInFailed(`The answer is of another issuer: ${iss}`);
    const reply = await this.exchange({
      grant_type: "authorization_code",
      code: parameters.get("code"),
      redirect_uri: redirectUri(),
      code_verifier: attempt.verifier,
    });
    if (nonceOf(reply.id_token) !== attempt.nonce) {
      throw new SignInFailed("The issuer's token is of another sign-in. Sign in again");
    }
    this.keep(reply);
  }

  async renew() {
    try {
      this.keep(await this.exchange({ grant_type: "refresh_token", refresh_token: this.tokens.refresh }));
    } catch (error) {
      // The token may still be valid for a moment, and an issuer that is down may come back before its end.
      if (error instanceof SignInFailed && this.tokens) this.tokens.refresh = null;
    }
  }

  keep(reply) {
    if (!reply.access_token) throw new SignInFailed("The issuer's answer has no access token");
    const seconds = Number(reply.expires_in) || 300;
    this.tokens = {
      access: reply.access_token,
      refresh: reply.refresh_token ?? this.tokens?.refresh ?? null,
      expiresAt: Date.now() + seconds * 1000,
    };
    sessionStorage.setItem(TOKENS, JSON.stringify(this.tokens));
  }

  async exchange(parameters) {
    const { token_endpoint: endpoint } = await this.metadata();
    const body = new URLSearchParams({ client_id: this.config.clientId, ...parameters });
    const response = await fetch(endpoint, { method: "POST", body, cache: "no-store", credentials: "omit" });
    const reply = await response.json().catch(() => ({}));
    if (response.status >= 500) throw new Error(`The issuer answered ${response.status}`);
    if (!response.ok) throw new SignInFailed(`The issuer refused: ${reply.error_description ?? reply.error ?? response.status}`);
    return reply;
  }

  async metadata() {
    this.discovered ??= await discover(this.config.issuer);
    return this.discovered;
  }
}

async function discover(issuer) {
  const url = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
  const response = await fetch(url, { credentials: "omit" }).catch(() => {
    throw new SignInFailed(`The issuer ${issuer} cannot be reached`);
  });
  if (!response.ok) throw new SignInFailed(`The issuer ${issuer} answered ${response.status}`);
  const metadata = await response.json();
  if (metadata.issuer !== issuer) throw new SignInFailed(`The issuer ${issuer} calls itself ${metadata.issuer}`);
  return metadata;
}

function redirectUri() {
  return `${location.origin}${location.pathname}`;
}

function read(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key));
  } catch {
    return null;
  }
}

function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

async function challengeOf(verifier) {
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))));
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** The nonce of an id token. Its signature needs no check: the token came from the issuer itself, over TLS. */
function nonceOf(idToken) {
  try {
    return JSON.parse(atob(idToken.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).nonce;
  } catch {
    return null;
  }
}
