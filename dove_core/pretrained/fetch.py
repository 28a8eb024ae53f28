"""A model of somebody else -> a checkpoint of ours: downloaded, or a file that the user has, and converted."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dove_core.config import FetchConfig
from dove_core.data.fetching.catalog import Release, RemoteFile
from dove_core.data.fetching.fetch import execute, fetch
from dove_core.data.fetching.hub import SCHEME
from dove_core.data.fetching.plan import FetchPlan, plan_fetch
from dove_core.data.fetching.selection import select
from dove_core.data.fetching.transfers import Retry
from dove_core.encoding.clip_config import CONFIG, INSTALL, read_config
from dove_core.encoding.clip_import import ModelSource, import_checkpoint
from dove_core.errors import CheckpointError, UsageError
from dove_core.events import Noted, Report, Saved, silent
from dove_core.files import LocalPath, free_space, read_json
from dove_core.pretrained.catalog import CONFIG as OPEN_CLIP_CONFIG, PretrainedModel
from dove_core.pretrained.doubt import doubt_about
from dove_core.pretrained.lookup import find
from dove_core.pretrained.tokenizer import SETTINGS, TOKENIZER, pad_tokenizer
from dove_core.pretrained.weights import check_space, digest_of, find_weights, space_needed, unpacked


@dataclass(frozen=True)
class ModelPlan:
    """What fetching a model will do.

    Attributes:
        model: what is fetched.
        folder: the checkpoint that is made.
        origin: where the weights are from.
        weights: the file with the weights, if it is on this machine.
        download: what is downloaded; None if the weights are on this machine.
        is_here: whether the checkpoint is here already, made of the same file with the same activation.
        mirror: another server that has the files.
    """

    model: PretrainedModel
    folder: Path
    origin: str = ""
    weights: Path | None = None
    download: FetchPlan | None = None
    is_here: bool = False
    mirror: str | None = None

    @property
    def size(self) -> int:
        """Bytes of the file with the weights, as far as known."""
        if self.weights is not None:
            return self.weights.stat().st_size
        remote = self.download.files[0].remote.version.size if self.download else None
        return self.model.size if remote is None else remote

    @property
    def needed(self) -> int:
        """About how many bytes of the disk are needed until the checkpoint is finished."""
        to_come = self.download.to_come if self.download else 0
        return 0 if self.is_here else to_come + space_needed(self.size, bool(self.model.member))

    def summary(self) -> str:
        """Return a line about what is made and how much disk it needs meanwhile."""
        if self.is_here:
            return f"{self.folder} is here already; --overwrite makes it again"
        free = free_space(self.folder)
        return f"{self.folder} needs about {self.needed / 1e9:.1f} GB while it is made; {free / 1e9:.1f} GB free"

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, for JSON."""
        model, download = self.model, {} if self.download is None else self.download.as_dict()
        return {
            **download, "model": model.name, "folder": str(self.folder), "is_here": self.is_here,
            "weights": None if self.weights is None else str(self.weights), "bytes_needed": self.needed,
            "architecture": model.architecture or None, "quick_gelu": model.quick_gelu, "reason": model.reason,
            "is_verified": model.is_verified, "licence": model.licence,
        }  # fmt: skip

    def check(self) -> None:
        """Check that the plan can be carried out.

        Raises:
            DownloadError: the file cannot be fetched.
            SpaceError: the disk has no room.
        """
        problem = self.download.problem() if self.download else None
        if problem is not None:
            raise problem
        check_space(self.folder, self.needed)


def plan_model(
    model: PretrainedModel,
    folder: LocalPath,
    fetching: FetchConfig = FetchConfig(),
    *,
    mirror: str | None = None,
    given: LocalPath | None = None,
    overwrite: bool = False,
    retry: Retry | None = None,
    report: Report = silent,
) -> ModelPlan:
    """Ask the server for a model's file, and look what is here; nothing is fetched.

    Args:
        model: what to fetch.
        folder: the checkpoint to make.
        fetching: how files are fetched; settings that choose parts of a release do not fit a model.
        mirror: another server that has the file.
        given: the file with the weights, or a folder that has it, instead of a download.
        overwrite: replace a checkpoint that was made of another file, or make it again.
        retry: when to repeat requests that failed.
        report: receives Noted.

    Raises:
        UsageError: a setting or a file cannot be used, or `folder` has something else.
    """
    target, release = Path(folder), as_release(model)
    select(release, fetching)
    if given is not None and mirror is not None:
        raise UsageError("--from and --mirror are both given", hint="give the file, or the server that has it")
    weights = None if given is None else find_weights(model, Path(given))
    if not overwrite and _is_made(model, weights, target):
        return ModelPlan(model, target, weights=weights, is_here=True)
    if weights is not None:
        return ModelPlan(model, target, str(weights.absolute()), weights)
    download = plan_fetch(release, _work(target), fetching, mirror=mirror, retry=retry, report=report)
    [file] = download.files
    plan = ModelPlan(model, target, _origin(model, file.file.path), mirror=mirror)
    return replace(plan, download=download) if file.found is None else replace(plan, weights=file.found)


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
    if plan.weights is not None:
        file = plan.weights
    else:
        assert plan.download is not None
        [file] = execute(plan.download, retry=retry, report=report)
    with unpacked(file, model.member, _work(folder), report) as weights:
        import_checkpoint(weights, folder, _source(plan, file, retry))
    shutil.rmtree(_work(folder), ignore_errors=True)
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


