"""Every setting, once: its type, default, help and bounds.

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

CAPTION_FIELD = "title_multi_objects"


@dataclass(frozen=True)
class FetchConfig(Settings):
    """What to fetch of a release, and how.

    >>> dove.FetchConfig(split="test", limit=1000).captions
    'openai-top50'
    """

    split: Literal["all", "train", "val", "test"] = _setting("all", "Fetch one split's captions and images only.")
    captions: Literal[
        "openai-top50", "openai-top30", "laion-top50", "laion-top30", "unfiltered",
        "laion-top50-polished", "laion-top30-polished", "unfiltered-polished",
    ] = _setting("openai-top50", "Training captions: whose filter, and the share that it kept.")  # fmt: skip
    parts: str = _setting("all", "Numbers of the archives to take images from, such as 2,3.")
    meta: bool = _setting(True, "Also fetch each image's place, time and tags.")
    limit: int = _setting(0, "Fetch this many images of each split, drawn at random; 0: all.", low=0)
    checksum: bool = _setting(True, "Compare files with their published MD5s.")
    connections: int = _setting(16, "Files, or ranges of them, to request at once.", low=1, high=256)


@dataclass(frozen=True)
class ShardConfig(Settings):
    """How a release becomes shards.

    >>> dove.ShardConfig(image_size=256).shard_size
    2000
    """

    shard_size: int = _setting(2000, "Images in one shard.", low=1, high=1_000_000)
    seed: int = _setting(0, "Seed of the order in which images are spread over the shards.", low=0)
    max_bad: float = _setting(0.01, "Largest share of unusable rows before sharding is an error.", low=0, high=1)
    verify: Literal["header", "full"] = _setting(
        "full", "Look at each JPEG's first and last bytes, or decode it in full. A zip's CRCs are always checked."
    )
    image_size: int = _setting(
        0, "Make images smaller until their shorter side has this many pixels; 0: keep their bytes.", low=0, high=8192
    )
    image_format: Literal["jpeg", "webp"] = _setting("jpeg", "Format of images that are encoded anew.")
    quality: int = _setting(95, "Their quality: of those made smaller, and of those that are no RGB or grey JPEGs.",
                            low=1, high=100)  # fmt: skip
    workers: int = _setting(0, "Processes that make shards; 0: one for each processor core.", low=0)


@dataclass(frozen=True)
class ModelConfig(Settings):
    """The shape of a DOVE model; saved in its checkpoint.

    >>> dove.ModelConfig(backbone="resnet18", embed_dim=256).heads
    8
    """

    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = _setting("resnet50", "Image trunk.")
    image_size: int = _setting(256, "Side of the square image that the model sees, in pixels.", low=32, high=2048)
    embed_dim: int = _setting(512, "Width of every embedding; a multiple of --heads.", low=8)
    heads: int = _setting(8, "Attention heads.", low=1)
    word_dim: int = _setting(300, "Width of a word embedding.", low=1)
    max_tokens: int = _setting(64, "Words of a caption that are read.", low=1)
    region_grid: int = _setting(6, "Regions are the cells of a grid with this many rows and columns.", low=1, high=32)
    center_box: Literal["none", "center"] = _setting("none", "Add one more region in the middle of the image.")
    center_box_frac: float = _setting(0.5, "Side of the centre region as a share of the image's.", above=0, high=1)
    dropout: float = _setting(0.1, "Dropout on words and attended features while training.", low=0, high=0.9)
    caption_field: str = _setting(CAPTION_FIELD, "Which captions to learn from, where a release has several kinds.")

    def __post_init__(self) -> None:
        """Check each field, and that the heads divide the width."""
        super().__post_init__()
        if self.embed_dim % self.heads:
            message = f"--embed-dim {self.embed_dim} is not a multiple of --heads {self.heads}"
            raise UsageError(message, hint="512 with 8 heads is the default")


@dataclass(frozen=True)
class TrainConfig(Settings):
    """How a model is trained.

    >>> dove.TrainConfig(epochs=5, objective="infonce").batch_size
    64
    """

    weights: str = _setting("imagenet", "Start of the image trunk: imagenet, none, or a file of weights.")
    epochs: int = _setting(20, "Times that training sees every image.", low=1)
    batch_size: int = _setting(64, "Images in a step of one process.", low=2)
    learning_rate: float = _setting(2e-4, "Highest learning rate.", above=0)
    weight_decay: float = _setting(0.05, "Weight decay of AdamW; biases and norms are exempt.", low=0)
    warmup: float = _setting(0.05, "Share of all steps over which the learning rate rises.", low=0, high=1)
    grad_clip: float = _setting(1.0, "Largest norm of a gradient; 0 switches clipping off.", low=0)
    lambda_g: float = _setting(10.0, "Weight of the global constraint beside the ranking loss of pairs.", low=0)
    objective: Literal["triplet", "infonce"] = _setting("triplet", "Loss of a score matrix.")
    margin: float = _setting(0.2, "Margin of the triplet loss.", above=0)
    negatives: Literal["sum", "hardest"] = _setting("sum", "Negatives of the triplet loss: all, or the hardest.")
    temperature: float = _setting(0.07, "Temperature at which infonce starts to learn its own.", above=0)
    freeze_backbone: bool = _setting(False, "Keep the image trunk as it is, batch-norm statistics included.")
    unfreeze_after: int = _setting(
        0, "With --freeze-backbone: epochs after which the trunk learns too; 0: never.", low=0
    )
    accumulate: int = _setting(1, "Batches whose gradients make one step.", low=1)
    average: float = _setting(
        0.0, "Decay of a moving average of the weights, which is then what is kept; 0: none.", low=0, high=0.99999
    )
    max_broken: float = _setting(
        0.001, "Largest share of images that cannot be decoded before training is an error.", low=0, high=1
    )
    captions_per_picture: int = _setting(
        1, "Captions of an image that the global term learns from in a step.", low=1, high=100
    )
    paired_captions: int = _setting(
        1, "Of these, captions that ROAM's term takes: each costs as many pairs as there are images.", low=1, high=100
    )
    random_rotation: bool = _setting(True, "Turn images by random quarter turns and mirror them.")
    crop_scale: float = _setting(
        0.6, "Smallest share of an image that a random crop keeps; 1: no crop.", above=0, high=1
    )
    jitter: float = _setting(
        0.0, "Change brightness, contrast and saturation by up to this share at random; 0: none.", low=0, high=1
    )
    min_word_count: int = _setting(1, "A word is learned if it occurs this often.", low=1)
    validate_every: int = _setting(1, "Epochs between two validations.", low=1)
    save_steps: int = _setting(1000, "Also save last/ every so many steps; 0: after each epoch only.", low=0)
    max_steps: int = _setting(0, "Stop, and save, after so many steps in all; 0: train to the end.", low=0)
    seed: int = _setting(0, "Seed of weights, shuffles and crops.", low=0)

    def __post_init__(self) -> None:
        """Check each field, and that ROAM's term takes no more captions than there are."""
        super().__post_init__()
        if self.paired_captions > self.captions_per_picture:
            there = f"--captions-per-picture {self.captions_per_picture}"
            message = f"--paired-captions {self.paired_captions} is more than {there}"
            raise UsageError(message, hint=f"give --captions-per-picture {self.paired_captions} or more, too")


