"""What every request passes first: its host, its origin, its token, and a count of its bytes.

ASGI middleware: a body is counted while it is received, whatever its headers state.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resvox.server.logs import event
from resvox.server.settings import is_loopback

if TYPE_CHECKING:
    from resvox.server.metrics import Metrics
    from resvox.server.settings import ServeSettings

COOKIE = "resvox_session"
READING = ("GET", "HEAD", "OPTIONS")
# without a token: the page and its files, the state of the server, and how a token is got
PUBLIC = ("/", "/assets/app.js", "/assets/app.css", "/healthz", "/auth/", "/auth/token", "/login")
MULTIPART_BYTES = 1_000_000  # beside the files of a form
PUBLIC_BYTES = 16_000  # of a request that needs no token; a log-in is held in memory as a whole before it is checked
# Methods that metrics and logs name; a client can invent others without end, and each would be kept.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"cross-origin-resource-policy", b"same-site"),
    (b"cache-control", b"no-store"),
)


class TooLargeError(HTTPException):
    """The body of a request is larger than allowed; answered as other HTTP exceptions where a route reads the body."""


class Guard:
    """Middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, settings: ServeSettings) -> None:
        self.app, self.settings = app, settings
        self.upload_limit = int(settings.max_upload_mb * 1e6) + MULTIPART_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        counted, started = 0, False
        limit, too_large = self._limit(scope)

        async def counting() -> Message:
            nonlocal counted
            message = await receive()
            counted += len(message.get("body", b""))
            if counted > limit:
                raise TooLargeError(413, too_large)
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                have = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in HEADERS if each[0] not in have)]
            await send(message)

        try:
            await self.app(scope, counting, watched)
        except TooLargeError:
            if not started:
                await _answer(send, 413, too_large)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        if not self._is_own_host(headers.get("host", "")):
            return 403, "another host name than the server's; fix: the setting hosts"
        if scope["method"] not in READING and not self._is_own_origin(headers):
            return 403, "a request from a page of another origin; fix: the setting origins"
        if scope["path"] not in PUBLIC and not self.is_allowed(headers):
            return 401, "no token, or another one; expected Authorization: Bearer TOKEN"
        try:
            length = int(headers.get("content-length", "0"))
        except ValueError:
            return 400, "a Content-Length that is not a number"
        limit, too_large = self._limit(scope)
        return (413, too_large) if length > limit else None

    def _limit(self, scope: Scope) -> tuple[int, str]:
        """The bytes that the body of a request may have, and the answer to a larger one."""
        if scope["path"] in PUBLIC:
            limit, words = PUBLIC_BYTES, f"{PUBLIC_BYTES / 1000:g} kB"
        else:
            limit, words = self.upload_limit, f"{self.settings.max_upload_mb:g} MB"
        return limit, f"more bytes than the limit; expected at most {words}"

    def _is_own_host(self, host: str) -> bool:
        """Whether a browser meant this server: without a token, a name that was made to lead here is refused."""
        if self.settings.token and not self.settings.hosts:
            return True
        name = urlsplit(f"//{host}").hostname or ""
        return is_loopback(name) or name in (self.settings.host, *self.settings.hosts)

    def _is_own_origin(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None or origin in self.settings.origins:
            return True
        return urlsplit(origin).netloc == headers.get("host", "") != ""

    def is_allowed(self, headers: Headers) -> bool:
        """Whether a request brings the token, as a header or as the cookie of the page."""
        token = self.settings.token
        if not token:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _is_same(given.strip(), token):
            return True
        try:
            cookies: SimpleCookie = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return COOKIE in cookies and _is_same(cookies[COOKIE].value, cookie_of(token))


def cookie_of(token: str) -> str:
    """The value of the page's cookie, from which the token cannot be found."""
    return hmac.new(token.encode(), b"resvox serve cookie", hashlib.sha256).hexdigest()


def is_token(given: str, token: str) -> bool:
    """Compare in constant time."""
    return _is_same(given, token)


def _is_same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


async def _answer(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *HEADERS]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Measured:
    """Middleware that counts and logs requests by route; never their paths, which hold identifiers."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and count."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            spent = time.perf_counter() - start
            route: Any = scope.get("route")
            path = getattr(route, "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.requests.labels(method, path, str(status)).inc()
            self.metrics.request_seconds.labels(path).observe(spent)
            event("request", method=method, route=path, status=status, ms=round(1000 * spent, 1))
