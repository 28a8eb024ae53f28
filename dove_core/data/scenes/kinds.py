"""Every kind of scene: its tags, captions, scales and drawing function."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dove_core.data.scenes import airport, built, land, sport, transport, water
from dove_core.data.scenes.canvas import Canvas
from dove_core.data.scenes.palette import Palette
from dove_core.data.scenes.shapes import Pose


class Kind(NamedTuple):
    """One kind of object in focus.

    `tag` is its OpenStreetMap tag; `titles` are captions in SkyScript's style, any of which fits; `sources` are codes
    of SkyScript's images whose scale shows it; `draw` draws it and returns further tags; `avoid` names surroundings
    that look the same; `along` keeps roads and rivers beside it parallel.
    """

    tag: tuple[str, str]
    titles: tuple[str, ...]
    sources: tuple[str, ...]
    draw: Callable[[Canvas, Palette, Pose], dict[str, str]]
    avoid: tuple[str, ...] = ()
    along: bool = False


RUNWAY = Kind(("aeroway", "runway"), ("airport of runway", "runway of airport", "airport of aeroway, runway"),
              ("US", "P3", "P3", "P5"), airport.runway, ("natural=water",), along=True)  # fmt: skip
"""The kind with the largest share."""

KINDS: tuple[Kind, ...] = (
    RUNWAY,
    Kind(("aeroway", "apron"), ("apron of aeroway", "apron of aeroway, airport", "airport of apron"),
         ("FI", "US", "P3"), airport.apron, ("natural=water",), along=True),
    Kind(("highway", "motorway_junction"), ("motorway junction of highway", "highway of motorway junction"), ("P5",),
         transport.motorway_junction, ("natural=water",)),
    Kind(("junction", "roundabout"), ("roundabout of junction", "junction of roundabout", "roundabout of road"),
         ("FI", "US", "US"), transport.roundabout),
    Kind(("man_made", "bridge"), ("bridge of man made", "bridge of road", "man made of bridge"), ("FI", "US", "P3"),
         transport.bridge, ("natural=water", "waterway=river")),
    Kind(("amenity", "parking"), ("parking of amenity", "amenity of parking", "parking of surface"), ("FI", "FI", "US"),
         transport.parking, ("landuse=industrial",)),
    Kind(("railway", "yard"), ("yard of railway", "railway of yard"), ("FI", "US", "P3"), transport.rail_yard,
         ("railway=rail",), along=True),
    Kind(("industrial", "port"), ("port of industrial", "industrial of port", "port of harbour"), ("US", "P3", "P5"),
         water.harbour, ("natural=water", "waterway=river"), along=True),
    Kind(("leisure", "marina"), ("marina of leisure", "leisure of marina"), ("FI", "US", "P3"), water.marina,
         ("natural=water",)),
    Kind(("natural", "water"), ("lake of water", "water of lake", "natural of water, lake"), ("P3", "P5", "S2"),
         water.lake, ("natural=water", "waterway=river", "landuse=industrial")),
    Kind(("waterway", "river"), ("river of waterway", "waterway of river"), ("P3", "P5", "S2"), water.river,
         ("natural=water", "waterway=river")),
    Kind(("natural", "beach"), ("beach of natural", "natural of beach", "beach of sand"), ("US", "P3", "P5"),
         water.beach, ("natural=water", "waterway=river", "natural=sand", "landuse=industrial"), along=True),
    Kind(("leisure", "swimming_pool"), ("swimming pool of leisure", "leisure of swimming pool"), ("DE", "FI"),
         water.swimming_pool, ("natural=water",)),
    Kind(("man_made", "wastewater_plant"), ("wastewater plant of man made", "man made of wastewater plant"),
         ("US", "P3"), water.wastewater_plant, ("natural=water",)),
    Kind(("landuse", "farmland"), ("farmland of landuse", "landuse of farmland"), ("P3", "P5", "S2"), land.farmland,
         ("landuse=farmland", "natural=water")),
    Kind(("irrigation", "pivot"), ("pivot of irrigation", "irrigation of pivot", "pivot irrigation of farmland"),
         ("S2",), land.pivot, ("natural=water", "landuse=industrial", "landuse=residential")),
    Kind(("landuse", "orchard"), ("orchard of landuse", "landuse of orchard"), ("FI", "US", "P3"), land.orchard,
         ("landuse=forest",)),
    Kind(("landuse", "vineyard"), ("vineyard of landuse", "landuse of vineyard"), ("FI", "US", "P3"), land.vineyard),
    Kind(("landuse", "forest"), ("forest of landuse", "landuse of forest", "wood of forest"), ("FI", "US", "P3", "P5"),
         land.forest, ("landuse=forest",)),
    Kind(("landuse", "quarry"), ("quarry of landuse", "landuse of quarry"), ("P3", "P5"), land.quarry,
         ("natural=sand",)),
    Kind(("landuse", "residential"), ("residential of landuse", "landuse of residential", "residential of house"),
         ("US", "P3"), built.residential, ("landuse=residential",)),
    Kind(("building", "warehouse"), ("warehouse of building", "building of warehouse"), ("FI", "US", "P3"),
         built.warehouse, ("landuse=industrial",)),
    Kind(("man_made", "storage_tank"), ("storage tank of man made", "man made of storage tank"), ("FI", "US", "P3"),
         built.storage_tank),
    Kind(("power", "plant"), ("solar plant of power", "power of solar plant", "solar power of plant"),
         ("FI", "US", "P3"), built.solar),
    Kind(("power", "generator"), ("wind turbine of power", "power of wind turbine", "generator of wind turbine"),
         ("US", "P3", "P5"), built.wind_turbine,
         ("natural=water", "landuse=residential", "landuse=industrial", "landuse=forest")),
    Kind(("building", "greenhouse"), ("greenhouse of building", "building of greenhouse"), ("FI", "US"),
         built.greenhouse),
    Kind(("landuse", "cemetery"), ("cemetery of landuse", "landuse of cemetery"), ("FI", "US"), built.cemetery),
    Kind(("leisure", "track"), ("track of leisure", "leisure of track", "running track of stadium"), ("P3",),
         sport.track),
    Kind(("sport", "baseball"), ("baseball of sport", "baseball pitch of leisure", "sport of baseball"),
         ("FI", "US", "P3"), sport.baseball),
    Kind(("sport", "tennis"), ("tennis of sport", "tennis pitch of leisure", "sport of tennis"), ("DE", "FI"),
         sport.tennis),
    Kind(("leisure", "golf_course"), ("golf course of leisure", "leisure of golf course"), ("P3", "P5", "P5"),
         sport.golf, ("landuse=farmland", "natural=sand")),
)  # fmt: skip
"""All kinds."""