@dataclass(frozen=True)
class RankConfig(Settings):
    """Which score ranks pairs.

    >>> dove.RankConfig(rank_by="pair").rank_by
    'pair'
    """

    rank_by: Literal["pair", "sum"] = _setting(
        "sum", "Rank pairs by ROAM's score alone, or by its sum with the global one."
    )


@dataclass(frozen=True)
class EvalConfig(Settings):
    """How a checkpoint is evaluated.

    >>> dove.EvalConfig(rerank=20, bootstrap=0).rerank
    20
    """

    rerank: int = _setting(
        50, "How many of the globally best candidates the `reranked` row re-ranks; 0: no such row.", low=0
    )
    protocol: Literal["auto", "captions-5", "unique-text"] = _setting(
        "auto", "Every caption a text of its own, or every distinct one; auto: the former if images have several."
    )
    prefix: str = _setting("", "Words before each caption; SkyScript's own tests have 'a satellite image. '.")
    bootstrap: int = _setting(1000, "Samples of the images for the 95 % interval; 0: none.", low=0, high=100_000)
    pairwise: bool = _setting(True, "Also score every pair exactly; costs images times captions.")
    caption_field: str = _setting("", "Field of captions to evaluate with; none: the one that the model reads.")
    batch_size: int = _setting(64, "Images encoded at once.", low=1)
    gpus: int = _setting(1, "Processes that share a retrieval split; with --device cpu, CPU processes.", low=1)


@dataclass(frozen=True)
class ZeroShotConfig(Settings):
    """How images are classified by words.

    >>> dove.ZeroShotConfig(label_field="label", templates="an aerial photo of {c}").label_field
    'label'
    """

    label_field: str = _setting("", "Measure classification instead: the field of captions that holds the labels.")
    templates: str = _setting(
        "a satellite photo of {c}.|a satellite image of {c}",
        "Descriptions of a class, {c} being its name; several are set apart by | and averaged.",
    )
    class_names: str = _setting(
        "", "File with the names of all classes, one a line; none: the labels that images have."
    )


