"""Settings of the server."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dove_core.bounds import Settings, setting as _setting
from dove_core.errors import UsageError

_LOCAL = ("127.0.0.1", "localhost", "::1")
_ORIGIN = re.compile(r"https?://[^/\s;,]+")


@dataclass(frozen=True)
class ServeConfig(Settings):
    """How an index is served over HTTP.

    >>> dove.ServeConfig(port=9000).is_local
    True
    """

    host: str = _setting("127.0.0.1", "Address to listen on; any other than this machine's own needs --token-file.")
    port: int = _setting(8080, "Port to listen on; 0: any free one.", low=0, high=65535)
    token_file: str = _setting("", "File with a token, without which every request except /healthz is refused.")
    workers: int = _setting(1, "Processes that answer requests; they share the mapped vectors.", low=1, high=64)
    basemap: str = _setting("", "Map tiles behind the footprints, such as http://tiles.local/{z}/{x}/{y}.png.")
    root_path: str = _setting("", "Path below which a proxy serves this server, such as /images.")
    allow_origins: str = _setting(
        "", "Web pages of other origins that may read answers, such as https://a.org,http://b."
    )
    image_hosts: str = _setting("", "Hosts from which image_url may have images fetched, such as tiles.local,b.org.")
    max_upload: float = _setting(20.0, "Largest size of an uploaded image in MB.", above=0, high=1000)
    max_pixels: float = _setting(64.0, "Largest size of an uploaded image in million pixels.", above=0, high=1000)
    client_timeout: float = _setting(
        20.0, "Seconds that a client may take to send a request, or to accept a part of the answer.", above=0, high=3600
    )
    access_log: bool = _setting(True, "Write a line of JSON for each request to standard output.")

    def __post_init__(self) -> None:
        """Check each field and the forms of addresses, and that only this machine is served without a token."""
        super().__post_init__()
        if not (self.is_local or self.token_file):
            hint = "give a file with a secret word, --token-file secret, or leave out --host"
            raise UsageError(f"--host {self.host} lets other machines in, and there is no token", hint=hint)
        if self.basemap and not (
            _ORIGIN.match(self.basemap) and {"{x}", "{y}", "{z}"} <= set(_fields_of(self.basemap))
        ):
            hint = "give the address of its tiles, such as http://tiles.local/{z}/{x}/{y}.png"
            raise UsageError(f"--basemap {self.basemap} is not a valid address of tiles", hint=hint)
        if self.root_path and not re.fullmatch(r"(/[\w.~-]+)+", self.root_path):
            hint = "give a path such as /images"
            raise UsageError(f"--root-path {self.root_path!r} is not a valid path", hint=hint)
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                hint = "give scheme and host, without a path, such as https://browser.example.org"
                raise UsageError(f"--allow-origins: {origin!r} is not a valid origin", hint=hint)

    @property
    def is_local(self) -> bool:
        """Tell whether only this machine can reach the server."""
        return self.host in _LOCAL

    @property
    def origins(self) -> list[str]:
        """Return the origins in `allow_origins`."""
        return _listed(self.allow_origins)

    @property
    def hosts_of_images(self) -> list[str]:
        """Return the hosts in `image_hosts`."""
        return _listed(self.image_hosts)

    @property
    def basemap_origin(self) -> str:
        """Return scheme and host of the map tiles; empty without them."""
        found = _ORIGIN.match(self.basemap)
        return found[0] if found else ""


def _fields_of(text: str) -> list[str]:
    return re.findall(r"\{\w+\}", text)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
