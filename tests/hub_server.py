"""The Hugging Face Hub on this machine: a server that speaks its protocol, and a second one that has the large files.

`huggingface_hub` works against it through HF_ENDPOINT.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.http_server import Served, Server, serving

TOKEN = "hf_of_a_reader"  # its account may read everything
STRANGER = "hf_of_a_stranger"  # valid too, but its account has accepted no terms
_PAGE = 2  # entries in one answer to a request for the tree


@dataclass
class Repository:
    """A repository with its files; those of `large` bytes or more are on the second host."""

    name: str
    kind: Literal["dataset", "model"] = "dataset"
    files: dict[str, bytes] = field(default_factory=dict)
    is_gated: bool = False
    large: int = 1024

    @property
    def commit(self) -> str:
        """A hash over all files, as long as Git's."""
        digests = {path: hashlib.sha256(body).hexdigest() for path, body in self.files.items()}
        return hashlib.sha1(json.dumps(digests, sort_keys=True).encode()).hexdigest()


class HubServer(Server):
    """Answers for repositories; `blobs` is the host of large files."""

    def __init__(self) -> None:
        super().__init__()
        self.repositories: list[Repository] = []
        self.blobs = Server()

    def add(self, name: str, files: Mapping[str, bytes], **facts: Any) -> Repository:
        """Publish a repository."""
        repository = Repository(name, files=dict(files), **facts)
        self.repositories.append(repository)
        for body in files.values():
            self.blobs.files.setdefault(hashlib.sha256(body).hexdigest(), Served(body, etag='"of the second host"'))
        return repository

    def blob(self, body: bytes) -> Served:
        """Return what the second host has of a large file."""
        return self.blobs.files[hashlib.sha256(body).hexdigest()]

    def environment(self, home: object) -> dict[str, str]:
        """Return variables with which `huggingface_hub` asks this server and keeps its cache in a folder."""
        return {
            "HF_ENDPOINT": self.url().rstrip("/"), "HF_HOME": str(home), "NO_PROXY": "127.0.0.1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1",
        }  # fmt: skip

    def find(self, path: str, headers: Message) -> Served | None:
        """Return the answer for an address of the Hub."""
        address = urlsplit("/" + path)
        place = unquote(address.path).strip("/")
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in ("", TOKEN, STRANGER):
            return _refused(401, "", "Invalid credentials in Authorization header")
        if place.startswith("api/"):
            kind, _, rest = place.removeprefix("api/").partition("s/")
            name, is_tree, _ = rest.partition("/tree/")
            repository = self._repository(kind, name)
            if repository is None:
                return _missing(token)
            return self._tree(repository, address.query) if is_tree else _facts(repository)
        kind = "dataset" if place.startswith("datasets/") else "model"
        name, is_file, rest = place.removeprefix("datasets/").partition("/resolve/")
        return self._file(self._repository(kind, name), rest.partition("/")[2], token) if is_file else None

    def _repository(self, kind: str, name: str) -> Repository | None:
        return next((one for one in self.repositories if (one.kind, one.name) == (kind, name)), None)

    def _tree(self, repository: Repository, query: str) -> Served:
        start = int(parse_qs(query).get("cursor", ["0"])[0])
        paths = sorted(repository.files)
        entries = [_entry(path, repository) for path in paths[start : start + _PAGE]]
        answer = _json(entries)
        if start + _PAGE < len(paths):
            place = f"api/{repository.kind}s/{repository.name}/tree/main?recursive=true&cursor={start + _PAGE}"
            answer.headers["Link"] = f'<{self.url(place)}>; rel="next"'
        return answer

    def _file(self, repository: Repository | None, path: str, token: str) -> Served:
        if repository is None:
            return _missing(token)
        if repository.is_gated and token != TOKEN:
            return _refused(403 if token else 401, "GatedRepo", f"Access to {repository.name} is restricted.")
        commit = {"X-Repo-Commit": repository.commit}
        body = repository.files.get(path)
        if body is None:
            return _refused(404, "EntryNotFound", "Entry not found", commit)
        if len(body) < repository.large:
            return Served(body, etag=f'"{hashlib.sha1(body).hexdigest()}"', headers=commit)
        sha = hashlib.sha256(body).hexdigest()
        linked = {"X-Linked-Size": str(len(body)), "X-Linked-Etag": f'"{sha}"', "ETag": '"of the redirect"'}
        return Served(b"", redirect=self.blobs.url(sha), headers=commit | linked)


@contextmanager
def hub_serving() -> Iterator[HubServer]:
    """Run both hosts for as long as the block runs."""
    with serving() as blobs, serving(HubServer) as hub:
        hub.blobs.server_close()
        hub.blobs = blobs
        yield hub


def use_in_this_process(hub: HubServer, home: Path, patch: pytest.MonkeyPatch, *, offline: bool = False) -> None:
    """Have `huggingface_hub` in this process as its variables would, which it reads when it is imported."""
    from huggingface_hub import constants

    for name, value in hub.environment(home).items():
        patch.setenv(name, value)
    endpoint = hub.url().rstrip("/")
    patch.setattr(constants, "ENDPOINT", endpoint)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    patch.setattr(constants, "HF_HUB_OFFLINE", offline)


def _json(value: Any) -> Served:
    return Served(json.dumps(value).encode(), content_type="application/json")


def _entry(path: str, repository: Repository) -> dict[str, Any]:
    body = repository.files[path]
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
    if len(body) >= repository.large:
        entry["lfs"] = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 130}
    return entry


def _facts(repository: Repository) -> Served:
    return _json(
        {
            "id": repository.name, "sha": repository.commit, "private": False, "disabled": False, "tags": [],
            "gated": "manual" if repository.is_gated else False, "downloads": 0, "likes": 0,
            "siblings": [{"rfilename": path} for path in sorted(repository.files)],
        }
    )  # fmt: skip


def _refused(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Served:
    named = {"X-Error-Code": code} if code else {}
    return Served(b"", status=status, headers={**named, "X-Error-Message": message, **(headers or {})})


def _missing(token: str) -> Served:
    """Return the answer for a repository that does not exist: without a token it might be a private one."""
    return _refused(404 if token else 401, "RepoNotFound", "Repository not found")
