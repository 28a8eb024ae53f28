"""`dove fetch`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from dove_cli.defaults import DATA
from dove_cli.options import JsonOption
from dove_cli.render import note, print_json, reporting
from dove_core.errors import UsageError


def fetch(
    release: Annotated[
        Literal["skyscript", "sample"], typer.Argument(help="skyscript (about 150 GB), or sample: drawn here, 60 MB.")
    ] = "skyscript",
    out: Annotated[Path | None, typer.Option(help="Folder of the release. [default: data/<release>]")] = None,
    mirror: Annotated[str | None, typer.Option(help="Base URL to fetch from instead of the release's own.")] = None,
    checksums: Annotated[bool, typer.Option("--checksums/--no-checksums", help="Hold files to published MD5s.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Bring a release: captions, pictures and metadata, each file verified.

    Broken off and run again, it goes on where it stopped.

    - `dove fetch`
    - `dove fetch sample`
    """
    folder = out or DATA / release
    with reporting() as report:
        if release == "sample":
            if mirror or not checksums:
                raise UsageError("the sample is drawn here, not fetched", hint="leave --mirror and --no-checksums out")
            from dove_core.data.scenes import draw_release

            draw_release(folder, workers=min(8, os.cpu_count() or 1), report=report)
        else:
            from dove_core.data.fetching.catalog import RELEASES
            from dove_core.data.fetching.fetch import fetch as bring

            bring(RELEASES[release], folder, base_url=mirror, checksums=checksums, report=report)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if as_json:
        print_json({"release": release, "folder": str(folder), "files": {str(f): f.stat().st_size for f in files}})
    else:
        note(f"{release}: {len(files)} files, {sum(f.stat().st_size for f in files) / 1e6:,.0f} MB in {folder}")
