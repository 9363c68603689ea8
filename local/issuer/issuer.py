"""An issuer of OpenID Connect for the local stack, so that the console's sign-in works without a network.

    python issuer.py [--port PORT] [--users USERS.json]

It prints its address, and serves discovery, JWKS, the authorization code flow with PKCE (S256 only), and a page on which a
user is chosen instead of signing in. Tokens are signed with RS256, by a key that is made at the start and exists in memory
only. Nobody is authenticated: it listens on loopback, and is for a stack on the same machine alone.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import http.server
import json
import pathlib
import secrets
import signal
import sys
import time
import urllib.parse

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

LOOPBACK = "127.0.0.1"
CLIENT_ID = "console"
AUDIENCE = "postern"
CODE_SECONDS = 60
TOKEN_SECONDS = 3600
USERS = pathlib.Path(__file__).with_name("users.json")
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Sign in to the local stack</title>
<style>body{{font:1rem system-ui;max-width:30rem;margin:3rem auto;padding:0 1rem;color-scheme:light dark}}
button{{font:inherit;display:block;width:100%;margin:.5rem 0;padding:.7rem;text-align:left}}</style></head>
<body><h1>Sign in to the local stack</h1><p>Choose a user. There are no passwords: this page is served by your own machine.</p>
<form method="post">{hidden}{buttons}</form></body></html>"""


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Refused(Exception):
    """A request that the issuer does not fulfil: an error code of RFC 6749 and its description."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.body = {"error": code, "error_description": description}


class Issuer:
    """Users, codes and the key. It knows nothing of HTTP."""

    def __init__(self, url: str, users: dict[str, dict]) -> None:
        self.url = url
        self.users = users
        self.codes: dict[str, dict] = {}
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key_id = secrets.token_hex(8)

    def discovery(self) -> dict:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks.json",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "scopes_supported": ["openid"],
        }

    def jwks(self) -> dict:
        numbers = self.key.public_key().public_numbers()
        n = base64url(numbers.n.to_bytes(256, "big"))
        e = base64url(numbers.e.to_bytes(3, "big"))
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.key_id, "n": n, "e": e}
        return {"keys": [key]}

    def check(self, request: dict[str, str]) -> None:
        """Checks a request for a code, before a user is chosen and again after."""
        redirect = urllib.parse.urlsplit(request.get("redirect_uri", ""))
        host = redirect.hostname or ""
        if redirect.scheme != "http" or not (host == LOOPBACK or f".{host}".endswith(".localhost")):
            raise Refused(
                "invalid_request", "redirect_uri must be an http:// address of this machine"
            )
        if request.get("client_id") != CLIENT_ID:
            raise Refused("unauthorized_client", f"client_id must be {CLIENT_ID}")
        if request.get("response_type") != "code":
            raise Refused("unsupported_response_type", "response_type must be code")
        if (
            request.get("code_challenge_method") != "S256"
            or len(request.get("code_challenge", "")) != 43
        ):
            raise Refused(
                "invalid_request", "PKCE with S256 is required: code_challenge has 43 characters"
            )

    def grant(self, request: dict[str, str], user: str) -> str:
        """The address to which the browser goes with a code for `user`."""
        self.check(request)
        if user not in self.users:
            raise Refused("access_denied", "there is no such user")

        code = secrets.token_urlsafe(32)
        self.codes[code] = {**request, "user": user, "ends": time.time() + CODE_SECONDS}
        answer = {"code": code, "state": request.get("state", ""), "iss": self.url}
        separator = "&" if "?" in request["redirect_uri"] else "?"
        return request["redirect_uri"] + separator + urllib.parse.urlencode(answer)

    def exchange(self, form: dict[str, str]) -> dict:
        """The tokens for a code. A code works once."""
        if form.get("grant_type") != "authorization_code":
            raise Refused("unsupported_grant_type", "grant_type must be authorization_code")
        code = self.codes.pop(form.get("code", ""), None)
        verifier = form.get("code_verifier", "")
        if code is None or code["ends"] < time.time():
            raise Refused("invalid_grant", "the code is unknown, used or expired")
        if any(form.get(name) != code[name] for name in ("redirect_uri", "client_id")):
            raise Refused("invalid_grant", "redirect_uri or client_id is not that of the code")
        if base64url(hashlib.sha256(verifier.encode()).digest()) != code["code_challenge"]:
            raise Refused("invalid_grant", "code_verifier does not match the code_challenge")

        user = self.users[code["user"]]
        # A user of a test can have a lifetime of its own, also one that has ended.
        lifetime = user.get("lifetime", TOKEN_SECONDS)
        identity = {"sub": code["user"], "tenant": user["tenant"], "roles": user["roles"]}
        nonce = {"nonce": code["nonce"]} if "nonce" in code else {}
        return {
            "access_token": self.token({**identity, "aud": AUDIENCE, "scope": "openid"}, lifetime),
            "id_token": self.token({**identity, "aud": CLIENT_ID, **nonce}, lifetime),
            "token_type": "Bearer",
            "expires_in": lifetime,
        }

    def token(self, claims: dict, lifetime: int) -> str:
        now = int(time.time())
        header = {"alg": "RS256", "typ": "JWT", "kid": self.key_id}
        claims = {**claims, "iss": self.url, "iat": now - 1, "exp": now + lifetime}
        signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{base64url(signature)}"

    def page(self, request: dict[str, str]) -> str:
        self.check(request)
        hidden = "".join(
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
            for name, value in request.items()
        )
        buttons = "".join(
            f'<button id="{html.escape(name)}" name="user" value="{html.escape(name)}"><b>{html.escape(name)}</b>: '
            f"{html.escape(' '.join(user['roles']))} of {html.escape(user['tenant'])}</button>"
            for name, user in self.users.items()
        )
        return PAGE.format(hidden=hidden, buttons=buttons)


class Handler(http.server.BaseHTTPRequestHandler):
    """The issuer's addresses. Other origins may read all but the page: the console is one."""

    issuer: Issuer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        match path:
            case "/.well-known/openid-configuration":
                self.json(200, self.issuer.discovery())
            case "/jwks.json":
                self.json(200, self.issuer.jwks())
            case "/authorize":
                self.refusable(lambda: self.html(self.issuer.page(parameters(query))))
            case _:
                self.json(404, {"error": "not_found"})

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", "0"))
        form = parameters(self.rfile.read(min(length, 65_536)).decode(errors="replace"))
        match self.path.partition("?")[0]:
            case "/authorize":
                user = form.pop("user", "")
                self.refusable(lambda: self.redirect(self.issuer.grant(form, user)))
            case "/token":
                self.refusable(lambda: self.json(200, self.issuer.exchange(form)))
            case _:
                self.json(404, {"error": "not_found"})

    def do_OPTIONS(self) -> None:
        self.answer(204, b"", {"access-control-allow-headers": "content-type"})

    def refusable(self, answer) -> None:
        try:
            answer()
        except Refused as refused:
            self.json(400, refused.body)

    def json(self, status: int, body: dict) -> None:
        self.answer(status, json.dumps(body).encode(), {"content-type": "application/json"})

    def html(self, page: str) -> None:
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        headers = {"content-type": "text/html; charset=utf-8", "content-security-policy": policy}
        self.answer(200, page.encode(), headers)

    def redirect(self, address: str) -> None:
        self.answer(303, b"", {"location": address})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        common = {"access-control-allow-origin": "*", "cache-control": "no-store"}
        for name, value in {**common, **headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Nothing: the addresses contain codes."""


def parameters(query: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(query))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--users", type=pathlib.Path, default=USERS)
    options = parser.parse_args()

    server = http.server.ThreadingHTTPServer((LOOPBACK, options.port), Handler)
    url = f"http://{LOOPBACK}:{server.server_address[1]}"
    Handler.issuer = Issuer(url, json.loads(options.users.read_text()))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"issuer: {url}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
