"""From the name that a user gives to a model, or to a release of data."""

from __future__ import annotations

import re
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from dove_core.data.fetching.catalog import RELEASES, Release
from dove_core.data.fetching.hub import DATASETS, PRIVATE, Repository, is_offline
from dove_core.data.fetching.lookup import HUB, find_release
from dove_core.encoding.clip_config import open_clip_library
from dove_core.errors import DownloadError, UsageError
from dove_core.pretrained.catalog import BY_CONFIG, CONFIG, MODELS, WEIGHTS, PretrainedModel

TAG = "open_clip:"
_CUSTOM = re.compile(r"[A-Za-z0-9][\w.-]*")
_FILE = "if it has weights of another form, download them, and give --from FILE, --architecture and the activation"


def find(
    name: str, *, architecture: str = "", quick_gelu: bool | None = None, has_file: bool = False
) -> PretrainedModel | Release:
    """Return the model or the release of a name.

    Args:
        name: of a row of the tables; `open_clip:ARCHITECTURE/TAG`; `hf:OWNER/NAME`, a model with an
            `open_clip_config.json` or a data set with Parquet files; or any name, for a file that is in no table.
        architecture: open_clip's name of the architecture, where nothing else says it.
        quick_gelu: the activation, where nothing else says it or the user knows better.
        has_file: the user has the file with the weights.

    Raises:
        DownloadError: the Hub has no such repository, refuses it or cannot be reached.
        UsageError: nothing has that name, or the choices do not fit it.
    """
    found = _named(name, has_file)
    if isinstance(found, PretrainedModel):
        return _with_choices(found, architecture, quick_gelu)
    if architecture or quick_gelu is not None:
        option = "--architecture" if architecture else "--quick-gelu"
        raise UsageError(f"{name} is not a model: {option} does not fit", hint=f"leave {option} out")
    return found


def _named(name: str, has_file: bool) -> PretrainedModel | Release:
    plain = name.lower().replace("_", "-")
    if name.startswith(TAG):
        return _of_tag(name.removeprefix(TAG))
    if name.startswith(HUB):
        return _of_hub(name.removeprefix(HUB))
    if plain in MODELS:
        return MODELS[plain]
    if plain in RELEASES:
        return RELEASES[plain]
    if has_file:
        if not _CUSTOM.fullmatch(name):
            raise UsageError(f"{name!r} cannot be the name of a folder", hint="use letters, digits, - and _")
        return PretrainedModel(name, "", (), "", None, "")
    hint = (
        f"releases: sample, {', '.join(RELEASES)}, {HUB}OWNER/NAME; models: {', '.join(MODELS)}, {HUB}OWNER/NAME, "
        f"{TAG}ARCHITECTURE/TAG; for a file that you have: --from FILE --architecture ARCHITECTURE and --quick-gelu or "
        "--no-quick-gelu"
    )
    raise UsageError(_unknown(name), hint=hint)


def _unknown(name: str) -> str:
    near = get_close_matches(name.lower().replace("_", "-"), [*MODELS, *RELEASES], n=3)
    return f"there is no release or model {name!r}" + (f"; similar: {', '.join(near)}" if near else "")


def _with_choices(model: PretrainedModel, architecture: str, quick_gelu: bool | None) -> PretrainedModel:
    """Return the model with the user's choices, which the tables do not overrule silently."""
    if architecture and model.architecture not in ("", architecture):
        message = f"{model.name} has the architecture {model.architecture}, not {architecture}"
        raise UsageError(message, hint="leave --architecture out, or choose another name")
    if quick_gelu is not None and quick_gelu != model.quick_gelu:
        option = "--quick-gelu" if quick_gelu else "--no-quick-gelu"
        reason = f"chosen with {option}" + (f"; the table says otherwise: {model.reason}" if model.reason else "")
        model = replace(model, quick_gelu=quick_gelu, reason=reason, is_verified=False)
    model = replace(model, architecture=architecture or model.architecture)
    if not model.base_url and (not model.architecture or model.quick_gelu is None):
        hint = (
            "for weights of your own give --architecture, such as ViT-B-32, and --quick-gelu (weights that follow from "
            "OpenAI's) or --no-quick-gelu (LAION's); the activation changes the scores, and no file of weights says it"
        )
        raise UsageError(f"{_unknown(model.name)}; so nothing says how to build it", hint=hint)
    return model


def _of_tag(text: str) -> PretrainedModel:
    """Return the model of an architecture and a tag, as open_clip's own table has it."""
    open_clip = open_clip_library()
    architecture, _, tag = text.partition("/")
    facts: dict[str, Any] = open_clip.get_pretrained_cfg(architecture, tag)
    if not facts:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        known = sorted({name for name, _ in open_clip.list_pretrained()})
        near = get_close_matches(architecture, known, n=3)
        hint = f"tags of {architecture}: {', '.join(tags)}" if tags else f"architectures: {', '.join(near or known)}"
        raise UsageError(f"open_clip has no weights {architecture}/{tag}", hint=hint)
    repository, _, file = facts["hf_hub"].rpartition("/")
    paths = (f"{file.rpartition('.')[0]}.safetensors", file) if file else WEIGHTS
    return PretrainedModel(
        f"{architecture}-{tag}".lower().replace("_", "-"), f"hf://{repository}", paths, architecture,
        bool(facts.get("quick_gelu", False)), f"open_clip's configuration of the tag {tag}",
        licence=f"see https://huggingface.co/{repository}",
        preprocess={name: facts[name] for name in ("mean", "std", "interpolation", "resize_mode")},
    )  # fmt: skip


def _of_hub(name: str) -> PretrainedModel | Release:
    """Return the model or the data set in a repository: the one that has what is needed, or the one asked for."""
    if name.startswith(f"//{DATASETS}"):
        return find_release(f"{HUB}{name.removeprefix(f'//{DATASETS}')}")
    is_model_asked, name = name.startswith("//"), name.removeprefix("//")
    model, data = Repository.of("model", name), Repository.of("dataset", name)
    is_cached = is_offline() and model.cached(CONFIG) is not None
    is_there = is_cached or model.exists()
    is_model = is_cached or (is_there and CONFIG in model.files())
    is_data = not (is_cached or is_model_asked) and data.exists()
    if is_model and is_data:
        raise UsageError(f"the Hub has a model and a data set {name}", hint=f"write {model.address} or {data.address}")
    if is_data:
        return find_release(f"{HUB}{name}")
    if not is_there:
        what = "no model" if is_model_asked else "neither a model nor a data set"
        raise DownloadError(f"the Hub has {what} {name}, or it is private", hint=PRIVATE)
    if not is_model:
        raise DownloadError(f"{model.page} has no {CONFIG}", hint=_FILE)
    licence, folder = f"see {model.page}", name.replace("/", "-").lower()
    return PretrainedModel(folder, model.address, WEIGHTS, "", None, BY_CONFIG, licence=licence)
