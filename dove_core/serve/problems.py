"""Errors as JSON of RFC 7807, with the hint of a `DoveError`.

What a client can put right is said to it. What only this machine can put right is logged, since it may name files.
"""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from stac_fastapi.types.errors import NotFoundError
from starlette.exceptions import HTTPException

from dove_core.errors import DataError, DoveError, UsageError

PROBLEM = "application/problem+json"
_OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)")
_log = logging.getLogger("dove.serve")


def problem(status: int, detail: str, hint: str = "", headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error of a request; options in its text become parameters."""
    content: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    content |= {name: _as_parameters(text) for name, text in (("detail", detail), ("hint", hint)) if text}
    return JSONResponse(content, status, headers=headers, media_type=PROBLEM)


def add_problems(app: FastAPI) -> None:
    """Answer every error of an app by a `problem`."""
    app.add_exception_handler(DoveError, _of_dove)
    app.add_exception_handler(NotFoundError, lambda request, error: problem(404, str(error)))
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(ValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)


def _of_dove(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DoveError)
    if isinstance(error, UsageError | DataError):
        return problem(400, error.message, error.hint)
    _log.error("%s %s: %s; hint: %s", request.method, request.url.path, error.message, error.hint or "none")
    return problem(503, "the index, its model, images or marks cannot be used now; the server's log says why")


def _of_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError | ValidationError)
    found = []
    for one in error.errors():
        place = ".".join(str(part) for part in one["loc"] if part not in ("body", "query", "path"))
        found.append(f"{place}: {one['msg']}" if place else one["msg"])
    return problem(400, "; ".join(found[:5]), "the parameters are described at /api.html")


def _of_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))


def _as_parameters(text: str) -> str:
    return _OPTION.sub(lambda match: match[1].replace("-", "_"), text.encode("utf-8", "replace").decode())
