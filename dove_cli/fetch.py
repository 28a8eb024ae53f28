"""`dove fetch`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from dove_cli.defaults import DATA, MODELS
from dove_cli.options import JsonOption
from dove_cli.render import confirm, fetch_plan, model_plan, note, print_json, reporting
from dove_core.config import FetchConfig
from dove_core.errors import DownloadError, UsageError

if TYPE_CHECKING:
    from dove_core.data.fetching.catalog import Release
    from dove_core.data.fetching.plan import FetchPlan
    from dove_core.pretrained.catalog import PretrainedModel


def fetch(
    settings: FetchConfig,
    release: Annotated[
        str,
        typer.Argument(
            help="What to fetch. Data: skyscript (about 150 GB); rsicd (526 MB); sample (60 MB, drawn on this "
            "machine); benchmarks, or one of its sets, such as rsitmd; hf:OWNER/NAME, a data set of the Hugging Face "
            "Hub with images in Parquet files. Models: remoteclip-vit-b32 and others, listed for an unknown name; "
            "open_clip:ARCHITECTURE/TAG; hf:OWNER/NAME with an open_clip_config.json."
        ),
    ] = "skyscript",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the release or model. [default: data/RELEASE, models/MODEL]")
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(help="Other server to fetch from: web address, folder, s3://, gs:// or hf://datasets/OWNER/NAME."),
    ] = None,
    adopt: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Folder with zips or unpacked folders that you have; they are linked or copied, not fetched. For a "
            "model, the file with the weights.",
        ),
    ] = None,
    architecture: Annotated[
        str, typer.Option(help="Architecture of a model that is in no table, as open_clip names it.", metavar="NAME")
    ] = "",
    quick_gelu: Annotated[
        bool | None,
        typer.Option(
            "--quick-gelu/--no-quick-gelu",
            help="Activation of a model, where no table says it or you know better. [default: the table's]",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model that is here already, or make it again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Show for each file whether the server has it, and stop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before fetching.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a release, or some of it: captions, images and metadata, each file verified. Or fetch a model.

    It shows its plan first: every file with its size, what is here already, and the free space. An interrupted fetch
    resumes when it is run again. With --split or --limit, only those images are fetched out of the archives. If a
    release is at several places, the first one that has all files is used; files in the Hub's cache are not fetched.

    A model becomes a checkpoint in models/, which `--checkpoint` of the other commands takes by its name.

    - `dove fetch`
    - `dove fetch sample`
    - `dove fetch rsicd`
    - `dove fetch hf:arampacha/rsicd --split test`
    - `dove fetch --limit 10000 --parts 2`
    - `dove fetch --split test --dry-run`
    - `dove fetch benchmarks`
    - `dove fetch remoteclip-vit-b32`
    - `dove fetch open_clip:ViT-B-16-SigLIP2/webli`
    - `dove fetch mine --from epoch_20.pt --architecture ViT-B-32 --quick-gelu`
    """
    if release == "sample":
        if settings != FetchConfig() or mirror or adopt or dry_run or check or architecture or quick_gelu is not None:
            hint = "`dove fetch sample` takes --out only"
            raise UsageError("the sample release is drawn on this machine, not fetched", hint=hint)
        _draw(out or DATA / release, as_json)
        return
    if adopt is not None and not adopt.exists():
        raise UsageError(
            f"--from {adopt} does not exist",
            hint="give the folder with the files that you have, or the file of a model",
        )
    from dove_core.data.fetching.catalog import Release
    from dove_core.pretrained.lookup import find

    has_file = adopt is not None and adopt.is_file()
    found = find(release, architecture=architecture, quick_gelu=quick_gelu, has_file=has_file)
    how = _Run(settings, mirror, adopt, dry_run, check, yes, as_json)
    if isinstance(found, Release):
        if overwrite:
            raise UsageError(f"{found.name} is not a model: --overwrite does not fit", hint="leave --overwrite out")
        _fetch_release(found, out or DATA / found.name, how)
    else:
        _fetch_model(found, out or MODELS / found.name, overwrite, how)


class _Run(NamedTuple):
    """Options of releases and models alike."""

    settings: FetchConfig
    mirror: str | None
    adopt: Path | None
    dry_run: bool
    check: bool
    yes: bool
    as_json: bool

    def may_fetch(self) -> bool:
        """Ask, unless --yes was given or there is no terminal."""
        if self.yes or confirm("fetch this?"):
            return True
        note("nothing was fetched")
        return False


def _fetch_release(release: Release, folder: Path, how: _Run) -> None:
    from dove_core.data.fetching.fetch import execute, plan_fetch

    with reporting() as report:
        plan = plan_fetch(release, folder, how.settings, mirror=how.mirror, adopt=how.adopt, report=report)
    if how.dry_run or how.check:
        _show(plan, how.as_json, how.check)
        return
    note(fetch_plan(plan))
    plan.check()
    if plan.is_done or how.may_fetch():
        with reporting() as report:
            paths = execute(plan, report=report)
        _finish(release.name, folder, paths, how.as_json)


def _fetch_model(model: PretrainedModel, folder: Path, overwrite: bool, how: _Run) -> None:
    from dove_core.pretrained.plan import plan_model

    with reporting() as report:
        plan = plan_model(
            model, folder, how.settings, mirror=how.mirror, given=how.adopt, overwrite=overwrite, report=report
        )
    if how.check and plan.download is not None:
        _show(plan.download, how.as_json, True)
    elif how.dry_run or how.check:
        print_json(plan.as_dict()) if how.as_json else print(model_plan(plan))
        plan.check()
    else:
        note(model_plan(plan))
        plan.check()
        if plan.is_here or how.may_fetch():
            from dove_core.pretrained.fetch import execute_model

            with reporting() as report:
                execute_model(plan, report=report)
            if how.as_json:
                print_json({**plan.as_dict(), "is_here": True})


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
