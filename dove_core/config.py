"""All settings of the library and the command line: type, default, help and bounds.

The command line derives its options from these fields, and checkpoints store them. A field's metadata carries `help`
and, where they make sense, `low`, `high` (both allowed) and `above` (itself not allowed). A `Literal` type lists the
choices. Every class checks its values when an object is made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from dove_core.bounds import Settings, setting as _setting
from dove_core.errors import UsageError
from dove_core.machines import (
    CacheConfig as CacheConfig,
    ComputeConfig as ComputeConfig,
    Device as Device,
    ExecutorConfig as ExecutorConfig,
    LaunchConfig as LaunchConfig,
)
from dove_core.query_config import (
    FilterConfig as FilterConfig,
    PushConfig as PushConfig,
    QueryConfig as QueryConfig,
    RankConfig as RankConfig,
    VerifyConfig as VerifyConfig,
)
from dove_core.serve_config import ServeConfig as ServeConfig
from dove_core.train_config import (
    FineTuneConfig as FineTuneConfig,
    TrainConfig as TrainConfig,
)

CAPTION_FIELD = "title_multi_objects"


@dataclass(frozen=True)
class FetchConfig(Settings):
    """What to fetch of a release, and how.

    >>> dove.FetchConfig(split="test", limit=1000).captions
    'openai-top50'
    """

    split: Literal["all", "train", "val", "test"] = _setting("all", "Fetch the captions and images of one split only.")
    captions: Literal[
        "openai-top50", "openai-top30", "laion-top50", "laion-top30", "unfiltered",
        "laion-top50-polished", "laion-top30-polished", "unfiltered-polished",
    ] = _setting("openai-top50", "Training captions: top50 keeps the best 50 % by scores of a CLIP model.")  # fmt: skip
    parts: str = _setting("all", "Archives to take images from, by number, such as 2,3.")
    meta: bool = _setting(True, "Also fetch the location, time and tags of each image.")
    limit: int = _setting(0, "Fetch this many images of each split, drawn at random; 0: all.", low=0)
    checksum: bool = _setting(True, "Compare files with their published MD5 checksums.")
    connections: int = _setting(16, "Files, or ranges of them, to request at once.", low=1, high=256)


@dataclass(frozen=True)
class ShardConfig(Settings):
    """How shards are made.

    >>> dove.ShardConfig(image_size=256).shard_size
    2000
    """

    shard_size: int = _setting(2000, "Images in one shard.", low=1, high=1_000_000)
    seed: int = _setting(0, "Seed of the random order of the images in the shards.", low=0)
    max_bad: float = _setting(
        0.01, "Largest share of rows without a usable image or caption; above it, sharding is an error.", low=0, high=1
    )
    verify: Literal["header", "full"] = _setting(
        "full",
        "How JPEGs are checked: full decodes each, header reads its start and end. CRCs of zips are always checked.",
    )
    image_size: int = _setting(
        0,
        "Downsample larger images so that the shorter side has this many pixels; 0: keep all images as they are.",
        low=0,
        high=8192,
    )
    image_format: Literal["jpeg", "webp"] = _setting(
        "jpeg", "Format of images that are downsampled, or are not RGB or grey JPEGs."
    )
    quality: int = _setting(95, "Quality of images that are downsampled, or are not RGB or grey JPEGs.",
                            low=1, high=100)  # fmt: skip
    workers: int = _setting(0, "Processes that make shards; 0: one for each CPU core.", low=0)


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Architecture of a DOVE model; stored in its checkpoint.

    >>> dove.ModelConfig(backbone="resnet18", embed_dim=256).heads
    8
    """

    backbone: str = _setting(
        "resnet50",
        "Backbone of the image encoder: resnet18, resnet34, resnet50, resnet101, or a model of timm, such as "
        "timm:convnext_tiny (pip install 'dove-eo[timm]').",
    )
    image_size: int = _setting(256, "Side of the square input image, in pixels.", low=32, high=2048)
    embed_dim: int = _setting(512, "Dimension of the embeddings; a multiple of --heads.", low=8)
    heads: int = _setting(8, "Number of attention heads.", low=1)
    word_dim: int = _setting(300, "Dimension of the word embeddings.", low=1)
    max_tokens: int = _setting(64, "Largest number of words read of a caption.", low=1)
    region_grid: int = _setting(6, "Rows and columns of the grid that divides an image into regions.", low=1, high=32)
    center_box: Literal["none", "center"] = _setting("none", "center: add one more region in the middle of the image.")
    center_box_frac: float = _setting(
        0.5, "Side of the region of --center-box center, as a share of the image side.", above=0, high=1
    )
    dropout: float = _setting(0.1, "Dropout rate of words and attended features in training.", low=0, high=0.9)
    caption_field: str = _setting(
        CAPTION_FIELD, "Caption field to train on, if the images have captions of several kinds."
    )

    def __post_init__(self) -> None:
        """Check each field, the form of `backbone`, and that `embed_dim` is a multiple of `heads`."""
        super().__post_init__()
        if not re.fullmatch(r"resnet(18|34|50|101)|timm:[\w.]+", self.backbone):
            hint = "choose from resnet18, resnet34, resnet50, resnet101, or timm:NAME with a name that timm knows"
            raise UsageError(f"--backbone {self.backbone!r} is not a valid choice", hint=hint)
        if self.embed_dim % self.heads:
            message = f"--embed-dim {self.embed_dim} is not a multiple of --heads {self.heads}"
            raise UsageError(message, hint="for example --embed-dim 512 --heads 8")


