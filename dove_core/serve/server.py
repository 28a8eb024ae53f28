"""The server: sockets, processes and logs."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dove_core.addresses import Address
from dove_core.config import ServeConfig
from dove_core.errors import UsageError, reason_of
from dove_core.events import Noted, Report, silent

if TYPE_CHECKING:
    from fastapi import FastAPI

_INSTALL = "install it with `pip install 'dove-eo[serve]'`"
_CONNECTIONS, _GRACE, _SILENT = 512, 30, 60
"""Largest number of connections; seconds that requests in flight have when the server ends; seconds of silence after
which a worker is replaced."""

_SHORTEST = 8
"""Characters of the shortest token."""


@dataclass(frozen=True)
class _AppOf:
    """What a process needs to make its app; it can be sent to other processes."""

    addresses: Sequence[Address]
    serving: ServeConfig
    checkpoint: Address | None
    shards: Address | None
    token: str

    def __call__(self) -> FastAPI:
        logging.getLogger("stac_fastapi").setLevel(logging.ERROR)  # it warns of defaults that are not used here
        from dove_core.serve.app import make_app
        from dove_core.serve.served import open_served

        served = open_served(self.addresses, checkpoint=self.checkpoint, shards=self.shards)
        return make_app(served, self.serving, self.token)


def web_app(
    addresses: Sequence[Address],
    serving: ServeConfig = ServeConfig(),
    *,
    checkpoint: Address | None = None,
    shards: Address | None = None,
) -> FastAPI:
    """Return an ASGI application with a STAC API for indexes; `dove serve` runs it.

    Args:
        addresses: of the indexes.
        serving: settings.
        checkpoint: the model that made the only index, if it was moved.
        shards: the embedded images of the only index, if they were moved.

    Raises:
        UsageError: a package is not installed, two indexes have one name, or the token cannot be read.
        SearchIndexError, CheckpointError: an index cannot be opened.

    >>> from starlette.testclient import TestClient
    >>> client = TestClient(dove.web_app(["index/shapes"]), base_url="http://localhost")
    >>> found = client.get("/search", params={"q": "a red circle", "limit": 3}).json()
    >>> len(found["features"])
    3
    """
    try:
        import stac_fastapi.api  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(f"serving needs a package that is not installed: {error.name}", hint=_INSTALL) from error
    return _AppOf(tuple(addresses), serving, checkpoint, shards, _token(serving))()


def serve(
    addresses: Sequence[Address],
    serving: ServeConfig = ServeConfig(),
    *,
    checkpoint: Address | None = None,
    shards: Address | None = None,
    report: Report = silent,
) -> None:
    """Serve indexes until the process gets SIGTERM or SIGINT; then finish requests in flight.

    Args:
        addresses, serving, checkpoint, shards: as of `web_app`.
        report: receives the address once connections are accepted.

    Raises:
        UsageError: as of `web_app`, or the address is in use.
        SearchIndexError, CheckpointError: an index cannot be opened.
    """
    app = web_app(addresses, serving, checkpoint=checkpoint, shards=shards)
    with _bound(serving) as listener, tempfile.TemporaryDirectory(prefix="dove-serve-") as counts:
        port = listener.getsockname()[1]
        host = f"[{serving.host}]" if ":" in serving.host else serving.host
        report(Noted(f"serving {', '.join(map(str, addresses))} at http://{host}:{port}"))
        with _signals_end_quietly():
            if serving.workers == 1:
                _run(app, serving, listener)
            else:
                os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts
                del app
                app_of = _AppOf(tuple(addresses), serving, checkpoint, shards, _token(serving))
                _run_several(_AppOfWorker(app_of), serving, listener)


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """Let signals be answered by uvicorn alone, which raises them again when it has ended."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class _AppOfWorker:
    """Makes the app of a process that serves and does nothing else."""

    app_of: _AppOf

    def __call__(self) -> FastAPI:
        app = self.app_of()
        _use_one_thread_for_blas()  # now numpy is loaded
        return app


def _use_one_thread_for_blas() -> None:
    """Let each question be encoded by one thread.

    The products of one question are small: several threads for each do not pay when several questions come at once, and
    wait for each other in busy loops when other programs run (see docs/results.md). Searches are not limited.
    """
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=1, user_api="blas")


def _run(app: Any, serving: ServeConfig, listener: socket.socket) -> None:
    import uvicorn

    _use_one_thread_for_blas()
    uvicorn.Server(_config(app, serving)).run([listener])


def _run_several(app_of: _AppOfWorker, serving: ServeConfig, listener: socket.socket) -> None:
    from uvicorn.supervisors import Multiprocess

    Multiprocess(_config(app_of, serving, factory=True, workers=serving.workers), sockets=[listener]).run()


def _config(app: Any, serving: ServeConfig, **values: Any) -> Any:
    from dove_core.serve.protocol import PatientConfig

    return PatientConfig(
        app, headers_timeout=serving.client_timeout, log_config=_LOGS, access_log=False, ws="none",
        server_header=False, limit_concurrency=_CONNECTIONS, timeout_graceful_shutdown=_GRACE,
        timeout_worker_healthcheck=_SILENT, root_path=serving.root_path, **values,
    )  # fmt: skip


def _bound(serving: ServeConfig) -> socket.socket:
    """Return a socket that listens.

    Raises:
        UsageError: the address is in use, or not one of this machine.
    """
    try:
        [(family, kind, *_, address), *_] = socket.getaddrinfo(
            serving.host, serving.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with ExitStack() as unless_bound:
            listener = unless_bound.enter_context(socket.socket(family, kind))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_CONNECTIONS)
            unless_bound.pop_all()
    except OSError as error:
        message = f"--host {serving.host} --port {serving.port} cannot be served: {error.strerror}"
        raise UsageError(message, hint="choose another port, or --port 0 for any free one") from error
    listener.set_inheritable(True)
    return listener


def _token(serving: ServeConfig) -> str:
    """Return the token; empty if there is none.

    Raises:
        UsageError: the file cannot be read, or its token is too short.
    """
    if not serving.token_file:
        return ""
    path = Path(serving.token_file)
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        hint = f"write a secret word into it: openssl rand -hex 16 > {path}"
        raise UsageError(f"--token-file {path} cannot be read: {reason_of(error)}", hint=hint) from error
    if len(token) < _SHORTEST or len(token.split()) != 1:
        hint = f"write one word of at least {_SHORTEST} characters: openssl rand -hex 16 > {path}"
        raise UsageError(f"--token-file {path} has no usable token", hint=hint)
    return token


_LOGS = {
    "version": 1, "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(message)s"}, "notes": {"format": "%(levelname)s: %(message)s"}},
    "handlers": {
        "access": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "plain"},
        "notes": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "notes"},
    },
    "loggers": {
        "dove.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
        "dove.serve": {"handlers": ["notes"], "level": "INFO", "propagate": False},
        "uvicorn": {"handlers": ["notes"], "level": "WARNING", "propagate": False},
    },
}  # fmt: skip
