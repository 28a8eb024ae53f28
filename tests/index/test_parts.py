"""Footprints in embedding parts."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from dove_core.data.reader import Record
from dove_core.data.sample import Sample
from dove_core.index.build import build_index
from dove_core.index.disk import SearchIndex
from dove_core.index.parts import PartMark, part_name, write_part
from dove_core.places import Folder
from tests.tiny_family import TinyEncoder


@pytest.mark.parametrize(
    ("box", "middle"),
    [((10.0, 50.0, 10.2, 50.1), (10.1, 50.05)), ((179.9, -1.0, -179.7, 1.0), (-179.9, 0.0)), (None, None)],
)
def test_the_point_of_a_row_is_the_centre_of_its_footprint_also_across_the_antimeridian(tmp_path, box, middle):
    sample = Sample("a1", "a1.jpg", {"title": ("x",)}, box=box, time="2019-07", source="US", tags={"a": "b"})
    record = Record(0, "00000.tar", 512, 10, b"", sample)
    mark = PartMark("f", "t/00000.tar", "s")
    write_part(Folder(tmp_path), 0, [record], np.ones((1, 4)), field="title", mark=mark)
    place = Folder(tmp_path)
    build_index(place, TinyEncoder(4, "f"), [1], checkpoint=place / "best", shards=place)
    row = SearchIndex(tmp_path).rows([0])[0]
    assert row.place == (None if middle is None else pytest.approx(middle))
    assert row.box == box
    assert (row.time, row.source, row.caption) == ("2019-07", "US", "x")
    (point,) = pq.read_table(tmp_path / part_name(0))["place"].to_pylist()
    assert (None if point is None else shapely.from_wkb(point).coords[0]) == (middle and pytest.approx(middle))
