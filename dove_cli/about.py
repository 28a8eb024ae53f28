"""The version of dove, and what it says of an unexpected error."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, metadata

_DISTRIBUTION = "dove-eo"
_ISSUES = "Issues"
"""The entry of `[project.urls]` in pyproject.toml with the address for bug reports; it may be missing."""


def version() -> str:
    """Return the version that pip installed."""
    try:
        return str(metadata(_DISTRIBUTION)["Version"])
    except PackageNotFoundError:
        return "unknown"


def bug_report() -> str:
    """Return the lines that follow the traceback of an unexpected error."""
    system = f"dove {version()}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    address = _address()
    where = f" at {address}" if address else ""
    return f"this is a bug in dove; please report it{where}, with the command and all lines above\n{system}"


def _address() -> str:
    """Return the address for bug reports; "" if the project has none."""
    try:
        entries = metadata(_DISTRIBUTION).get_all("Project-URL") or []
    except PackageNotFoundError:
        return ""
    urls: dict[str, str] = dict(str(entry).split(", ", 1) for entry in entries)
    return urls.get(_ISSUES, "")
