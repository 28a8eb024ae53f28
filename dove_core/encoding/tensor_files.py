"""Files of tensors that others made: safetensors, or saved by torch. Code in them is never run."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from dove_core.data.file_kinds import kind_of
from dove_core.errors import CheckpointError, reason_of

EXPECTED = "expected the weights of a model as safetensors or from torch.save; is the file complete?"
_HEAD = 300


def read_tensor_file(file: Path, *, option: str = "", hint: str = EXPECTED) -> Any:
    """Return the content of a file: tensors by name, or what torch.save wrote.

    Args:
        file: `.safetensors` for that format, any other name for torch's.
        option: the option that gave the file, for messages.
        hint: of the error if the file does not exist.

    Raises:
        CheckpointError: the file does not exist, is damaged, is of another kind, or has more than tensors in it.
    """
    name = f"{option} {file}".strip()
    try:
        with file.open("rb") as stream:
            kind, advice = kind_of(stream.read(_HEAD))
        is_zip = zipfile.is_zipfile(file)
        if kind and not is_zip and kind not in ("a tar", "a zip"):  # a zip that is cut is damaged
            raise CheckpointError(f"{name} is {kind}", hint=advice.replace("FILE", str(file)))
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        if is_zip and _is_torchscript(file):
            message = f"{name} is a TorchScript archive, which has code in it"
            raise CheckpointError(message, hint="save the model's state_dict, or fetch open_clip:ARCHITECTURE/openai")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about files of other programs
            return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        message = f"{name} has more than tensors in it, and would run code when it is read: it is refused"
        raise CheckpointError(message, hint="ask its authors for safetensors or a plain state_dict") from error
    except FileNotFoundError:
        raise CheckpointError(f"{name} does not exist", hint=hint) from None
    except CheckpointError:
        raise
    except Exception as error:  # errors of the unpickler have no common base class
        lines = reason_of(error).splitlines() or [type(error).__name__]
        raise CheckpointError(f"{name} cannot be read: {lines[0]}", hint=EXPECTED) from error


def _is_torchscript(file: Path) -> bool:
    with zipfile.ZipFile(file) as archive:
        return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())
