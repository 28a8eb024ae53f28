"""Red, green and blue are found by the names of bands."""

from __future__ import annotations

import pytest

from dove_core.data.band_names import colour_places

SENTINEL_2 = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
PLANET_8 = ["coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir"]


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["blue", "green", "red", "nir"], (2, 1, 0)),
        (["Blue", "Green", "Red", "Near Infra-Red"], (2, 1, 0)),
        (["nir", "r", "g", "b"], (1, 2, 3)),
        (["Red (B4)", "Vegetation red edge (B5)", "Green (B3)", "Blue (B2)"], (0, 2, 3)),
        (PLANET_8, (5, 3, 1)),
        (SENTINEL_2, (3, 2, 1)),
        (["B2", "B3", "B4", "B8"], (2, 1, 0)),
        (["S2A_B04", "S2A_B03", "S2A_B02"], (0, 1, 2)),
        ([f"SR_B{k}" for k in range(1, 8)], (3, 2, 1)),
        (["SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7", "ST_B6"], (2, 1, 0)),
        ([f"sur_refl_b0{k}" for k in range(1, 8)], (0, 3, 2)),
        (["Band 4", "Band 3", "Band 2"], (0, 1, 2)),
        (["Band 1", "Band 2", "Band 3", "Band 4"], None),
        (["b1", "b2", "b3", "b4"], None),
        (["nir", "red", "green"], None),
        (["red", "red", "green", "blue"], None),
        (["VV", "VH"], None),
        ([None, None, None], None),
        ([], None),
    ],
)
def test_colours_are_found_by_words_and_by_the_numbers_of_known_sensors(names, places):
    assert colour_places(names) == places
