"""HTTP connections that give up on clients whose headers are too slow or too long, which uvicorn does not."""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class PatientConfig(uvicorn.Config):
    """Settings of uvicorn with a limit of time for the headers of a request, in seconds."""

    def __init__(self, app: Any, *, headers_timeout: float, **values: Any) -> None:
        super().__init__(app, http=TimedProtocol, **values)
        self.headers_timeout = headers_timeout


_HEADERS = 2**20
"""Largest number of bytes before the body of a request, and what comes with them."""


class TimedProtocol(HttpToolsProtocol):
    """A connection that is closed if the headers of a request are not complete in time, or are too long."""

    _timer: TimerHandle | None = None
    _before = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what a client sent."""
        self._before = self._before + len(data) if self._timer is not None else 0
        if self._before > _HEADERS:
            self.transport.close()
        else:
            super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin to wait for the headers of a request."""
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """Stop waiting."""
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, error: Exception | None) -> None:
        """Stop waiting."""
        self._stop()
        super().connection_lost(error)

    def _wait(self) -> None:
        self._stop()
        seconds = self.config.headers_timeout  # type: ignore[attr-defined]
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
