"""What fetching a model will do, known before it starts; nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dove_core.config import FetchConfig
from dove_core.data.fetching.catalog import Release, RemoteFile
from dove_core.data.fetching.plan import FetchPlan, plan_fetch
from dove_core.data.fetching.selection import select
from dove_core.data.fetching.transfers import Retry
from dove_core.encoding.clip_config import CONFIG, read_config
from dove_core.errors import UsageError
from dove_core.events import Report, silent
from dove_core.files import LocalPath, free_space
from dove_core.pretrained.catalog import PretrainedModel
from dove_core.pretrained.weights import check_space, digest_of, find_weights, space_needed


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
        needed = f"about {self.needed / 1e9:.1f} GB" if self.size else "an unknown number of GB"
        return f"{self.folder} needs {needed} while it is made; {free / 1e9:.1f} GB free"

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
    download = plan_fetch(release, work_folder(target), fetching, mirror=mirror, retry=retry, report=report)
    [file] = download.files
    plan = ModelPlan(model, target, _origin(model, file.file.path), mirror=mirror)
    return replace(plan, download=download) if file.found is None else replace(plan, weights=file.found)


def as_release(model: PretrainedModel) -> Release:
    """Return a model as a release of one file; where the file may have several names, they are alternatives."""
    files = [
        Release(
            name=model.name, base_url=model.base_url, files=(RemoteFile(path),), licence=model.licence,
            homepage=model.base_url, citation="", refusal=model.refusal,
        )
        for path in model.path or ("",)
    ]  # fmt: skip
    return replace(files[0], alternatives=tuple(files[1:]))


def work_folder(folder: Path) -> Path:
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
