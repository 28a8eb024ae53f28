"""Places on the globe."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from dove_core.data.reader import Record
from dove_core.data.sample import Sample
from dove_core.index.disk import build_index
from dove_core.index.parts import PartMark, part_name, write_part


@pytest.mark.parametrize(
    ("box", "middle"),
    [((10.0, 50.0, 10.2, 50.1), (10.1, 50.05)), ((179.9, -1.0, -179.7, 1.0), (-179.9, 0.0)), (None, None)],
)
def test_a_footprint_becomes_its_middle_across_the_antimeridian_too(tmp_path, box, middle):
    sample = Sample("a1", "a1.jpg", {"title": ("x",)}, box=box, time="2019-07", source="US", tags={"a": "b"})
    record = Record(0, "00000.tar", 512, 10, b"", sample)
    mark = PartMark("f", "t/00000.tar", "s")
    write_part(tmp_path / part_name(0), [record], np.ones((1, 4)), field="title", mark=mark)
    build_index(tmp_path, fingerprint="f", counts=[1], dim=4, checkpoint=tmp_path / "best", shards=tmp_path)
    from dove_core.index.disk import SearchIndex

    row = SearchIndex(tmp_path).rows([0])[0]
    assert row.place == (None if middle is None else pytest.approx(middle))
    assert row.box == box
    assert (row.time, row.source, row.caption) == ("2019-07", "US", "x")
    assert struct.calcsize("<BIdd") == 21
