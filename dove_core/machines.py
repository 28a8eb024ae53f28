"""Settings that depend on the machine and not on the model: devices, processes, clusters, caches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dove_core.bounds import Settings, setting as _setting
from dove_core.errors import UsageError

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class ComputeConfig(Settings):
    """Device and precision.

    >>> dove.ComputeConfig(device="cpu", amp=False).workers
    -1
    """

    device: Device = _setting("auto", "Device; auto uses a GPU if there is one.")
    amp: bool = _setting(True, "Mixed precision, if the device is faster with it.")
    decode: Literal["auto", "cpu", "gpu"] = _setting(
        "auto", "Device that decodes JPEGs in training; auto: the GPU, if it can and the CPU has few cores."
    )
    compile: Literal["auto", "on", "off"] = _setting(
        "auto",
        "Compile the image encoder: slower to start, then faster; auto: only to embed many images, and on a CPU only a "
        "convolutional model.",
    )
    workers: int = _setting(
        -1,
        "Processes that read and decode images; 0: only the main process; -1: depends on the number of cores.",
        low=-1,
    )


@dataclass(frozen=True)
class LaunchConfig(Settings):
    """How many processes train on this machine. On several machines, torchrun or srun starts them.

    >>> dove.LaunchConfig(gpus=4).gpus
    4
    """

    gpus: int = _setting(1, "Training processes, one for each GPU; CPU processes with --device cpu.", low=1)
    restarts: int = _setting(3, "Times that all processes are started again from last/ after one of them died.", low=0)


@dataclass(frozen=True)
class ExecutorConfig(Settings):
    """What runs the tasks: processes of this machine, or Ray.

    >>> dove.ExecutorConfig(executor="ray").executor
    'ray'
    """

    executor: Literal["local", "ray"] = _setting("local", "Processes of this machine, or tasks on a Ray cluster.")
    ray_address: str = _setting(
        "", "HOST:PORT of the cluster, or local; default: RAY_ADDRESS, else a cluster that runs here, else a new one."
    )

    def __post_init__(self) -> None:
        """Check each field, and that an address is only given with Ray."""
        super().__post_init__()
        if self.ray_address and self.executor != "ray":
            raise UsageError("--ray-address needs --executor ray", hint="give both options, or neither")


@dataclass(frozen=True)
class CacheConfig(Settings):
    """Local copies of files in buckets.

    >>> dove.CacheConfig(cache_size=10).cache_size
    10
    """

    cache_folder: str = _setting("", "Folder of the cache; default: $DOVE_CACHE, or dove in the user's cache folder.")
    cache_size: float = _setting(
        50.0, "Size of the cache in GB; files unused for the longest time are removed first.", above=0
    )
