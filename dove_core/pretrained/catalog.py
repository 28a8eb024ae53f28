"""Models that others trained: where their weights are, and what must be known to load them.

The activation decides about the scores, and no file of weights says it: OpenAI's weights were trained with QuickGELU,
LAION's with GELU. So each row has it with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dove_core.data.fetching.catalog import SKYSCRIPT

CONFIG = "open_clip_config.json"
"""File of a repository that says how open_clip builds its model."""

WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Names that the weights may have in a repository of open_clip, best first."""


@dataclass(frozen=True)
class PretrainedModel:
    """A model on a server.

    Attributes:
        name: of the model, and of its folder in models/.
        base_url: what the file is below, as in a release of data.
        path: names that the file with the weights may have, best first.
        architecture: as open_clip names it; "" if the repository has an `open_clip_config.json`, which says all.
        quick_gelu: whether its transformers have QuickGELU, not GELU; None if the configuration says it.
        reason: why.
        is_verified: whether its authors or a measurement confirm the activation.
        licence: of the weights.
        member: the file in the zip at `path`; "" if it is no zip.
        size: approximate bytes of the file at `path`; 0: not known.
        refusal: what helps if the server refuses access.
        preprocess: mean, std, interpolation and resize mode, where they are not those of the architecture.
    """

    name: str
    base_url: str
    path: tuple[str, ...]
    architecture: str
    quick_gelu: bool | None
    reason: str
    is_verified: bool = True
    licence: str = ""
    member: str = ""
    size: int = 0
    refusal: str = ""
    preprocess: Mapping[str, Any] = field(default_factory=dict)


BY_CONFIG = f"as open_clip reads its {CONFIG}"
"""Reason for the activation of a model with a configuration of its own."""

_AUTHORS = "trained on from OpenAI's weights, as its authors' README and notebook say"
_REFUSAL = (
    "SkyScript's server refused all downloads when others tried in August 2026 (issue 4054 of torchgeo); it may come "
    "back. Until then give a copy with --mirror or --from, or fetch a model from elsewhere: "
    "`dove fetch remoteclip-vit-b32`, `dove fetch georsclip-vit-b32`"
)


def _skyclip(name: str, stem: str, architecture: str, quick_gelu: bool, reason: str) -> PretrainedModel:
    return PretrainedModel(
        name, SKYSCRIPT.base_url, (f"ckpt/{stem}.zip",), architecture, quick_gelu, reason,
        licence="MIT (the authors' repository); the weights follow from CLIP's (MIT)",
        member=f"{stem}/epoch_20.pt", size=4_500_000_000 if architecture == "ViT-L-14" else 0, refusal=_REFUSAL,
    )  # fmt: skip


def _remoteclip(name: str, architecture: str, size: int) -> PretrainedModel:
    reason = (
        "trained on from OpenAI's weights with ITRA, where open_clip builds these with QuickGELU; its README loads it "
        f"as {architecture}, which has GELU"
    )
    return PretrainedModel(
        name, "hf://chendelong/RemoteCLIP", (f"RemoteCLIP-{architecture}.pt",), architecture, True, reason,
        is_verified=False, licence="see https://huggingface.co/chendelong/RemoteCLIP", size=size,
    )  # fmt: skip


def _georsclip(name: str, stem: str, architecture: str, size: int) -> PretrainedModel:
    is_from_openai = architecture != "ViT-H-14"
    return PretrainedModel(
        name, "hf://Zilun/GeoRSCLIP", (f"ckpt/{stem}.pt",), architecture, is_from_openai,
        f"trained on from {'OpenAI' if is_from_openai else 'LAION'}'s weights",
        licence="see https://huggingface.co/Zilun/GeoRSCLIP", size=size,
    )  # fmt: skip


def _farslip(number: int, patch: int) -> PretrainedModel:
    return PretrainedModel(
        f"farslip{number}-vit-b{patch}", "hf://ZhenShiL/FarSLIP", (f"FarSLIP{number}_ViT-B-{patch}.pt",),
        f"ViT-B-{patch}", True, "its authors' scripts force QuickGELU",
        licence="see https://huggingface.co/ZhenShiL/FarSLIP",
    )  # fmt: skip


_ROWS = (
    _remoteclip("remoteclip-rn50", "RN50", 408_000_000),
    _remoteclip("remoteclip-vit-b32", "ViT-B-32", 605_208_421),
    _remoteclip("remoteclip-vit-l14", "ViT-L-14", 1_710_000_000),
    _georsclip("georsclip-vit-b32", "RS5M_ViT-B-32", "ViT-B-32", 605_000_000),
    _georsclip("georsclip-vit-b32-ret2", "RS5M_ViT-B-32_RET-2", "ViT-B-32", 605_000_000),
    _georsclip("georsclip-vit-l14", "RS5M_ViT-L-14", "ViT-L-14", 1_710_635_010),
    _georsclip("georsclip-vit-l14-336", "RS5M_ViT-L-14-336", "ViT-L-14-336", 1_711_947_530),
    _georsclip("georsclip-vit-h14", "RS5M_ViT-H-14", "ViT-H-14", 3_900_000_000),
    *(_farslip(number, patch) for number in (1, 2) for patch in (32, 16)),
    _skyclip("skyclip-vit-b32-top50", "SkyCLIP_ViT_B32_top50pct", "ViT-B-32", False,
             "trained on from LAION's weights (laion2b_e16), as its authors' README says"),
    _skyclip("skyclip-vit-l14-top30", "SkyCLIP_ViT_L14_top30pct", "ViT-L-14", True, _AUTHORS),
    _skyclip("skyclip-vit-l14-top50", "SkyCLIP_ViT_L14_top50pct", "ViT-L-14", True, _AUTHORS),
    _skyclip("skyclip-vit-l14-top30-laion", "SkyCLIP_ViT_L14_top30pct_filtered_by_CLIP_laion_RS", "ViT-L-14", True,
             _AUTHORS),
    _skyclip("skyclip-vit-l14-top30-multi", "SkyCLIP_ViT_L14_top30pct_multi_objects", "ViT-L-14", True, _AUTHORS),
    _skyclip("clip-vit-l14-laion", "CLIP_ViT_L14_LAION_RS", "ViT-L-14", True, _AUTHORS),
    PretrainedModel("rs-m-clip", "hf://joaodaniel/RS-M-CLIP",
                    WEIGHTS, "", None,
                    BY_CONFIG, licence="see https://huggingface.co/joaodaniel/RS-M-CLIP"),
)  # fmt: skip

MODELS: Mapping[str, PretrainedModel] = MappingProxyType({row.name: row for row in _ROWS})
"""Every model that can be fetched by its name."""
