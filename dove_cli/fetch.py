"""`dove fetch`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dove_cli.defaults import DATA
from dove_cli.options import JsonOption
from dove_cli.render import confirm, fetch_plan, note, print_json, reporting
from dove_core.config import FetchConfig
from dove_core.errors import DownloadError, UsageError

if TYPE_CHECKING:
    from dove_core.data.fetching.plan import FetchPlan


def fetch(
    settings: FetchConfig,
    release: Annotated[
        str,
        typer.Argument(
            help="What to fetch: skyscript (about 150 GB); rsicd (526 MB); sample (60 MB, drawn on this machine); "
            "benchmarks, or one of its sets, such as rsitmd; hf:OWNER/NAME, a data set of the Hugging Face Hub with "
            "images in Parquet files; a SkyCLIP checkpoint, such as skyclip-vit-b32-top50."
        ),
    ] = "skyscript",
    out: Annotated[Path | None, typer.Option(help="Folder of the release. [default: data/<release>]")] = None,
    mirror: Annotated[
        str | None,
        typer.Option(help="Other server to fetch from: web address, folder, s3://, gs:// or hf://datasets/OWNER/NAME."),
    ] = None,
    adopt: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Folder with zips or unpacked folders that you have; they are linked or copied, not fetched."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Show for each file whether the server has it, and stop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before fetching.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a release, or some of it: captions, images and metadata, each file verified.

    It shows its plan first: every file with its size, what is here already, and the free space. An interrupted fetch
    resumes when it is run again. With --split or --limit, only those images are fetched out of the archives. If a
    release is at several places, the first one that has all files is used; files in the Hub's cache are not fetched.

    - `dove fetch`
    - `dove fetch sample`
    - `dove fetch rsicd`
    - `dove fetch hf:arampacha/rsicd --split test`
    - `dove fetch --limit 10000 --parts 2`
    - `dove fetch --split test --dry-run`
    - `dove fetch benchmarks`
    """
    if release == "sample":
        if settings != FetchConfig() or mirror or adopt or dry_run or check:
            hint = "`dove fetch sample` takes --out only"
            raise UsageError("the sample release is drawn on this machine, not fetched", hint=hint)
        _draw(out or DATA / release, as_json)
        return
    from dove_core.data.fetching.fetch import execute, plan_fetch
    from dove_core.data.fetching.lookup import find_release

    chosen = find_release(release)
    with reporting() as report:
        plan = plan_fetch(chosen, out or DATA / chosen.name, settings, mirror=mirror, adopt=adopt, report=report)
    if dry_run or check:
        _show(plan, as_json, check)
        return
    note(fetch_plan(plan))
    plan.check()
    if not plan.is_done and not yes and not confirm("fetch this?"):
        note("nothing was fetched")
        return
    with reporting() as report:
        paths = execute(plan, report=report)
    _finish(chosen.name, plan.layout.folder, paths, as_json)


def _show(plan: FetchPlan, as_json: bool, check: bool) -> None:
    """Print the plan, and fail as the fetch would."""
    if as_json:
        print_json(plan.as_dict())
    elif check:
        for file in plan.files:
            size = "" if file.remote.version.size is None else f"  {file.remote.version.size}"
            print(f"{file.remote.presence:<11}  {file.address}{size}")
    else:
        print(fetch_plan(plan))
    if not check:
        plan.check()
    absent = [file for file in plan.files if file.remote.presence != "present"]
    if check and absent:
        problem = absent[0].remote.problem
        message = f"{len(absent)} of {len(plan.files)} files cannot be fetched"
        raise DownloadError(message, hint=problem.hint if problem is not None else "")


def _draw(folder: Path, as_json: bool) -> None:
    from dove_core.data.scenes import draw_release

    with reporting() as report:
        draw_release(folder, workers=min(8, os.cpu_count() or 1), report=report)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    _finish("sample", folder, paths, as_json)


def _finish(release: str, folder: Path, paths: Sequence[Path], as_json: bool) -> None:
    """Print which files are here; the images of an archive count as one folder."""
    sizes, count = {}, 0
    for path in paths:
        files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
        sizes[str(path)] = sum(one.stat().st_size for one in files)
        count += len(files)
    if as_json:
        print_json({"release": release, "folder": str(folder), "files": sizes})
    else:
        note(f"{release}: {count} files, {sum(sizes.values()) / 1e6:,.0f} MB in {folder}")