def as_release(model: PretrainedModel) -> Release:
    """Return a model as a release of one file; where the file may have several names, they are alternatives."""
    files = [
        Release(
            name=model.name, base_url=model.base_url, files=(RemoteFile(path),), licence=model.licence,
            homepage=model.base_url, citation="", md5_source="nobody", refusal=model.refusal,
        )
        for path in model.path or ("",)
    ]  # fmt: skip
    return replace(files[0], alternatives=tuple(files[1:]))


def _work(folder: Path) -> Path:
    """Return the folder for what is needed until the checkpoint is finished."""
    return folder.with_name(f".{folder.name}.fetch")


def _origin(model: PretrainedModel, path: str) -> str:
    """Return where the weights are from, as `model.json` says it; a mirror has the same file."""
    return f"{model.base_url.rstrip('/')}/{path}"


def _is_made(model: PretrainedModel, weights: Path | None, folder: Path) -> bool:
    """Return whether the folder has a checkpoint made of the same file in the same way.

    Raises:
        UsageError: it has something else.
    """
    if not folder.exists():
        return False
    keep = "--overwrite replaces it, --out FOLDER makes another one"
    if not (folder / CONFIG).exists():
        if folder.is_dir() and not any(folder.iterdir()):
            return False
        raise UsageError(f"{folder} is not a checkpoint, and not empty", hint="choose another folder with --out")
    config = read_config(folder)
    origins = [_origin(model, path) for path in model.path]
    if config.origin not in origins if weights is None else config.sha256 != digest_of(weights, model.member):
        raise UsageError(f"{folder} was made of another file: {config.origin}", hint=keep)
    wanted = "quick-gelu" if model.quick_gelu else "gelu"
    if model.quick_gelu is not None and config.activation != wanted:
        raise UsageError(f"{folder} has the activation {config.activation}, not {wanted}", hint=keep)
    return True


def _source(plan: ModelPlan, weights: Path, retry: Retry | None) -> ModelSource:
    """Return what is known of a model besides its weights; files that its configuration names are fetched.

    Such files are taken from beside the weights, if they are there.
    """
    model = plan.model

    def bring(repository: str, path: str) -> Path:
        if weights.with_name(path).is_file():
            return weights.with_name(path)
        release = as_release(replace(model, base_url=repository, path=(path,)))
        mirror = plan.mirror if repository == model.base_url else None
        [found] = fetch(release, _work(plan.folder) / repository.removeprefix(SCHEME), mirror=mirror, retry=retry)
        return found

    def content(repository: str, path: str) -> dict[str, Any]:
        found = read_json(bring(repository, path), CheckpointError, hint="give another --mirror, or leave it out")
        return found if isinstance(found, dict) else {}

    config = {} if model.architecture else content(model.base_url, OPEN_CLIP_CONFIG)
    source = ModelSource(model.architecture, model.quick_gelu, model.reason, model.is_verified, plan.origin,
                         model.licence, config, model.preprocess)  # fmt: skip
    text = _text_tower(source)
    if name := text.get("hf_tokenizer_name"):
        own, settings = (bring(f"{SCHEME}{name}", file) for file in (TOKENIZER, SETTINGS))
        source = replace(source, tokenizer=pad_tokenizer(own, settings, _work(plan.folder) / TOKENIZER))
    if name := text.get("hf_model_name"):
        source = replace(source, language_model=content(f"{SCHEME}{name}", "config.json"))
    return source


def _text_tower(source: ModelSource) -> dict[str, Any]:
    """Return the configuration of the text tower, which may name files of other repositories."""
    if source.config:
        found = source.config.get("model_cfg", {})
    else:
        try:
            import open_clip  # noqa: PLC0415  # of an extra
        except ImportError as error:
            raise UsageError("a CLIP model needs open_clip", hint=INSTALL) from error
        found = open_clip.get_model_config(source.architecture) or {}
    text: dict[str, Any] = found.get("text_cfg", {})
    return text
