"""Filters select rows exactly; an invalid filter is an error."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from dove_core.config import FilterConfig
from dove_core.errors import UsageError
from dove_core.index.columns import write_rows
from dove_core.index.filters import Circle, kept_rows, parse_distance, parse_interval
from dove_core.index.rows import PART_COLUMNS, UNKNOWN_SECOND, Row, RowTable, seconds_of

ROWS = [
    Row("paris", "", "", 0, 0, (2.3, 48.8, 2.4, 48.9), "2019-07-03T10:20", "CH", 0.1, {"highway": "motorway"}),
    Row("suva", "", "", 0, 0, (179.9, -18.1, -179.9, -18.0), "2020", "US", 0.6, {"bridge": "yes", "highway": "path"}),
    Row("nowhere", "", "", 0, 0, None, None, None, None, {}),
    Row("pole", "", "", 0, 0, (-10.0, 89.0, 10.0, 90.0), "2018-12", "S2", 10.0, {"old_highway": "motorway"}),
    Row(
        "quote",
        "",
        "",
        0,
        0,
        (2.39, 48.89, 2.5, 49.0),
        "2021-01-01",
        "CH",
        0.2,
        {"name": 'x "highway": "motorway"', 'old"highway': "path"},
    ),
]


def make_table(path, rows):
    import json

    names = ("xmin", "ymin", "xmax", "ymax")
    part = {name: [getattr(row, name, None) for row in rows] for name in PART_COLUMNS}
    part["bbox"] = [None if row.box is None else dict(zip(names, row.box, strict=True)) for row in rows]
    part["tags"] = [json.dumps(dict(row.tags), ensure_ascii=False) for row in rows]
    box = pa.struct([(name, pa.float64()) for name in names])
    columns = {name: pa.array(values, box if name == "bbox" else None) for name, values in part.items()}
    assert write_rows(path, [pa.table(columns).slice(0, 2), pa.table(columns).slice(2)]) == len(rows)
    return RowTable(path)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("rows") / "rows.arrow", ROWS)


def found(table, **filters):
    keep = kept_rows(table, FilterConfig(**filters))
    return [ROWS[k].key for k in np.flatnonzero(keep)]


def test_rows_are_read_as_they_were_written(table):
    assert table.rows(range(len(ROWS))) == ROWS
    assert table.rows([3, 1]) == [ROWS[3], ROWS[1]]
    assert table.find(["pole", "paris", "absent"]) == {"pole": 3, "paris": 0}
    assert kept_rows(table, FilterConfig()) is None


@pytest.mark.parametrize(
    ("box", "keys"),
    [
        ("2,48,3,49", ["paris", "quote"]),
        ("2.4,48,3,48.85", ["paris"]),
        ("170,-20,-170,-10", ["suva"]),
        ("-180,-90,180,90", ["paris", "suva", "pole", "quote"]),
        ("-179.95,-20,-170,0", ["suva"]),
        ("100,-20,179.95,0", ["suva"]),
        ("100,-20,179.5,0", []),
        ("5,89.5,6,90", ["pole"]),
    ],
)
def test_footprints_that_intersect_a_box_pass(table, box, keys):
    assert found(table, bbox=box) == keys


@pytest.mark.parametrize(
    ("near", "within", "keys"),
    [
        ("48.85,2.35", "1km", ["paris"]),
        ("48.85,2.35", "25km", ["paris", "quote"]),
        ("-18.05,180", "1m", ["suva"]),
        ("-18.05,-179.99", "2nmi", ["suva"]),
        ("90,77", "60km", ["pole"]),
        ("0,0", "10mi", []),
    ],
)
def test_footprints_with_their_centre_within_a_distance_pass(table, near, within, keys):
    assert found(table, near=near, within=within) == keys


def test_distances_agree_with_the_law_of_cosines(tmp_path):
    random = np.random.default_rng(0)
    centres = np.stack([random.uniform(-180, 180, 300), np.degrees(np.arcsin(random.uniform(-1, 1, 300)))], axis=1)
    rows = [Row(str(k), "", "", 0, 0, (x, y, x, y)) for k, (x, y) in enumerate(centres.tolist())]
    keep = kept_rows(make_table(tmp_path / "rows.arrow", rows), FilterConfig(near="10,20", within="4000km"))
    a, b = math.radians(10), np.radians(centres[:, 1])
    angle = np.arccos(math.sin(a) * np.sin(b) + math.cos(a) * np.cos(b) * np.cos(np.radians(centres[:, 0] - 20)))
    assert (keep == (6_371_008.8 * angle <= 4e6)).all()
    assert 0 < keep.sum() < 300


def test_the_box_of_a_circle_contains_it():
    random = np.random.default_rng(0)
    for latitude, longitude, metres in [(90, 0, 1), (-90, 5, 1e6), (0, 180, 1e5), (0, 0, 2e7), (0, 0, 1e8)] + [
        (random.uniform(-90, 90), random.uniform(-180, 180), 10 ** random.uniform(0, 7.3)) for _ in range(200)
    ]:
        circle = Circle(latitude, longitude, metres)
        y = np.clip(latitude + random.uniform(-1, 1, 500) * np.degrees(metres / 6.37e6), -90, 90)
        x = random.uniform(-180, 180, 500)
        x[::2] = (longitude + random.normal(size=250) * np.degrees(metres / 6.37e6) + 180) % 360 - 180
        west, south, east, north = circle.box
        across = (x >= west) & (x <= east) if west <= east else (x >= west) | (x <= east)
        assert -180 <= west <= 180
        assert (~circle.holds(x, y, x, y) | (across & (y >= south) & (y <= north))).all()
    assert Circle(60, 179, 111_195).box == pytest.approx((177, 59, -179, 61), abs=1e-2)


@pytest.mark.parametrize(
    ("interval", "keys"),
    [
        ("2018-01-01/2020-12-31", ["paris", "suva", "pole"]),
        ("2019", ["paris"]),
        ("2020-06/..", ["suva", "quote"]),  # all of 2020 may mean June
        ("../2018", ["pole"]),
        ("2019-07-03T10:20/2019-07-03T10:20", ["paris"]),
        ("2019-07-03T10:21/2019-07-03T10:30", []),
        ("2019-07-03T12:20:30+02:00/2019-07-03T10:20:30Z", ["paris"]),
    ],
)
def test_images_whose_time_may_be_in_an_interval_pass(table, interval, keys):
    assert found(table, datetime=interval) == keys


def test_sources_resolution_and_tags_are_exact(table):
    assert found(table, source="CH") == ["paris", "quote"]
    assert found(table, source="US, S2") == ["suva", "pole"]
    assert found(table, max_gsd=0.2) == ["paris", "quote"]
    assert found(table, tag="highway=motorway") == ["paris"]  # neither another key's value nor a text that looks so
    assert found(table, tag="highway") == ["paris", "suva"]
    assert found(table, tag="highway=path,bridge") == ["suva"]
    assert found(table, tag='old"highway=path') == ["quote"]
    assert found(table, source="CH", datetime="2021") == ["quote"]
    assert found(table, bbox="2,48,3,49", tag="bridge") == []


@pytest.mark.parametrize(
    "filters",
    [
        {"bbox": "1,2,3"}, {"bbox": "a,b,c,d"}, {"bbox": "0,10,5,0"}, {"bbox": "0,0,200,1"}, {"bbox": "nan,0,1,1"},
        {"near": "1,2"}, {"within": "1km"}, {"near": "91,0", "within": "1km"}, {"near": "1", "within": "1km"},
        {"near": "1,2", "within": "5"}, {"near": "1,2", "within": "0km"}, {"near": "1,2", "within": "-3km"},
        {"datetime": "yesterday"}, {"datetime": "2020/2019"}, {"datetime": "../.."}, {"datetime": "2019/2020/2021"},
        {"datetime": "2019-13"}, {"source": "XX"}, {"source": ","}, {"tag": "=x"},
    ],
    ids=str,
)  # fmt: skip
def test_an_invalid_filter_is_an_error_with_a_hint(table, filters):
    with pytest.raises(UsageError) as caught:
        kept_rows(table, FilterConfig(**filters))
    assert "--" in caught.value.message
    assert caught.value.hint


def test_times_become_their_first_and_last_second():
    times = ["1970", "1970-01", "1970-01-02", "1970-01-01T01:00", "1970-01-01T00:00:07", "199", "2019-02-30", None]
    first, last = seconds_of(times)
    year, month, day = 365 * 86400, 31 * 86400, 86400
    assert first.tolist() == [0, 0, day, 3600, 7, *[UNKNOWN_SECOND] * 3]
    assert last.tolist() == [year - 1, month - 1, 2 * day - 1, 3659, 7, *[UNKNOWN_SECOND] * 3]
    assert parse_interval("1970/..") == (0, None)
    assert parse_distance(" 2.5 km") == 2500


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2018-01-01t00:00:00z", 1514764800, 1514764800),
        ("2018-01-01 00:00:00Z", 1514764800, 1514764800),
        ("2018-01-01T02:00:00+02:00", 1514764800, 1514764800),
        ("2018-01-01T02:00+02", 1514764800, 1514764859),
        ("2018-01-01T00:00:00.999Z", 1514764800, 1514764800),
        ("9999-12-31T23:59:59-02:00", 253402307999, 253402307999),  # in UTC it is in the year 10000
        ("0001-01-01T00:00:00+02:00", -62135604000, -62135604000),
    ],
)
def test_times_of_rfc_3339_have_any_zone_and_case(text, first, last):
    assert parse_interval(text) == (first, last)
    assert parse_interval(f"{text}/..") == (first, None)


@pytest.mark.parametrize("text", ["2018-01-01T10:00:00+99:00", "2018-01-01T", "２０１８", "2018-01-01T25:00Z"])
def test_an_invalid_time_is_named(text):
    with pytest.raises(UsageError, match="is not a valid time"):
        parse_interval(text)
