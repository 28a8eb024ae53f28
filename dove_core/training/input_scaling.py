"""How 8-bit pixels are scaled for the initial weights of a trunk.

Weights that were trained on satellite data expect what they were trained on. torchgeo's table of transforms says what
that is, for values of Sentinel-2's bands (digital numbers, 10,000 for a reflectance of 1). dove reads 8-bit images:

- SATLAS was trained on Sentinel-2's 8-bit true-colour images, divided by 255: `unit`.
- MOCO (SSL4EO-S12) was trained on reflectances, digital numbers divided by 10,000. In the true-colour images of level
  L1C, 255 is a reflectance of 0.3558 (ESA's Sentinel-2 user guide): `reflectance`.
- SECO stretches each band between two percentiles to 0..255, then uses ImageNet's mean and deviation. An 8-bit image
  made for the eye is stretched already: `imagenet`.
- GASSL (fMoW) was trained on 8-bit images with ImageNet's mean and deviation: `imagenet`.
"""

from __future__ import annotations

from pathlib import Path

from dove_core.files import sha256_of
from dove_core.model.normalisation import IMAGENET, Normalisation

_BY_NAME = {
    "imagenet": IMAGENET,
    "unit": Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "reflectance": Normalisation((0.0, 0.0, 0.0), (1 / 0.3558, 1 / 0.3558, 1 / 0.3558)),
}

TORCHGEO = {
    "da43d987": "imagenet",  # ResNet50_Weights.FMOW_RGB_GASSL
    "2b57ba8b": "reflectance",  # SENTINEL2_RGB_MOCO
    "018bf397": "imagenet",  # SENTINEL2_RGB_SECO
    "e79bb7fe": "unit",  # SENTINEL2_MI_RGB_SATLAS
    "45fc6972": "unit",  # SENTINEL2_SI_RGB_SATLAS
    "e3a335e3": "reflectance",  # ResNet18_Weights.SENTINEL2_RGB_MOCO
    "cefca942": "imagenet",  # SENTINEL2_RGB_SECO
}
"""Begin of the SHA-256 of a file that torchgeo publishes, as in its name, -> the scaling of its pixels."""


def normalisation_for(scaling: str, file: Path | None) -> Normalisation | None:
    """Return the normalisation of a `TrainConfig.input_scaling`; None if `auto` leaves the backbone's own.

    `auto` knows the files of torchgeo, under any name.
    """
    if scaling == "auto" and file is not None:
        scaling = TORCHGEO.get(sha256_of(file)[:8], scaling)
    return _BY_NAME.get(scaling)
