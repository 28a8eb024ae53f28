"""Counts and times of requests for Prometheus, and the access log: a line of JSON for each request.

Neither has headers, bodies or query strings, so no token and no question.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Mapping

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dove_core.serve.problems import problem
from dove_core.serve.served import ServedIndex

_SEVERAL = "PROMETHEUS_MULTIPROC_DIR"
"""Variable with the folder in which several processes share their counts."""

_log, _errors = logging.getLogger("dove.access"), logging.getLogger("dove.serve")
_REQUESTS = Counter("dove_requests_total", "Requests answered.", ["method", "route", "status"])
_SECONDS = Histogram(
    "dove_request_seconds", "Seconds until an answer was complete.", ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)  # fmt: skip
_METHODS = ("GET", "POST", "HEAD", "OPTIONS")
_IMAGES = Gauge("dove_images", "Images of an index.", ["index"], multiprocess_mode="max")
_CHANGES = Counter("dove_index_changes_total", "Times that an index was opened again.", ["index"])


class RequestMeter:
    """Counts, times and logs every request of an app; an exception is logged with its traceback, and is status 500."""

    def __init__(self, app: ASGIApp, *, logged: bool) -> None:
        self._app, self._logged = app, logged

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, size = time.perf_counter(), 0, 0

        async def sent(message: Message) -> None:
            nonlocal status, size
            status = message.get("status", status)
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except ConnectionError:  # the client has gone
            status = status or 499
        except asyncio.CancelledError:  # by the end of the server, when its patience is over
            _errors.warning("%s %s was not answered, since the server ends", scope["method"], scope["path"])
            if status == 0:
                await problem(503, "the server ends; ask again later")(scope, receive, sent)
        except Exception:
            _errors.exception("%s %s", scope["method"], scope["path"])
            if status == 0:
                await problem(500, "this is a bug; the server's log has more")(scope, receive, sent)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path_format", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            _REQUESTS.labels(method, route, status).inc()
            _SECONDS.labels(route).observe(seconds)
            if self._logged:
                _log.info(_line(scope, status, size, seconds))


def refresh_all(served: Mapping[str, ServedIndex]) -> None:
    """Open indexes again that were made again."""
    for name, one in served.items():
        before = one.changes
        one.refresh()
        _CHANGES.labels(name).inc(one.changes - before)
        _IMAGES.labels(name).set(len(one.opened.index))


def operations() -> APIRouter:
    """Return the routes for those who run the server."""
    router = APIRouter(tags=["Operations"])

    @router.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """Tell that the server answers."""
        return "ok"

    @router.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        """Return counts and times for Prometheus."""
        registry = REGISTRY
        if _SEVERAL in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router


def _line(scope: Scope, status: int, size: int, seconds: float) -> str:
    values = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "client": (scope.get("client") or [""])[0],
        "method": scope["method"], "path": scope["path"], "status": status, "bytes": size,
        "ms": round(1e3 * seconds, 1),
    }  # fmt: skip
    return json.dumps(values)
