"""Filters as Milvus expressions; the same rows pass as in `filters.py`.

Expressions have no negation, so a column without a value (null) never matches. A footprint is four numbers and a flag
for crossing the antimeridian. An expression cannot describe a circle: it describes the box around the circle, and the
hits are then checked against the circle.
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
class FilterExpression:
    """A Milvus expression, and a circle that its hits are checked against."""

    expression: str
    circle: Circle | None = None


def expression_of(filters: FilterConfig) -> FilterExpression:
    """Return the expression of filters.

    Raises:
        UsageError: a filter is invalid.
    """
    terms, circle = [], None
    if filters.bbox:
        terms.append(_intersects(*parse_box(filters.bbox)))
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
        terms.append(_intersects(*circle.box))
    if filters.max_gsd:
        terms.append(f"gsd <= {_number(filters.max_gsd)}")
    return FilterExpression(" and ".join(terms), circle)


def source_expression(text: str) -> str:
    """Return the expression of a list of sources such as `CH,US`.

    Raises:
        UsageError: the list is empty.
    """
    return f"source in [{', '.join(map(quoted, parse_sources(text)))}]"


def quoted(text: str) -> str:
    """Return a text as a string literal; all characters that could end it are escaped."""
    return f'"{text.translate(_ESCAPES)}"'


def _intersects(west: float, south: float, east: float, north: float) -> str:
    """Return the expression of footprints that intersect a box; both may cross the antimeridian."""
    spans = ((west, east),) if west <= east else ((west, 180.0), (-180.0, east))
    across = []
    for left, right in spans:
        begins, ends = f"xmin <= {_number(right)}", f"xmax >= {_number(left)}"
        across.append(f"({begins} and {ends}) or (crosses == true and ({begins} or {ends}))")
    return f"(({' or '.join(across)}) and ymin <= {_number(north)} and ymax >= {_number(south)})"


def _number(value: float) -> str:
    """Return a number as a literal with its exact value."""
    return repr(float(value) if math.isfinite(value) else math.copysign(sys.float_info.max, value))
