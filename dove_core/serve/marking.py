"""Marks of analysts: hits that they confirm or reject."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from dove_core.answers.geo import marks_geojson_of
from dove_core.review.marks import Mark, Verdict, current_marks, folded, now
from dove_core.review.store import Marks, marks_path
from dove_core.review.tables import write_marks_csv
from dove_core.serve.items import GEOJSON
from dove_core.serve.served import own_files
from dove_core.serve.stac import DoveClient

MarksKind = Literal["json", "csv", "geojson"]
_PATH = "/collections/{collection_id}/marks"


class MarkRequest(BaseModel):
    """What somebody says of an image."""

    key: str = Field(max_length=4000, description="Key of the image.")
    query: str = Field(max_length=4000, description="The question that found it, as text: q, like KEY, unlike KEY.")
    verdict: Verdict = Field(description="Whether it is a right answer; withdraw takes back an earlier mark.")
    note: str = Field("", max_length=4000, description="Any remark.")
    who: str = Field("", max_length=200, description="Name of the analyst.")


def marking(client: DoveClient) -> APIRouter:
    """Return the routes of marks."""
    router = APIRouter(tags=["Marks"])

    @router.get(_PATH, response_class=Response)
    def marks(
        collection_id: str, query: str | None = None, kind: MarksKind = "json", history: bool = False
    ) -> Response:
        """Return marks, of one query or of all; with `history`, also those that a later one replaced."""
        index = client.named(collection_id).opened.index
        with own_files():
            stored = Marks(marks_path(index)).history()
        found = [mark for mark in stored if query is None or folded(mark.query) == folded(query)]
        found = found if history else current_marks(found)
        if kind == "geojson":
            return JSONResponse(marks_geojson_of(found, index), media_type=GEOJSON, headers=_attached(kind))
        if kind == "csv":
            return Response(_csv(found), media_type="text/csv; charset=utf-8", headers=_attached(kind))
        return JSONResponse({"marks": [asdict(mark) for mark in found]})

    @router.post(_PATH, status_code=201)
    def mark(collection_id: str, mark: MarkRequest) -> dict[str, Any]:
        """Store a mark, and answer when it is on the disk; of one analyst, image and query, the latest counts."""
        opened, row = client.row_of(collection_id, mark.key)
        made = Mark(row.key, mark.query, mark.verdict, mark.note, mark.who, now(), opened.index.fingerprint)
        with own_files():
            Marks(marks_path(opened.index)).add([made])
        return asdict(made)

    return router


def _attached(kind: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="marks.{kind}"'}


def _csv(marks: Sequence[Mark]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="dove-marks-") as folder:
        path = Path(folder) / "marks.csv"
        write_marks_csv(path, marks)
        return path.read_bytes()
