"""Filters as an expression that Milvus evaluates: the same rows pass as in `filters.py`.

Nothing is negated, so that a column without a value (null) never passes. Footprints are four numbers and a mark for
those across the antimeridian; comparing numbers is exact everywhere. A circle is more than an expression can say: the
expression asks for the box around it, and the answer is held to the circle itself.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from dove_core.config import FilterConfig
from dove_core.index.filters import Circle, parse_box, parse_circle, parse_interval, parse_sources, parse_tags
from dove_core.index.milvus.schema import tag_element

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


@dataclass(frozen=True)
class Selection:
    """Which rows may be found: by an expression of Milvus, and a circle that answers are held to."""

    expression: str
    circle: Circle | None = None


def selection_of(filters: FilterConfig) -> Selection:
    """Return what filters select.

    Raises:
        UsageError: a filter cannot be understood.
    """
    terms, circle = [], None
    if filters.bbox:
        terms.append(_meets(*parse_box(filters.bbox)))
    if filters.datetime:
        first, last = parse_interval(filters.datetime)
        terms += [f"last_second >= {first}"] if first is not None else []
        terms += [f"first_second <= {last}"] if last is not None else []
    if filters.source:
        terms.append(source_expression(filters.source))
    for key, value in parse_tags(filters.tag):
        terms.append(f"array_contains(tags, {quoted(tag_element(key, value))})")
    if filters.near or filters.within:
        circle = parse_circle(filters.near, filters.within)
        terms.append(_meets(*circle.box))
    if filters.max_gsd:
        terms.append(f"gsd <= {_number(filters.max_gsd)}")
    return Selection(" and ".join(terms), circle)


def source_expression(text: str) -> str:
    """Return the expression of `CH,US`.

    Raises:
        UsageError: it names no source.
    """
    return f"source in [{', '.join(map(quoted, parse_sources(text)))}]"


def quoted(text: str) -> str:
    """Return a text as a literal; no text ends it before its end, whatever it holds."""
    return f'"{text.translate(_ESCAPES)}"'


def _meets(west: float, south: float, east: float, north: float) -> str:
    """Say which footprints meet a box; each may cross the antimeridian."""
    spans = ((west, east),) if west <= east else ((west, 180.0), (-180.0, east))
    across = []
    for left, right in spans:
        begins, ends = f"xmin <= {_number(right)}", f"xmax >= {_number(left)}"
        across.append(f"({begins} and {ends}) or (crosses == true and ({begins} or {ends}))")
    return f"(({' or '.join(across)}) and ymin <= {_number(north)} and ymax >= {_number(south)})"


def _number(value: float) -> str:
    """Write a number so that it is read back exactly."""
    return repr(float(value) if math.isfinite(value) else math.copysign(sys.float_info.max, value))
