"""All settings: each is defined once, with its type, default, help text and bounds.

The command line makes its options from these fields, and checkpoints store them. A `Literal` type lists the choices.
Each class checks its values when an object is made.
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

CAPTION_FIELD = "title_multi_objects"


@dataclass(frozen=True)
class FetchConfig(Settings):
    """What to fetch from a release, and how."""

    split: Literal["all", "train", "val", "test"] = _setting("all", "Split whose captions and images are fetched.")
    captions: Literal[
        "openai-top50", "openai-top30", "laion-top50", "laion-top30", "unfiltered",
        "laion-top50-polished", "laion-top30-polished", "unfiltered-polished",
    ] = _setting("openai-top50", "Training captions: model of the filter, and the share that it kept.")  # fmt: skip
    parts: str = _setting("all", "Numbers of the image archives to fetch, such as 2,3; all: every archive.")
    meta: bool = _setting(True, "Also fetch footprint, time and tags of each image.")
    limit: int = _setting(0, "Fetch this many images of each split, drawn at random; 0: all.", low=0)
    checksum: bool = _setting(True, "Check files against their published MD5 checksums.")
    connections: int = _setting(16, "Number of files, or ranges of files, requested at once.", low=1, high=256)


@dataclass(frozen=True)
class ShardConfig(Settings):
    """How `dove shard` makes shards from a release."""

    shard_size: int = _setting(2000, "Number of images in a shard.", low=1, high=1_000_000)
    seed: int = _setting(0, "Random seed of the order of the images in the shards.", low=0)
    max_bad: float = _setting(0.01, "Largest share of unusable rows; a larger one is an error.", low=0, high=1)
    verify: Literal["header", "full"] = _setting(
        "full", "header: check the first and last bytes of each JPEG; full: decode it. CRCs in zips are always checked."
    )
    image_size: int = _setting(
        0, "Shrink larger images so that their shorter side has this many pixels; 0: keep their size.", low=0, high=8192
    )
    image_format: Literal["jpeg", "webp"] = _setting("jpeg", "Format of images that are encoded again.")
    quality: int = _setting(
        95,
        "Quality of images that are encoded again: shrunk ones, and all but RGB and grey JPEGs.",
        low=1,
        high=100,
    )
    workers: int = _setting(0, "Number of processes that make shards; 0: one for each CPU core.", low=0)


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Architecture of a DOVE model; saved in its checkpoint."""

    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = _setting(
        "resnet50", "Backbone of the image encoder."
    )
    image_size: int = _setting(256, "Side of the model's square input image in pixels.", low=32, high=2048)
    embed_dim: int = _setting(512, "Dimensions of an embedding; a multiple of --heads.", low=8)
    heads: int = _setting(8, "Number of attention heads.", low=1)
    word_dim: int = _setting(300, "Dimensions of a word embedding.", low=1)
    max_tokens: int = _setting(64, "Number of words read from a caption; further words are ignored.", low=1)
    region_grid: int = _setting(6, "Rows and columns of the grid that divides an image into regions.", low=1, high=32)
    center_box: Literal["none", "center"] = _setting("none", "center: add a region in the middle of the image.")
    center_box_frac: float = _setting(0.5, "Side of the centre region as a share of the image side.", above=0, high=1)
    dropout: float = _setting(0.1, "Dropout rate of words and attended features in training.", low=0, high=0.9)
    caption_field: str = _setting(CAPTION_FIELD, "Caption field to train with, if the shards have several.")

    def __post_init__(self) -> None:
        """Check each field, and that `embed_dim` is a multiple of `heads`."""
        super().__post_init__()
        if self.embed_dim % self.heads:
            message = f"--embed-dim {self.embed_dim} is not a multiple of --heads {self.heads}"
            raise UsageError(message, hint="the defaults are --embed-dim 512 --heads 8")


