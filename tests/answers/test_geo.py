"""Footprints as other programs read them."""

from __future__ import annotations

import io
import json

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from PIL import Image

from dove_core.answers.geo import bounds_of, write_geojson, write_geoparquet
from dove_core.data.reader import Record
from dove_core.data.sample import Sample
from dove_core.errors import UsageError
from dove_core.index.build import build_index
from dove_core.index.disk import SearchIndex
from dove_core.index.parts import PartMark, write_part
from dove_core.places import Folder
from dove_core.search.query import Hit
from tests.made import COLOURS, SHAPES, draw_shape
from tests.tiny_family import TinyEncoder

PARIS = (2.345, 48.855, 2.355, 48.865)
SUVA = (178.4, -18.2, 178.5, -18.1)
TAVEUNI = (179.9, -17.0, -179.8, -16.8)
PROPERTIES = ["rank", "score", "key", "caption", "time", "source", "gsd", "tags", "shard"]


def place_index(folder, boxes, formats=("JPEG",)):
    """Make an index of drawn images that lie in these boxes; every second one has complete metadata."""
    (folder / "shards").mkdir(parents=True)
    records, offset = [], 0
    with (folder / "shards" / "00000.tar").open("wb") as shard:
        for k, box in enumerate(boxes):
            stream = io.BytesIO()
            draw_shape(COLOURS[k % 6], SHAPES[k % 4]).save(stream, formats[k % len(formats)])
            known = {"time": "2020-07-03T10:20", "source": "S2", "gsd": 10.0, "tags": {"name": "<b>é"}} if k % 2 else {}
            sample = Sample(f"a{k}", f"a{k}.jpg", {"title": (f"a {COLOURS[k % 6]} <shape>, & more",)}, box=box, **known)
            records.append(Record(k, "00000.tar", offset, shard.write(stream.getvalue()), b"", sample))
            offset += records[-1].size
    mark = PartMark("f", "00000.tar", "s")
    write_part(Folder(folder), 0, records, np.ones((len(boxes), 4)), field="title", mark=mark)
    model, shards = Folder(folder / "best"), Folder(folder / "shards")
    build_index(Folder(folder), TinyEncoder(4, "f"), [len(boxes)], checkpoint=model, shards=shards)
    return SearchIndex(folder)


def all_of(index):
    """Return every row of an index as a hit, in their order."""
    return [Hit(rank, 0.5 - rank / 100, row) for rank, row in enumerate(index.rows(range(len(index))), start=1)]


def naive(box):
    """Return a footprint's shape, drawn from its definition."""
    west, south, east, north = box
    if west < east:
        return shapely.box(west, south, east, north)
    return shapely.MultiPolygon([shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)])


@pytest.fixture
def hits(tmp_path):
    return all_of(place_index(tmp_path / "fiji", [SUVA, TAVEUNI, None, PARIS]))


@pytest.mark.parametrize(
    ("write", "read", "name"),
    [(write_geojson, geopandas.read_file, "x.geojson"), (write_geoparquet, geopandas.read_parquet, "x.parquet")],
)
def test_geopandas_reads_every_footprint_with_its_metadata(hits, tmp_path, write, read, name):
    assert write(tmp_path / "new" / name, hits) == 3
    frame = read(tmp_path / "new" / name)
    assert sorted(frame.columns) == sorted([*PROPERTIES, "geometry"])
    assert frame.crs.equals("OGC:CRS84") or frame.crs.to_epsg() == 4326
    placed = [hit for hit in hits if hit.row.box]
    assert len(frame) == len(placed)
    for hit, (_, line) in zip(placed, frame.iterrows(), strict=True):
        assert line.geometry.is_valid
        assert line.geometry.equals(naive(hit.row.box))
        assert line.geometry.geom_type == ("MultiPolygon" if hit.row.box == TAVEUNI else "Polygon")
        assert (line["rank"], line["key"], line["shard"]) == (hit.rank, hit.row.key, "00000.tar")
        assert line["score"] == pytest.approx(hit.score)
        assert line["caption"] == hit.row.caption
        tags = line["tags"] if isinstance(line["tags"], dict) else json.loads(line["tags"])
        assert tags == hit.row.tags
    known, unknown = frame[frame["key"] == "a1"].iloc[0], frame[frame["key"] == "a0"].iloc[0]
    assert (str(known["time"])[:4], known["source"], known["gsd"]) == ("2020", "S2", 10.0)
    assert unknown[["time", "source", "gsd"]].isna().all()


