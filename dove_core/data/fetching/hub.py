"""Repositories of the Hugging Face Hub: their files, and what its answers mean.

Addresses, token, cache and offline mode are those of the package `huggingface_hub`, with its variables HF_ENDPOINT,
HF_TOKEN, HF_HOME and HF_HUB_OFFLINE. Files are fetched by our own downloads, so that they resume, show their progress
and are stored once; a file in the Hub's cache is not fetched again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import httpx

from dove_core.data.fetching.servers import Remote, Version, WebFile
from dove_core.errors import DownloadError, UsageError

SCHEME = "hf://"
DATASETS = "datasets/"
_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_ADDRESS = re.compile(r"[\w.-]+(/[\w.-]+)?")  # old repositories have no owner in configurations of models
_VERSION = "X-Linked-Etag"  # of a large file: its SHA-256, where the ETag of the host that it is redirected to may vary
PRIVATE = "check the spelling; for a private repository, set HF_TOKEN to a token of an account that may read it"


@dataclass(frozen=True)
class Repository:
    """A repository of the Hub; `name` is OWNER/NAME."""

    kind: Literal["dataset", "model"]
    name: str

    @classmethod
    def at(cls, address: str) -> Repository:
        """Return the repository at `hf://datasets/OWNER/NAME` or, for a model, `hf://OWNER/NAME`.

        Raises:
            UsageError: the address has another form.
        """
        rest = address.removeprefix(SCHEME).rstrip("/")
        name = rest.removeprefix(DATASETS)
        if not _ADDRESS.fullmatch(name):
            hint = f"write {SCHEME}{DATASETS}OWNER/NAME for a data set, {SCHEME}OWNER/NAME for a model"
            raise UsageError(f"{address} is not the address of a repository", hint=hint)
        return cls("dataset" if name != rest else "model", name)

    @classmethod
    def of(cls, kind: Literal["dataset", "model"], name: str) -> Repository:
        """Return a repository by its name.

        Raises:
            UsageError: the name is not OWNER/NAME.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is not OWNER/NAME", hint="such as hf:arampacha/rsicd")
        return cls(kind, name)

    @property
    def address(self) -> str:
        """The address as `at` reads it."""
        return f"{SCHEME}{DATASETS if self.kind == 'dataset' else ''}{self.name}"

    @property
    def page(self) -> str:
        """The web page of the repository."""
        return f"{_hub().constants.ENDPOINT}/{DATASETS if self.kind == 'dataset' else ''}{self.name}"

    def exists(self) -> bool:
        """Return whether the Hub has it, as far as the user may know.

        Raises:
            DownloadError: the Hub cannot be reached, or does not accept the user's token.
        """
        return bool(self._ask(lambda hub: hub.HfApi().repo_exists(self.name, repo_type=self.kind)))

    def files(self) -> list[str]:
        """Return the paths of all files.

        Raises:
            DownloadError: there is no such repository, it may not be read, or the Hub cannot be reached.
        """
        return sorted(self._ask(lambda hub: hub.HfApi().list_repo_files(self.name, repo_type=self.kind)))

    def cached(self, path: str) -> Path | None:
        """Return a file in the Hub's cache; None if it is not there."""
        found = _hub().try_to_load_from_cache(self.name, path, repo_type=self.kind)
        return Path(found) if isinstance(found, str) else None

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        """Ask the Hub's client, whose errors are translated."""
        hub = _hub()
        _check_online(f"it cannot be asked for {self.page}")
        try:
            return question(hub)
        except hub.errors.HfHubHTTPError as error:
            response = error.response
            refusal = None if response is None else _refusal(self, response.status_code, response.headers, "")
            raise (refusal or _unreachable(self, error)) from error
        except Exception as error:  # each version of the client has its own
            raise _unreachable(self, error) from error


class HubFile(WebFile):
    """A file in a repository of the Hub. A large one is redirected to another host, which never sees the token."""

    def __init__(self, repository: Repository, path: str, client: httpx.Client) -> None:
        super().__init__(_hub().hf_hub_url(repository.name, path, repo_type=repository.kind), client)
        self._repository, self._path = repository, path

    def examine(self) -> Remote:
        """Request one byte, unless the Hub is switched off."""
        try:
            _check_online(f"{self.address} is not in its cache")
        except DownloadError as error:
            return Remote("unusable", problem=error)
        return super().examine()

    def kept_elsewhere(self, version: Version) -> Path | None:
        """Return the file in the Hub's cache on this machine, if it is of this version."""
        found = self._repository.cached(self._path)
        if found is None:
            return None
        blob = found.resolve()  # its name is the file's version
        mark = version.mark and version.mark.strip('"')
        return found if mark in (None, blob.name) and version.size in (None, blob.stat().st_size) else None

    def _check(self, answer: httpx.Response) -> None:
        refusal = _refusal(self._repository, answer.status_code, answer.headers, self._path)
        if refusal is not None:
            raise refusal
        super()._check(answer)

    def _version_in(self, answer: httpx.Response, offset: int, kept: Version | None = None) -> Version:
        version = super()._version_in(answer, offset, kept)
        marks = [past.headers[_VERSION] for past in answer.history if _VERSION in past.headers]
        return replace(version, mark=marks[0]) if marks else version

    def _condition(self, kept: Version | None) -> dict[str, str]:
        return {}  # the host of a large file does not know the Hub's versions; they are compared in the answer


def hub_headers() -> dict[str, str]:
    """Return the headers of requests to the Hub, with the user's token if there is one.

    Raises:
        UsageError: `huggingface_hub` is not installed.
    """
    headers: dict[str, str] = _hub().utils.build_hf_headers(library_name="dove")
    return headers


def _hub() -> Any:
    try:
        import huggingface_hub  # an extra
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        hint = "pip install 'dove-eo[hub]'"
        raise UsageError("the Hugging Face Hub needs the package huggingface_hub", hint=hint) from error
    return huggingface_hub


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE switches the Hub off."""
    return bool(_hub().constants.HF_HUB_OFFLINE)


def _check_online(problem: str) -> None:
    if is_offline():
        hint = "unset HF_HUB_OFFLINE, or give a copy with --mirror or --from"
        raise DownloadError(f"HF_HUB_OFFLINE switches the Hub off, and {problem}", hint=hint)


def _unreachable(repository: Repository, error: Exception) -> DownloadError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    hint = "check the network and HF_ENDPOINT, or give a copy with --mirror or --from"
    return DownloadError(f"{repository.page} cannot be read: {reason}", hint=hint)


def _refusal(repository: Repository, status: int, headers: Mapping[str, str], path: str) -> DownloadError | None:
    """Return what an answer of the Hub means, if it refuses."""
    page, code = repository.page, headers.get("X-Error-Code", "")
    if code == "GatedRepo":
        hint = f"accept the terms at {page} with an account, and set HF_TOKEN to a token of that account"
        return DownloadError(f"{page} is gated: its owners ask for consent to their terms ({status})", hint=hint)
    if code == "RepoNotFound":
        return DownloadError(f"the Hub has no {repository.kind} at {page}, or it is private ({status})", hint=PRIVATE)
    if code == "EntryNotFound":
        hint = f"its owners may have changed it: see {page}/tree/main"
        return DownloadError(f"{page} has no file {path} ({status})", hint=hint)
    if status == 401:
        hint = "set HF_TOKEN to a valid token, or unset it; `hf auth logout` removes a stored one"
        return DownloadError(f"the Hub does not accept the token for {page} ({status})", hint=hint)
    return None