@dataclass(frozen=True)
class TrainConfig(Settings):
    """How a model is trained."""

    weights: str = _setting("imagenet", "Initial weights of the backbone: imagenet, none (random), or a file.")
    epochs: int = _setting(20, "Number of passes over all training images.", low=1)
    batch_size: int = _setting(64, "Number of images in a batch of each process.", low=2)
    learning_rate: float = _setting(2e-4, "Highest learning rate, after the warm-up.", above=0)
    weight_decay: float = _setting(0.05, "Weight decay of AdamW; not applied to biases and norms.", low=0)
    warmup: float = _setting(0.05, "Share of all steps in which the learning rate rises.", low=0, high=1)
    grad_clip: float = _setting(1.0, "Largest norm of the gradient; 0: no clipping.", low=0)
    lambda_g: float = _setting(10.0, "Weight of the loss of global embeddings; the loss of pairs has weight 1.", low=0)
    objective: Literal["triplet", "infonce"] = _setting("triplet", "Loss of a matrix of scores: triplet or InfoNCE.")
    margin: float = _setting(0.2, "Margin of the triplet loss.", above=0)
    negatives: Literal["sum", "hardest"] = _setting("sum", "Negatives of the triplet loss: all, or the hardest.")
    temperature: float = _setting(0.07, "Initial temperature of infonce, which is learned.", above=0)
    freeze_backbone: bool = _setting(False, "Do not train the backbone, nor update its batch-norm statistics.")
    unfreeze_after: int = _setting(
        0, "With --freeze-backbone: train the backbone too after this many epochs; 0: never.", low=0
    )
    accumulate: int = _setting(1, "Number of batches whose gradients are added up for one step.", low=1)
    average: float = _setting(
        0.0,
        "Decay of a moving average of the weights, which is saved as the model; 0: no average.",
        low=0,
        high=0.99999,
    )
    max_broken: float = _setting(
        0.001, "Largest share of images that may fail to decode; a larger share is an error.", low=0, high=1
    )
    captions_per_picture: int = _setting(
        1, "Number of captions of an image that the global loss takes in a step.", low=1, high=100
    )
    paired_captions: int = _setting(
        1,
        "Number of these captions that the loss of pairs takes; each needs a pair with every image.",
        low=1,
        high=100,
    )
    random_rotation: bool = _setting(True, "Rotate training images by random multiples of 90 degrees and mirror them.")
    crop_scale: float = _setting(
        0.6, "Smallest share of an image's area that a random crop keeps; 1: no crop.", above=0, high=1
    )
    jitter: float = _setting(
        0.0, "Change brightness, contrast and saturation at random by up to this share; 0: no change.", low=0, high=1
    )
    min_word_count: int = _setting(1, "Smallest number of occurrences for a word to enter the vocabulary.", low=1)
    validate_every: int = _setting(1, "Validate after every this many epochs.", low=1)
    save_steps: int = _setting(1000, "Also save last/ after every this many steps; 0: only after each epoch.", low=0)
    max_steps: int = _setting(0, "Save and stop after this many steps in total; 0: train all epochs.", low=0)
    seed: int = _setting(0, "Random seed of initial weights, order and crops.", low=0)

    def __post_init__(self) -> None:
        """Check each field, and that `paired_captions` is at most `captions_per_picture`."""
        super().__post_init__()
        if self.paired_captions > self.captions_per_picture:
            most = f"--captions-per-picture {self.captions_per_picture}"
            message = f"--paired-captions {self.paired_captions} is more than {most}"
            raise UsageError(message, hint=f"add --captions-per-picture {self.paired_captions}")


@dataclass(frozen=True)
class RankConfig(Settings):
    """Which score ranks pairs of image and text."""

    rank_by: Literal["pair", "sum"] = _setting(
        "sum", "pair: rank pairs by ROAM's score; sum: by the sum of ROAM's score and the global cosine."
    )


@dataclass(frozen=True)
class EvalConfig(Settings):
    """How a checkpoint is evaluated."""

    rerank: int = _setting(
        50, "Re-rank this many of the best candidates, shown in the row `reranked`; 0: no such row.", low=0
    )
    protocol: Literal["auto", "captions-5", "unique-text"] = _setting(
        "auto",
        "captions-5: every caption is a text of its own; unique-text: equal captions are one text; "
        "auto: captions-5 if images have several captions, else unique-text.",
    )
    prefix: str = _setting("", "Text put before each caption; SkyScript's test sets use 'a satellite image. '.")
    bootstrap: int = _setting(1000, "Bootstrap samples for the 95 % intervals; 0: no intervals.", low=0, high=100_000)
    pairwise: bool = _setting(True, "Also score every pair of image and caption with ROAM; slow for large splits.")
    caption_field: str = _setting("", "Caption field to evaluate with; default: the one the model was trained on.")
    batch_size: int = _setting(64, "Number of images encoded at once.", low=1)
    gpus: int = _setting(1, "Number of processes, a GPU each; CPU processes with --device cpu.", low=1)


@dataclass(frozen=True)
class ZeroShotConfig(Settings):
    """How images are classified by the names of classes."""

    label_field: str = _setting("", "Caption field that holds the labels; measures classification, not retrieval.")
    templates: str = _setting(
        "a satellite photo of {c}.|a satellite image of {c}",
        "Texts for a class, with {c} for its name; several are separated by | and averaged.",
    )
    class_names: str = _setting(
        "", "File with the names of all classes, one per line; default: the labels of the images."
    )