def test_geojson_follows_the_standard(hits, tmp_path):
    write_geojson(tmp_path / "x.geojson", hits)
    page = json.loads((tmp_path / "x.geojson").read_text())
    assert page["type"] == "FeatureCollection"
    assert "crs" not in page
    assert page["bbox"] == [2.345, -18.2, -179.8, 48.865]
    assert page["features"][1]["bbox"] == list(TAVEUNI)
    for feature in page["features"]:
        assert list(feature["properties"]) == PROPERTIES
        shape = feature["geometry"]
        rings = shape["coordinates"] if shape["type"] == "Polygon" else [part[0] for part in shape["coordinates"]]
        for ring in rings:
            assert ring[0] == ring[-1]
            assert shapely.LinearRing(ring).is_ccw
            assert all(-180 <= longitude <= 180 for longitude, _ in ring)


def test_geoparquet_metadata_describe_the_column(hits, tmp_path):
    write_geoparquet(tmp_path / "x.parquet", hits)
    geo = json.loads(pq.read_schema(tmp_path / "x.parquet").metadata[b"geo"])
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    column = geo["columns"]["geometry"]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["MultiPolygon", "Polygon"]
    assert column["bbox"] == [2.345, -18.2, -179.8, 48.865]
    assert "crs" not in column  # OGC:CRS84 by the specification


def test_hits_without_any_footprint_make_files_without_features(tmp_path):
    hits = all_of(place_index(tmp_path / "nowhere", [None, None]))
    assert write_geojson(tmp_path / "x.geojson", hits) == 0
    assert json.loads((tmp_path / "x.geojson").read_text()) == {"type": "FeatureCollection", "features": []}
    assert write_geoparquet(tmp_path / "x.parquet", hits) == 0
    assert len(geopandas.read_parquet(tmp_path / "x.parquet")) == 0


@pytest.mark.parametrize("box", [(180.0, 0.0, -179.9, 0.1), (179.9, 0.0, -180.0, 0.1)])
def test_a_footprint_that_only_touches_the_antimeridian_is_one_polygon(tmp_path, box):
    hits = all_of(place_index(tmp_path / "edge", [box]))
    write_geojson(tmp_path / "x.geojson", hits)
    (shape,) = geopandas.read_file(tmp_path / "x.geojson").geometry
    assert shape.geom_type == "Polygon"
    assert shape.area == pytest.approx(0.01)


def test_bounds_are_the_narrowest_box_on_the_globe():
    rng = np.random.default_rng(1)
    for _ in range(200):
        west = rng.uniform(-180, 180, size=rng.integers(1, 6))
        east = (west + rng.uniform(0, 60, size=len(west)) + 180) % 360 - 180
        boxes = [(float(w), 0.0, float(e), 1.0) for w, e in zip(west, east, strict=True)]
        widths = [  # the narrowest begins at some box's west
            max((w - start) % 360 + (e - w) % 360 for w, e in zip(west, east, strict=True)) for start in west
        ]
        found = bounds_of(boxes)
        if min(widths) < 360:
            assert (found[2] - found[0]) % 360 == pytest.approx(min(widths))
        else:
            assert found == (-180, 0, 180, 1)


def test_a_path_that_cannot_be_written_is_named(hits, tmp_path):
    (tmp_path / "file").write_text("")
    for write in (write_geojson, write_geoparquet):
        with pytest.raises(UsageError, match="cannot be written"):
            write(tmp_path / "file" / "x", hits)


def test_images_of_the_index_can_be_read(tmp_path):
    index = place_index(tmp_path / "paris", [PARIS])
    assert Image.open(io.BytesIO(index.image(index.rows([0])[0]))).size == (48, 48)
