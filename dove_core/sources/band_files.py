"""Scenes whose bands are files of their own, as products of Sentinel-2 and Landsat have them.

Three such files are one scene, whose path names them as a shell does: `T32TQM_20190703T102031_B{04,03,02}_10m.jp2`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from xml.sax.saxutils import escape

from dove_core.errors import DataError
from dove_core.sources.source import time_in

_NUMBERED = re.compile(r"(?i)(?P<before>(?:.*[ _.-])?B)(?P<band>\d{1,2}A?)(?P<after>(?:[ _.-].*)?\.\w+)")
_NAMED = re.compile(
    r"(?i)(?P<before>(?:.*[ _.-])?)(?P<band>red|green|blue|nir|rededge|swir|pan|coastal)(?P<after>(?:[ _.-].*)?\.\w+)"
)
_BRACES = re.compile(r"(?P<before>.*)\{(?P<bands>\w+,\w+,\w+)\}(?P<after>.*)")
_OLD_LANDSAT = re.compile(r"(?i)L[TE]0?[4-7]")
"""Landsat 4 to 7, whose red, green and blue are bands 3, 2 and 1; of Landsat 8 and Sentinel-2 they are 4, 3 and 2."""

_PRODUCT = re.compile(
    r"(?i)L[A-Z]\d{2}_[A-Z0-9]{4}_\d{6}_\d{8}_\d{8}_\d{2}_[A-Z0-9]{2}(?=_)|T\d{2}[A-Z]{3}_\d{8}T\d{6}(?=_)"
)
"""Names that all files of a product of Landsat or Sentinel-2 begin with."""

_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)(\d\d)(\d\d)(?:T(\d\d)(\d\d)\d\d)?(?!\d)")
_SAFE = ".safe"


@dataclass(frozen=True)
class _Band:
    """A file with one band: the text of its name before and after the band, and the band."""

    path: Path
    before: str
    name: str
    after: str

    @property
    def metres(self) -> int:
        """Return the pixel size in the name, such as `_10m`; 0 without one."""
        match = re.match(r"_(\d+)m\b", self.after)
        return int(match[1]) if match else 0


def grouped(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the scenes that files are, and the files that are other parts of such a scene.

    Files with the red, green and blue band of one product are one scene; its other bands, masks and previews are not
    scenes. All other files are scenes.
    """
    groups = dict[tuple[Path, str, str], dict[str, _Band]]()
    for path in files:
        if band := _band_of(path):
            groups.setdefault((path.parent, band.before, band.after), {})[band.name.lower().lstrip("0")] = band
    found = dict[object, list[_Band]]()  # for each product the three bands with the smallest pixels
    for bands in sorted(groups.values(), key=lambda bands: next(iter(bands.values())).metres):
        if three := _red_green_blue(bands):
            found.setdefault((_product_of(three[0].path), three[0].before), three)
    scenes, others = list[Path](), list[Path]()
    products = {_product_of(three[0].path) for three in found.values()}
    first = {three[0].path: _path_of(three) for three in found.values()}
    rest = {band.path for three in found.values() for band in three[1:]}
    for path in files:
        if path in first:
            scenes.append(first[path])
        elif path not in rest:
            (others if _product_of(path) in products else scenes).append(path)
    return scenes, others


def band_paths(path: Path) -> tuple[Path, ...]:
    """Return the files with red, green and blue of a path of three; none if it is the path of one file."""
    match = _BRACES.fullmatch(path.name)
    if match is None or path.exists():
        return ()
    return tuple(path.with_name(match["before"] + band + match["after"]) for band in match["bands"].split(","))


def key_of(name: str) -> str:
    """Return the key of a scene: its name without the ending, and without the bands of separate files.

    >>> key_of("a/T32TQM_20190703T102031_B{04,03,02}_10m.jp2")
    'a/T32TQM_20190703T102031_10m'
    """
    path = PurePath(name).with_suffix("")
    return path.with_name(re.sub(r"(?i)[ _.-]*B?\{\w+,\w+,\w+\}", "", path.name) or "rgb").as_posix()


def time_in_name(path: Path) -> str | None:
    """Return the first day, or time, in the name of a scene of several files; None without one."""
    match = _DAY.search(path.name) if band_paths(path) else None
    if match is None:
        return None
    year, month, day, hour, minute = match.groups()
    return time_in(f"{year}-{month}-{day}" + (f" {hour}:{minute}" if hour else ""))


def stacked(paths: Sequence[Path]) -> str:
    """Return GDAL's description (VRT) of a scene with each file as a band, without copying pixels.

    Raises:
        DataError: the files have several bands, or differ in size, position or type.
    """
    import rasterio  # noqa: PLC0415

    facts = []
    for path in paths:
        with rasterio.open(path) as band:
            facts.append((band.count, band.width, band.height, band.dtypes[0], band.nodata, band.crs, band.transform))
    count, width, height, kind, nodata, crs, transform = facts[0]
    if count != 1 or any(repr(one) != repr(facts[0]) for one in facts):
        message = f"{', '.join(path.name for path in paths)} are not single bands of one size, position and type"
        raise DataError(message, hint="give them one by one, or stack them with `gdalbuildvrt -separate`")
    geo = ",".join(map(repr, transform.to_gdal())) if not transform.is_identity else ""
    lines = [f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">']
    lines += [f"<SRS>{escape(crs.to_wkt())}</SRS>"] if crs else []
    lines += [f"<GeoTransform>{geo}</GeoTransform>"] if geo else []
    for number, (path, colour) in enumerate(zip(paths, ("Red", "Green", "Blue"), strict=True), start=1):
        lines += [f'<VRTRasterBand dataType="{_gdal_type(kind)}" band="{number}">']
        lines += [f"<NoDataValue>{nodata!r}</NoDataValue>"] if nodata is not None else []
        lines += [f"<ColorInterp>{colour}</ColorInterp><SimpleSource>"]
        lines += [f'<SourceFilename relativeToVRT="0">{escape(str(path.absolute()))}</SourceFilename>']
        lines += ["<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"]
    return "".join([*lines, "</VRTDataset>"])


def _band_of(path: Path) -> _Band | None:
    match = _NUMBERED.fullmatch(path.name) or _NAMED.fullmatch(path.name)
    return _Band(path, match["before"], match["band"], match["after"]) if match else None


def _red_green_blue(bands: Mapping[str, _Band]) -> list[_Band] | None:
    is_old = _OLD_LANDSAT.match(next(iter(bands.values())).before)
    for names in (("red", "green", "blue"), ("3", "2", "1") if is_old else ("4", "3", "2")):
        if bands.keys() >= {*names}:
            return [bands[name] for name in names]
    return None


def _path_of(three: Sequence[_Band]) -> Path:
    first, bands = three[0], ",".join(band.name for band in three)
    return first.path.with_name(f"{first.before}{{{bands}}}{first.after}")


def _product_of(path: Path) -> object:
    """Return what the files of one product have in common, or of one group of bands; None for any other file."""
    if safe := next((parent for parent in path.parents if parent.name.lower().endswith(_SAFE)), None):
        return safe
    if match := _PRODUCT.match(path.name):
        return path.parent, match[0]
    band = _band_of(path)
    return (path.parent, band.before) if band else None


def _gdal_type(kind: str) -> str:
    """Return GDAL's name of a type of numpy, such as UInt16."""
    return "Byte" if kind == "uint8" else kind.capitalize().replace("Ui", "UI")
