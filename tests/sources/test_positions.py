"""Footprints and pixel sizes of scenes anywhere on the Earth, and beyond it."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from rasterio.transform import from_bounds, from_origin
from rasterio.warp import transform, transform_bounds

from dove_core.sources.position import position_of

SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
GOES = "+proj=geos +h=35786023 +lon_0=-75 +sweep=x +a=6378137 +b=6356752.31414 +units=m +no_defs"
MOLLWEIDE = "ESRI:54009"
WORLD = (-180, -90, 180, 90)


def place(path: Path, width: int, height: int, **how: object) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=1, dtype="uint8", **how
        ) as dataset:
            dataset.write(np.ones((1, height, width), np.uint8))
    return path


def found(path: Path, window: tuple[int, int, int, int] | None = None):
    """Return footprint and metres per pixel of a window, or of a whole scene."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            position = position_of(dataset)
            if position is None:
                return None, None
            window = window or (0, 0, dataset.width, dataset.height)
            return position.footprint(window), position.metres_per_pixel(window)


@pytest.mark.parametrize(
    ("bounds", "box"),
    [
        (WORLD, WORLD),
        ((-180.25, -90.25, 180.25, 90.25), WORLD),  # pixels have their centres on the edge, as in ETOPO
        ((-0.25, -90.25, 359.75, 90.25), WORLD),  # ERA5
        ((0, -90, 360, 90), WORLD),
        ((80, -60, 240, 60), (80, -60, -120, 60)),  # Himawari
        ((190, 0, 350, 10), (-170, 0, -10, 10)),
        ((350, 0, 370, 10), (-10, 0, 10, 10)),
        ((0, 0, 180, 10), (0, 0, 180, 10)),
        ((180, 0, 360, 10), (-180, 0, 0, 10)),
        ((-200, 80, -170, 91), (160, 80, -170, 90)),
    ],
)
def test_global_grids_have_boxes_between_180_west_and_180_east(tmp_path, bounds, box):
    path = place(tmp_path / "a.tif", 360, 90, crs="EPSG:4326", transform=from_bounds(*bounds, 360, 90))
    assert found(path)[0] == pytest.approx(box, abs=1e-9)
    other = place(tmp_path / "b.tif", 360, 90, crs="EPSG:4267", transform=from_bounds(*bounds, 360, 90))
    assert found(other)[0] == pytest.approx(box, abs=0.01), "NAD27 is up to some hundred metres beside it"


@pytest.mark.parametrize(
    ("crs", "bounds", "box"),
    [
        (MOLLWEIDE, (-18_040_000, -9_020_000, 18_040_000, 9_020_000), (-180, -89.9902, 180, 89.9902)),
        (GOES, (-5_434_894.9, -5_434_894.9, 5_434_894.9, 5_434_894.9), (-156.28, -81.30, 6.28, 81.30)),
        (SINUSOIDAL, (-7_783_653.6, 6_671_703.1, -6_671_703.1, 7_783_653.6), (-180, 60, -120, 70)),  # MODIS h11v02
        (SINUSOIDAL, (0, 4_447_802.1, 1_111_950.5, 5_559_752.6), (0, 40, 15.5572, 50)),
        ("EPSG:3857", (-20_037_508.34, -20_037_508.34, 20_037_508.34, 20_037_508.34), (-180, -85.0511, 180, 85.0511)),
    ],
)
def test_scenes_whose_corners_are_beyond_the_earth_have_the_box_of_the_rest(tmp_path, crs, bounds, box):
    path = place(tmp_path / "a.tif", 200, 200, crs=crs, transform=from_bounds(*bounds, 200, 200))
    assert found(path)[0] == pytest.approx(box, abs=0.02)


def test_a_tile_beyond_the_earth_has_no_footprint_and_one_at_its_end_has_that_of_its_part(tmp_path):
    bounds = (-18_040_000, -9_020_000, 18_040_000, 9_020_000)
    path = place(tmp_path / "a.tif", 400, 200, crs=MOLLWEIDE, transform=from_bounds(*bounds, 400, 200))
    assert found(path, (0, 0, 20, 20)) == (None, None)
    box, metres = found(path, (0, 60, 40, 40))
    assert box[0] == pytest.approx(-180, abs=0.01) and -160 < box[2] < -130
    assert metres == pytest.approx(math.sqrt(90_200 * 90_200), rel=0.01), "an equal-area projection"


@pytest.mark.parametrize(
    ("left", "top", "box"),
    [
        (-12_800, 12_800, (-180, 89.8329, 180, 90)),
        (-12_800, 0, (-135, 89.7358, 45, 90)),  # the pole is on the upper side
        (0, 0, (-45, 89.6658, 45, 90)),  # the pole is a corner
    ],
)
def test_tiles_around_a_pole_have_it_in_their_box_and_the_size_of_a_pixel_there(tmp_path, left, top, box):
    path = place(tmp_path / "a.tif", 256, 256, crs="EPSG:3413", transform=from_origin(left, top, 100, 100))
    where, metres = found(path)
    assert where == pytest.approx(box, abs=1e-3)
    assert metres == pytest.approx(100, rel=1e-6), "3 % more on the ground, less than the slack"
    south = place(tmp_path / "b.tif", 256, 256, crs="EPSG:3031", transform=from_origin(-12_800, 12_800, 100, 100))
    assert found(south)[0] == pytest.approx((-180, -90, 180, -89.83), abs=0.01)