@dataclass(frozen=True)
class EvalConfig(Settings):
    """How retrieval is evaluated.

    >>> dove.EvalConfig(rerank=20, bootstrap=0).rerank
    20
    """

    rerank: int = _setting(
        50, "Candidates of each query that the `reranked` row ranks again; 0: leave out this row.", low=0
    )
    protocol: Literal["auto", "captions-5", "unique-text"] = _setting(
        "auto",
        "captions-5: each caption is a text; unique-text: equal ones are one; auto: captions-5 if images have several.",
    )
    prefix: str = _setting(
        "", "Text to put before each caption; SkyScript's own evaluation uses 'a satellite image. '."
    )
    bootstrap: int = _setting(
        1000, "Bootstrap samples for the 95 % interval of mean recall; 0: no interval.", low=0, high=100_000
    )
    pairwise: bool = _setting(True, "Also score every pair of image and caption; the cost grows with their product.")
    caption_field: str = _setting(
        "", "Caption field to evaluate with; default: the field that the model was trained on."
    )
    batch_size: int = _setting(64, "Images encoded at once.", low=1)
    gpus: int = _setting(
        1, "Processes that share the evaluation of retrieval, one for each GPU; CPU processes with --device cpu.", low=1
    )


@dataclass(frozen=True)
class ZeroShotConfig(Settings):
    """How zero-shot classification is evaluated.

    >>> dove.ZeroShotConfig(label_field="label", templates="an aerial photo of {c}").label_field
    'label'
    """

    label_field: str = _setting(
        "", "Evaluate classification instead of retrieval: caption field or CSV column with the labels."
    )
    templates: str = _setting(
        "a satellite photo of {c}.|a satellite image of {c}",
        "Prompts for classification, {c} stands for the class; several, separated by |, are averaged.",
    )
    class_names: str = _setting(
        "", "Text file with all class names for classification, one on each line; default: the labels of the images."
    )


@dataclass(frozen=True)
class EmbedConfig(Settings):
    """How images are embedded.

    >>> dove.EmbedConfig(tile=256, bands="4,3,2").band_numbers
    (4, 3, 2)
    """

    batch_size: int = _setting(64, "Images encoded at once.", low=1)
    gpus: int = _setting(1, "Processes that share the work, one for each GPU; CPU processes with --device cpu.", low=1)
    layout: Literal["dove", "clip-retrieval"] = _setting(
        "dove",
        "clip-retrieval: also write img_emb/ and metadata/, which clip-retrieval reads, to the folder of the index.",
    )
    regions: bool = _setting(False, "Also store the regions of each image (20 kB), so that --rerank reads no images.")
    part_size: int = _setting(
        1000,
        "Images of a folder or Parquet file, or tiles of a GeoTIFF, in one file of embeddings; a shard or tar is one "
        "file.",
        low=1,
    )
    tile: int = _setting(
        0,
        "Cut GeoTIFFs and other scenes into square tiles of this many pixels; 0: every file is one image.",
        low=0,
        high=8192,
    )
    stride: int = _setting(0, "Pixels from one tile to the next; 0: the tile size, without overlap.", low=0)
    bands: str = _setting(
        "",
        "Red, green and blue band, such as 4,3,2, or one band; default: those that the file says, or the first three.",
    )

    def __post_init__(self) -> None:
        """Check each field, and that the settings of tiles fit together."""
        super().__post_init__()
        if (self.stride or self.band_numbers) and not self.tile:
            option = "--stride" if self.stride else "--bands"
            raise UsageError(f"{option} needs --tile", hint="choose a tile size, such as --tile 256")
        if self.stride > self.tile:
            message = f"--stride {self.stride} would leave gaps between tiles of {self.tile} pixels"
            raise UsageError(message, hint=f"use at most --stride {self.tile}")

    @property
    def band_numbers(self) -> tuple[int, ...]:
        """Return the band numbers in `bands`, from 1; none if the file decides.

        Raises:
            UsageError: `bands` is not one or three numbers.
        """
        if not self.bands:
            return ()
        words = self.bands.split(",")
        if len(words) not in (1, 3) or not all(re.fullmatch(r"\s*[1-9]\d{0,4}\s*", word) for word in words):
            hint = "give one band, or three for red, green and blue: --bands 4,3,2"
            raise UsageError(f"--bands {self.bands!r} is not a valid list of bands", hint=hint)
        return tuple(map(int, words))