@dataclass(frozen=True)
class EmbedConfig(Settings):
    """How images are embedded.

    >>> dove.EmbedConfig(tile=256, bands="4,3,2").band_numbers
    (4, 3, 2)
    """

    batch_size: int = _setting(64, "Images encoded at once.", low=1)
    gpus: int = _setting(1, "Processes that share the parts, a GPU each; with --device cpu, CPU processes.", low=1)
    layout: Literal["dove", "clip-retrieval"] = _setting(
        "dove", "Also write what clip-retrieval reads: img_emb/ and metadata/ in the index's folder."
    )
    regions: bool = _setting(False, "Keep images' regions too: re-ranking then reads no image, for 20 kB each.")
    part_size: int = _setting(
        1000, "Images in one part of a folder, tiles in one of a scene; a shard or tar is a part.", low=1
    )
    tile: int = _setting(
        0, "Cut GeoTIFFs into square tiles of so many pixels; 0: every file is one image.", low=0, high=8192
    )
    stride: int = _setting(0, "Pixels from one tile to the next; 0: as many as a tile has.", low=0)
    bands: str = _setting(
        "", "Bands that are red, green and blue, such as 4,3,2; or one; none: as the file says, or the first three."
    )

    def __post_init__(self) -> None:
        """Check each field, and that the settings of tiles go together."""
        super().__post_init__()
        if (self.stride or self.band_numbers) and not self.tile:
            option = "--stride" if self.stride else "--bands"
            raise UsageError(f"{option} goes with --tile", hint="such as --tile 256: it cuts GeoTIFFs into tiles")
        if self.stride > self.tile:
            message = f"--stride {self.stride} would leave gaps between tiles of {self.tile} pixels"
            raise UsageError(message, hint=f"use at most --stride {self.tile}")

    @property
    def band_numbers(self) -> tuple[int, ...]:
        """Return the numbers of `bands`, from 1; none if the file is to say.

        Raises:
            UsageError: they are not one or three numbers.
        """
        if not self.bands:
            return ()
        words = self.bands.split(",")
        if len(words) not in (1, 3) or not all(re.fullmatch(r"\s*[1-9]\d{0,4}\s*", word) for word in words):
            hint = "one for grey, or three for red, green and blue: --bands 4,3,2"
            raise UsageError(f"--bands {self.bands!r} is no list of bands", hint=hint)
        return tuple(map(int, words))


@dataclass(frozen=True)
class PushConfig(Settings):
    """How a collection in Milvus is searched.

    >>> dove.PushConfig(vector_index="hnsw").vector_index
    'hnsw'
    """

    vector_index: Literal["flat", "hnsw"] = _setting(
        "flat", "How Milvus searches: flat compares with every vector; hnsw with few of them, and may miss some."
    )


@dataclass(frozen=True)
class VerifyConfig(Settings):
    """How much of an index is held to the truth.

    >>> dove.VerifyConfig(sample=1000).sample
    1000
    """

    sample: int = _setting(64, "Rows looked at; with --against, queries for each kind of filter.", low=1)
    top: int = _setting(10, "With --against: hits of each query that are compared.", low=1, high=1000)
    seed: int = _setting(0, "Seed of what is drawn.", low=0)


@dataclass(frozen=True)
class QueryConfig(Settings):
    """How a query is answered.

    >>> dove.QueryConfig(top=5).rerank
    0
    """

    top: int = _setting(10, "How many images to return.", low=1)
    rerank: int = _setting(0, "Re-rank so many of the best images with ROAM; 0: rank by embeddings alone.", low=0)
    exact: bool = _setting(False, "Compare with every vector, without coarse codes before.")
    min_score: float = _setting(-2.0, "Leave out what scores lower.", low=-2, high=2)
    dedup: bool = _setting(False, "Of nearly equal images, and of footprints that overlap by half, show the best only.")


@dataclass(frozen=True)
class FilterConfig(Settings):
    """Which images a query may find.

    >>> dove.FilterConfig(bbox="5,45,11,48", datetime="2019/..").bbox
    '5,45,11,48'
    """

    bbox: str = _setting("", "W,S,E,N in degrees: footprints that meet this box; W > E crosses the antimeridian.")
    near: str = _setting("", "LAT,LON in degrees: footprints with their middle --within a distance of this point.")
    within: str = _setting("", "Distance from --near: 25km, 500m, 3mi or 2nmi.")
    datetime: str = _setting("", "When they were taken: 2018-01-01/2020-12-31, ../2019 or 2020.")
    source: str = _setting("", "Source codes, such as CH,US.")
    max_gsd: float = _setting(0.0, "Largest ground sample distance in metres a pixel; 0: any.", low=0)
    tag: str = _setting("", "OpenStreetMap tags that all must be there: highway=motorway,bridge.")
