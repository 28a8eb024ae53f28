"""A model of somebody else -> a checkpoint of ours: downloaded, or a file that the user has, and converted."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dove_core.config import FetchConfig
from dove_core.data.fetching.catalog import Release
from dove_core.data.fetching.fetch import execute, fetch
from dove_core.data.fetching.hub import SCHEME
from dove_core.data.fetching.transfers import Retry
from dove_core.encoding.clip_config import INSTALL
from dove_core.encoding.clip_import import ModelSource, import_checkpoint
from dove_core.errors import CheckpointError, UsageError
from dove_core.events import Noted, Report, Saved, silent
from dove_core.files import LocalPath, read_json
from dove_core.pretrained.catalog import CONFIG
from dove_core.pretrained.doubt import doubt_about
from dove_core.pretrained.lookup import find
from dove_core.pretrained.plan import ModelPlan, as_release, plan_model, work_folder
from dove_core.pretrained.tokenizer import SETTINGS, TOKENIZER, pad_tokenizer
from dove_core.pretrained.weights import unpacked


def execute_model(plan: ModelPlan, *, retry: Retry | None = None, report: Report = silent) -> Path:
    """Carry out a plan; return the folder of the checkpoint.

    A download that was interrupted resumes, and one that cannot be converted stays for another try.

    Raises:
        CheckpointError: the file has no weights of this architecture, or would run code.
        DownloadError: the file is refused, missing or wrong, or the retries are exhausted.
        SpaceError: the disk is full.
        UsageError: a package is missing.
    """
    plan.check()
    model, folder = plan.model, plan.folder
    if plan.is_here:
        return folder
    for package in ("open_clip", "tokenizers"):  # a download of gigabytes would be for nothing
        if find_spec(package) is None:
            raise UsageError(f"{model.name} cannot be converted without the package {package}", hint=INSTALL)
    if plan.weights is not None:
        file = plan.weights
    else:
        assert plan.download is not None
        [file] = execute(plan.download, retry=retry, report=_without_saved(report))
    try:
        with unpacked(file, model.member, work_folder(folder), report) as weights:
            report(Noted(f"converting {weights.name}"))
            import_checkpoint(weights, folder, _source(plan, file, retry))
    except CheckpointError:
        if plan.download is not None:
            report(Noted(f"{file} stays for another try; delete {work_folder(folder)} to free its space"))
        raise
    shutil.rmtree(work_folder(folder), ignore_errors=True)
    report(Saved(str(folder)))
    if doubt := doubt_about(folder):
        report(Noted(doubt))
    return folder


def fetch_model(
    name: str,
    folder: LocalPath,
    fetching: FetchConfig = FetchConfig(),
    *,
    architecture: str = "",
    quick_gelu: bool | None = None,
    mirror: str | None = None,
    given: LocalPath | None = None,
    overwrite: bool = False,
    retry: Retry | None = None,
    report: Report = silent,
) -> Path:
    """Make a checkpoint of a model that others trained; what is here already is not fetched again.

    Args:
        name: of a model that `dove fetch` knows, such as `remoteclip-vit-b32`; `open_clip:ARCHITECTURE/TAG`;
            `hf:OWNER/NAME` with an `open_clip_config.json`; or any name, with `given`.
        folder: the checkpoint.
        fetching: how files are fetched.
        architecture: open_clip's name of the architecture, where no table says it.
        quick_gelu: whether the activation is QuickGELU, not GELU, where no table says it or you know better.
        mirror: another server that has the file.
        given: the file with the weights, instead of a download.
        overwrite: replace a checkpoint that was made of another file, or make it again.
        retry: when to repeat requests that failed.
        report: receives Started, Advanced, Noted and Saved.

    Returns:
        The folder, for `load_encoder` and all functions that take a checkpoint.

    Raises:
        CheckpointError: the file has no weights of this architecture, or would run code.
        DownloadError: the file is refused, missing or wrong, or the retries are exhausted.
        SpaceError: the disk has no room.
        UsageError: no model has the name, choices do not fit, or a package is missing.

    >>> folder = dove.fetch_model("mine", "models/mine", given="mine.pt", architecture="ViT-B-32", quick_gelu=True)
    >>> dove.load_encoder(folder).family
    'clip'
    """
    has_file = given is not None and Path(given).is_file()
    model = find(name, architecture=architecture, quick_gelu=quick_gelu, has_file=has_file)
    if isinstance(model, Release):
        raise UsageError(f"{name} is a release of data, not a model", hint="fetch it with `dove fetch`")
    plan = plan_model(
        model, folder, fetching, mirror=mirror, given=given, overwrite=overwrite, retry=retry, report=report
    )
    return execute_model(plan, retry=retry, report=report)


def _without_saved(report: Report) -> Report:
    """Return a receiver of events that is not told of files that are removed after the conversion."""
    return lambda event: None if isinstance(event, Saved) else report(event)


def _source(plan: ModelPlan, weights: Path, retry: Retry | None) -> ModelSource:
    """Return what is known of a model besides its weights; files that its configuration names are fetched.

    Files of the model's own repository are taken from beside the weights, if they are there.
    """
    model = plan.model

    def bring(repository: str, path: str) -> Path:
        is_own, beside = repository == model.base_url, weights.with_name(path)
        if is_own and beside.is_file():
            return beside
        release, mirror = as_release(replace(model, base_url=repository, path=(path,))), plan.mirror if is_own else None
        [found] = fetch(release, work_folder(plan.folder) / repository.removeprefix(SCHEME), mirror=mirror, retry=retry)
        return found

    def content(repository: str, path: str) -> dict[str, Any]:
        found = read_json(bring(repository, path), CheckpointError, hint="give another --mirror, or leave it out")
        return found if isinstance(found, dict) else {}

    config = {} if model.architecture else content(model.base_url, CONFIG)
    source = ModelSource(model.architecture, model.quick_gelu, model.reason, model.is_verified, plan.origin,
                         model.licence, config, model.preprocess)  # fmt: skip
    text: dict[str, Any] = source.model_config().get("text_cfg", {})
    if name := text.get("hf_tokenizer_name"):
        own, settings = (bring(f"{SCHEME}{name}", file) for file in (TOKENIZER, SETTINGS))
        source = replace(source, tokenizer=pad_tokenizer(own, settings, work_folder(plan.folder) / TOKENIZER))
    if name := text.get("hf_model_name"):
        source = replace(source, language_model=content(f"{SCHEME}{name}", "config.json"))
    return source
