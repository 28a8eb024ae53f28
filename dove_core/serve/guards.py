"""What every request passes: the token, limits of size and time, and headers for browsers. All of it is plain ASGI."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dove_core.config import ServeConfig
from dove_core.serve.problems import problem

OPEN = "/healthz"
"""The path that needs no token: it tells nothing."""

_LOCAL = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)
"""Names of this machine in the header Host."""

_SMALL = 2**20
"""Largest body in bytes of a request that has no image."""

_ALL_BODIES = 2**28
"""Largest sum in bytes of the bodies that are being answered: above it, requests are refused."""


class TokenGuard:
    """Refuses requests without the token, as a bearer token or as the password of any user."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401."""
        if (
            scope["type"] != "http"
            or scope["path"].removeprefix(scope.get("root_path", "")) == OPEN
            or self._knows(scope)
        ):
            await self._app(scope, receive, send)
            return
        headers = {"WWW-Authenticate": 'Basic realm="dove", charset="UTF-8"'}
        hint = "send the header Authorization: Bearer TOKEN, or the token as the password of any user"
        await problem(401, "the token is missing or wrong", hint, headers)(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        kind, _, value = Headers(scope=scope).get("authorization", "").partition(" ")
        given = value.strip().encode("utf-8", "replace")
        if kind.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif kind.lower() != "bearer":
            return False
        return hmac.compare_digest(given, self._token)


class HostGuard:
    """Refuses requests that call this machine by a name of others, which may be that of a web page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 400."""
        if scope["type"] != "http" or _LOCAL.fullmatch(Headers(scope=scope).get("host", "")):
            await self._app(scope, receive, send)
            return
        hint = "ask localhost or 127.0.0.1, or start dove serve with --token-file for other names"
        await problem(400, "the header Host is not a name of this machine", hint)(scope, receive, send)


class HeadRoute:
    """Answers HEAD as GET, for every route and without the body. Link checkers and balancers ask so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        asked: Scope = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, without_body)
        finally:
            scope["route"] = asked.get("route")  # for the meter of requests


class BodyGuard:
    """Reads the body of a request within limits of size and time, and gives up on clients that accept no answer."""

    def __init__(self, app: ASGIApp, serving: ServeConfig, large: Callable[[str], bool]) -> None:
        """`large` tells whether the body of a path may have an image."""
        self._app, self._large, self._seconds = app, large, serving.client_timeout
        self._image = _SMALL + int(serving.max_upload * 1e6 * 4 / 3)  # base64, and what is around it
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its whole body, or answer 408, 413 or 503."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._image if self._large(scope["path"]) else _SMALL
        parts = list[bytes]()
        try:
            refusal = await self._read(scope, receive, limit, parts)
            if refusal is None:
                body = {"type": "http.request", "body": b"".join(parts), "more_body": False}
                await self._app(scope, _first(body, receive), self._patient(send))
            else:
                await problem(*refusal, headers={"Connection": "close"})(scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            self._held -= sum(map(len, parts))

    async def _read(self, scope: Scope, receive: Receive, limit: int, parts: list[bytes]) -> tuple[int, str] | None:
        """Read a body into `parts`; return status and reason of a refusal, or None if all is well."""
        announced = Headers(scope=scope).get("content-length", "")
        size, total, more = int(announced) if announced.isdigit() and len(announced) < 20 else 0, 0, True
        try:
            async with asyncio.timeout(self._seconds):
                while more and size <= limit:
                    if self._held > _ALL_BODIES:
                        return 503, "too many large requests; ask again later"
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    parts.append(message.get("body", b""))
                    self._held += len(parts[-1])
                    total += len(parts[-1])
                    size, more = max(size, total), message.get("more_body", False)
        except TimeoutError:
            return 408, "the body came too slowly"
        return (413, f"the body has more than {limit:,} bytes") if size > limit else None

    def _patient(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            try:
                await asyncio.wait_for(send(message), self._seconds)
            except TimeoutError as error:
                raise ConnectionError("the client accepts no answer") from error

        return sent


class HeaderGuard:
    """Adds headers that keep browsers from running what is not ours."""

    def __init__(self, app: ASGIApp, serving: ServeConfig) -> None:
        self._app = app
        tiles = f" {serving.basemap_origin}" if serving.basemap else ""
        self._policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; worker-src 'self' blob:; "
            f"img-src 'self' data: blob:{tiles}; connect-src 'self'{tiles}; manifest-src 'self'; base-uri 'none'; "
            "form-action 'self'; frame-ancestors 'none'"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; add the headers to its answer."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = self._policy
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self._app(scope, receive, sent)


def _first(message: Message, rest: Receive) -> Callable[[], Awaitable[Message]]:
    """Return a `receive` that gives this message, then what comes later."""
    waiting = [message]

    async def receive() -> Message:
        return waiting.pop() if waiting else await rest()

    return receive
