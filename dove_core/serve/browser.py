"""The page for browsers, at `/map`: its files, and the way to it from `/`, where programs get JSON."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import Headers
from starlette.routing import Match, Route
from starlette.types import Scope

PATH, _HTML = "/map", "map.html"
_KINDS = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".json": "application/json",
    ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8", ".woff2": "font/woff2",
}  # fmt: skip
_COMPRESSED = (".woff2",)
"""Formats that are compressed already."""


class StaticFile(NamedTuple):
    """A file of the page; `packed` is it in gzip, or None if that makes no sense."""

    kind: str
    data: bytes
    packed: bytes | None
    tag: str


class BrowserRoute(Route):
    """A route for requests that prefer HTML: those of browsers."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match the path, and what the client accepts."""
        if scope["type"] != "http" or not Headers(scope=scope).get("accept", "").startswith("text/html"):
            return Match.NONE, {}
        return super().matches(scope)


def browser() -> APIRouter:
    """Return the routes of the page and its files."""
    router = APIRouter(include_in_schema=False)

    @router.get(PATH)
    def page(request: Request) -> Response:
        """Return the page."""
        return _answer(request, _HTML)

    @router.get("/page/{name:path}")
    def file(request: Request, name: str) -> Response:
        """Return a file of the page."""
        return _answer(request, name)

    return router


def way_in() -> BrowserRoute:
    """Return the route that leads browsers from `/` to the page; it comes before all others."""

    def lead(request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        where = f"{request.scope.get('root_path', '')}{PATH}{query}"
        return RedirectResponse(where, 303, headers={"Vary": "Accept", "Cache-Control": "no-cache"})

    return BrowserRoute("/", lead, methods=["GET"], include_in_schema=False)


def _answer(request: Request, name: str) -> Response:
    path = _paths().get(name)
    if path is None:
        raise HTTPException(404, f"the page has no file {name}")
    found = _read(name)
    headers = {"ETag": found.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if found.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if found.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, media_type=found.kind, headers={**headers, "Content-Encoding": "gzip"})
    return Response(found.data, media_type=found.kind, headers=headers)


@cache
def _read(name: str) -> StaticFile:
    """Return a file by its name; it is compressed once."""
    path = _paths()[name]
    data, suffix = path.read_bytes(), f".{name.rpartition('.')[2]}"
    packed = None if suffix in _COMPRESSED else gzip.compress(data, 9, mtime=0)
    return StaticFile(_KINDS[suffix], data, packed, f'"{hashlib.sha256(data).hexdigest()[:20]}"')


@cache
def _paths() -> dict[str, Traversable]:
    """Return all files of the page by their names, so that no other file can be asked for."""
    folder = files("dove_core.serve") / "web"
    return {name: path for name, path in _below(folder, "") if f".{name.rpartition('.')[2]}" in _KINDS}


def _below(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found = []
    for path in folder.iterdir():
        name = f"{prefix}{path.name}"
        found += _below(path, f"{name}/") if path.is_dir() else [(name, path)]
    return found