@dataclass(frozen=True)
class EmbedConfig(Settings):
    """How images are embedded."""

    batch_size: int = _setting(64, "Number of images encoded at once.", low=1)
    gpus: int = _setting(1, "Number of processes, a GPU each; CPU processes with --device cpu.", low=1)
    layout: Literal["dove", "clip-retrieval"] = _setting(
        "dove", "clip-retrieval: also write img_emb/ and metadata/ for it in the index's folder."
    )
    regions: bool = _setting(False, "Also store image regions (20 kB per image): re-ranking then reads no images.")
    part_size: int = _setting(
        1000,
        "Number of images of a folder, or tiles of a scene, in an embedding part; a shard or tar is one part.",
        low=1,
    )
    tile: int = _setting(
        0, "Cut GeoTIFFs into square tiles with this side in pixels; 0: each file is one image.", low=0, high=8192
    )
    stride: int = _setting(0, "Distance between neighbouring tiles in pixels; 0: the side of a tile.", low=0)
    bands: str = _setting(
        "",
        "Numbers of the bands for red, green and blue, such as 4,3,2, or of one band; default: from the file's "
        "colours, else the first three bands.",
    )

    def __post_init__(self) -> None:
        """Check each field, and that the settings of tiles fit together."""
        super().__post_init__()
        if (self.stride or self.band_numbers) and not self.tile:
            option = "--stride" if self.stride else "--bands"
            raise UsageError(f"{option} needs --tile", hint="cut GeoTIFFs into tiles with --tile 256")
        if self.stride > self.tile:
            message = f"--stride {self.stride} would leave gaps between tiles of {self.tile} pixels"
            raise UsageError(message, hint=f"use at most --stride {self.tile}")

    @property
    def band_numbers(self) -> tuple[int, ...]:
        """Return the numbers of `bands`, counted from 1; empty for the default.

        Raises:
            UsageError: `bands` is not one or three numbers.
        """
        if not self.bands:
            return ()
        words = self.bands.split(",")
        if len(words) not in (1, 3) or not all(re.fullmatch(r"\s*[1-9]\d{0,4}\s*", word) for word in words):
            hint = "give one number for grey, or three for red, green and blue, such as --bands 4,3,2"
            raise UsageError(f"--bands {self.bands!r} is not a valid list of bands", hint=hint)
        return tuple(map(int, words))


@dataclass(frozen=True)
class PushConfig(Settings):
    """How Milvus searches a collection."""

    vector_index: Literal["flat", "hnsw"] = _setting(
        "flat", "Index type in Milvus: flat compares with every vector; hnsw is faster but may miss some hits."
    )


@dataclass(frozen=True)
class VerifyConfig(Settings):
    """How many rows of an index are verified."""

    sample: int = _setting(64, "Number of rows to verify; with --against, of queries for each kind of filter.", low=1)
    top: int = _setting(10, "With --against: number of hits of each query to compare.", low=1, high=1000)
    seed: int = _setting(0, "Random seed of the sample.", low=0)


@dataclass(frozen=True)
class QueryConfig(Settings):
    """How a query is answered."""

    top: int = _setting(10, "Number of images to return.", low=1)
    rerank: int = _setting(0, "Re-rank this many of the best images with ROAM; 0: rank by embeddings only.", low=0)
    exact: bool = _setting(
        False, "Compare with every vector; without it, large indexes are searched by coarse codes first."
    )
    min_score: float = _setting(-2.0, "Leave out images with a lower score.", low=-2, high=2)
    dedup: bool = _setting(False, "Return only the best of nearly equal images and of footprints that overlap by half.")


@dataclass(frozen=True)
class FilterConfig(Settings):
    """Which images a query may return."""

    bbox: str = _setting("", "W,S,E,N in degrees: footprints that intersect this box; W > E crosses the antimeridian.")
    near: str = _setting("", "LAT,LON in degrees: footprints whose centre is --within a distance of this point.")
    within: str = _setting("", "Largest distance from --near, such as 25km, 500m, 3mi or 2nmi.")
    datetime: str = _setting("", "Interval of the acquisition time, such as 2018-01-01/2020-12-31, ../2019 or 2020.")
    source: str = _setting("", "Codes of the image sources, such as CH,US.")
    max_gsd: float = _setting(0.0, "Largest ground sample distance in metres per pixel; 0: any.", low=0)
    tag: str = _setting("", "OpenStreetMap tags that an image must all have, such as highway=motorway,bridge.")