def test_ground_control_points_place_a_scene(tmp_path):
    points = [
        GroundControlPoint(row, column, (179.95 + column * 1.3e-4 + row * 2e-5 + 180) % 360 - 180, 47 - row * 9e-5)
        for row in (0, 256, 511)
        for column in (0, 256, 511)
    ]
    path = place(tmp_path / "a.tif", 512, 512, gcps=points, crs="EPSG:4326")
    west, east = 179.95, 179.95 + 512 * 1.3e-4 + 512 * 2e-5 - 360
    box, metres = found(path)
    assert box == pytest.approx((west, 47 - 512 * 9e-5, east, 47), abs=1e-6)
    across, along = 1.3e-4 * 111_412 * math.cos(math.radians(46.977)), 9e-5 * 111_190
    assert metres == pytest.approx(math.sqrt(across * along), rel=3e-3)


def test_rpcs_place_a_scene_at_the_middle_of_their_heights(tmp_path):
    path = place(tmp_path / "a.tif", 512, 512)
    one = [1.0] + [0.0] * 19
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as dataset:
            dataset.rpcs = RPC(
                height_off=300, height_scale=500, lat_off=47, lat_scale=0.1, line_den_coeff=one,
                line_num_coeff=[0.0, 0, -1, *[0.0] * 17], line_off=256, line_scale=256, long_off=9, long_scale=0.1,
                samp_den_coeff=one, samp_num_coeff=[0.0, 1, 0, 0.2, *[0.0] * 16], samp_off=256, samp_scale=256,
            )  # fmt: skip
    box, _ = found(path)
    assert box == pytest.approx((8.9, 46.9, 9.1, 47.1), abs=0.001), "at another height it lies to the side"


def test_a_crs_in_a_prj_file_is_used_with_a_world_file(tmp_path):
    path = place(tmp_path / "a.tif", 64, 64)
    path.with_suffix(".tfw").write_text("10\n0\n0\n-10\n500005\n5199995\n")
    assert found(path) == (None, None)
    path.with_suffix(".prj").write_text(rasterio.crs.CRS.from_epsg(32632).to_wkt(version="WKT1_ESRI"))
    box, metres = found(path)
    assert box == pytest.approx(transform_bounds("EPSG:32632", "EPSG:4326", 5e5, 5199360, 500640, 5.2e6), abs=1e-7)
    assert metres == 10


def drawn_place(random: np.random.Generator) -> tuple[str, Affine]:
    """Draw a CRS and a transform for 64 pixels: in a UTM zone, in degrees, Web Mercator, or around a pole."""
    kind = random.choice(["utm", "degrees", "mercator", "polar"])
    turn = Affine.rotation(float(random.choice([0, 0, 30, 135])))
    if kind == "degrees":
        step = 10 ** random.uniform(-5, -2)
        return "EPSG:4326", Affine.translation(*random.uniform((-179, -85), (360, 85))) * Affine.scale(step, -step)
    step = 10 ** random.uniform(-1, 2.5)
    if kind == "mercator":
        return "EPSG:3857", Affine.translation(*random.uniform(-1.9e7, 1.9e7, 2)) * turn * Affine.scale(step, -step)
    if kind == "polar":
        where = random.uniform(3e4, 2e6, 2) * random.choice([-1, 1], 2)
        return str(random.choice(["EPSG:3413", "EPSG:3031"])), Affine.translation(*where) * turn * Affine.scale(
            step, step
        )
    crs = f"EPSG:{random.choice([326, 327])}{random.integers(1, 61):02d}"
    where = random.uniform((2e5, 1e6), (8e5, 9e6))
    return crs, Affine.translation(*where) * turn * Affine.scale(step, -step)


@pytest.mark.parametrize("seed", range(3))
def test_drawn_scenes_have_the_box_of_their_outline_and_the_area_of_their_pixels(tmp_path, seed):
    random = np.random.default_rng(seed)
    for _ in range(20):
        crs, matrix = drawn_place(random)
        box, metres = found(place(tmp_path / "a.tif", 64, 64, crs=crs, transform=matrix))
        steps = np.linspace(0, 64, 300)
        ring = [(s, e) for s in steps for e in (0, 64)] + [(e, s) for s in steps for e in (0, 64)]
        xs, ys = zip(*(matrix * point for point in ring), strict=True)
        longitudes, latitudes = (np.array(values) for values in transform(crs, "EPSG:4326", xs, ys))
        first = longitudes[0]
        longitudes = (longitudes - first + 180) % 360 - 180 + first
        width = (box[2] - box[0]) % 360
        slack = 1e-3 * (width + box[3] - box[1]) + 1e-9
        assert (box[1], box[3]) == pytest.approx((latitudes.min(), latitudes.max()), abs=slack), (crs, matrix)
        off = [
            (one - other + 180) % 360 - 180
            for one, other in zip(box[::2], (longitudes.min(), longitudes.max()), strict=True)
        ]
        assert off == pytest.approx([0, 0], abs=slack), (crs, matrix)
        area = _area_on_a_sphere(crs, matrix)
        assert metres == pytest.approx(math.sqrt(area), rel=0.056), (crs, matrix)


def _area_on_a_sphere(crs: str, matrix: Affine) -> float:
    """Return the area of the middle pixel by Girard's flat limit: a triangle of unit vectors, times the radius."""
    xs, ys = zip(*(matrix * point for point in ((31.5, 31.5), (32.5, 31.5), (31.5, 32.5))), strict=True)
    lon, lat = (np.radians(values) for values in transform(crs, "EPSG:4326", xs, ys))
    points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1) * 6_371_000
    return float(np.linalg.norm(np.cross(points[1] - points[0], points[2] - points[0])))
