import struct
import unicodedata
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from dove_core.data.sharding.archives import (
    IMAGE_ENDINGS,
    META_ENDINGS,
    Archives,
    identity_of,
    image_places,
    index_images,
    meta_places,
)
from dove_core.data.sharding.member_reader import MemberLocation, MemberReader
from dove_core.errors import DataError

BIG = 2**20


class Opened:
    """Places with their index, asked for one path at a time."""

    def __init__(self, places: list[Path], index: Archives) -> None:
        self.places, self.index = places, index

    def __len__(self) -> int:
        return len(self.index)

    def read(self, path: str, limit: int = BIG) -> bytes:
        found = self.index.locate(pa.array([path], pa.large_string()))
        if found.entry[0] < 0:
            raise DataError(found.problems[0])
        columns = self.index.columns(found.entry, "")
        where = MemberLocation.of({name: column.to_pylist()[0] for name, column in columns.items()}, "")
        assert where is not None
        return MemberReader(self.places).read(where, limit)


def open_images(place: Path) -> Opened:
    places = image_places(place)
    return Opened(places, index_images(places))


def open_metas(place: Path) -> Opened:
    return Opened(meta_places(place), Archives(meta_places(place), META_ENDINGS))


def make_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def make_folder(root: Path, members: dict[str, bytes]) -> Path:
    for name, data in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


LAYOUTS = {
    "plain": "images2/x.jpg",
    "doubly nested": "images2/images2/x.jpg",
    "flat": "x.jpg",
    "below another folder": "release/images2/x.jpg",
}


@pytest.mark.parametrize("inside", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_an_image_is_found_in_each_layout_of_a_zip(tmp_path: Path, inside: str) -> None:
    make_zip(tmp_path / "images2.zip", {inside: b"two"})
    make_zip(tmp_path / "images3.zip", {"images3/y.jpg": b"three"}, zipfile.ZIP_DEFLATED)
    images = open_images(tmp_path)
    assert images.read("images2/x.jpg") == b"two"
    assert images.read("images3/y.jpg") == b"three"
    with pytest.raises(DataError, match="no file fits"):
        images.read("images3/x.jpg")


@pytest.mark.parametrize("inside", ["x.jpg", "images2/x.jpg"])
def test_an_image_is_found_in_a_folder(tmp_path: Path, inside: str) -> None:
    root = make_folder(tmp_path / "images2", {inside: b"two"})
    for place in (root, tmp_path):
        images = open_images(place)
        assert images.read("images2/x.jpg") == b"two"
        assert images.read(".\\images2\\x.jpg") == b"two"


def test_a_base_name_finds_the_only_image_of_that_name(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "RSICD_images.zip", {"RSICD_images/a.jpg": b"a", "one/b.jpg": b"1", "two/b.jpg": b"2"})
    images = open_images(path)
    assert images.read("a.jpg") == b"a"
    with pytest.raises(DataError, match=r"2 files fit 'b.jpg': RSICD_images/one/b.jpg, RSICD_images/two/b.jpg"):
        images.read("b.jpg")


def test_the_shallowest_of_several_is_meant(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "p.zip", {"thumbs/images2/x.jpg": b"small", "images2/x.jpg": b"large"})
    images = open_images(path)
    assert images.read("images2/x.jpg") == b"large"


def test_a_zip_is_read_instead_of_its_unpacked_folder(tmp_path: Path) -> None:
    make_zip(tmp_path / "images2.zip", {"images2/x.jpg": b"zip"})
    make_folder(tmp_path, {"images2/x.jpg": b"folder", "images3/y.jpg": b"folder"})
    images = open_images(tmp_path)
    assert len(images) == 2
    assert images.read("images2/x.jpg") == b"zip"
    assert images.read("images3/y.jpg") == b"folder"


def test_what_macs_and_others_leave_behind_is_no_image(tmp_path: Path) -> None:
    junk = {"__MACOSX/images2/._x.jpg": b"", "images2/._x.jpg": b"", ".hidden/x.jpg": b"", "images2/Thumbs.db": b""}
    path = make_zip(tmp_path / "images2.zip", {"images2/x.jpg": b"two", **junk})
    images = open_images(path)
    assert len(images) == 1


@pytest.mark.parametrize("hostile", ["../secret.jpg", "images2/../../secret.jpg", "..", "", "/", "..\\secret.jpg"])
def test_a_hostile_path_leads_nowhere(tmp_path: Path, hostile: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    root = make_folder(tmp_path / "data", {"images2/x.jpg": b"two"})
    images = open_images(root)
    with pytest.raises(DataError):
        images.read(hostile)


def test_a_hostile_member_is_not_indexed(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "i.zip", {"../../x.jpg": b"evil", "ok.jpg": b"fine"})
    images = open_images(path)
    assert len(images) == 1
    assert images.read("ok.jpg") == b"fine"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_damaged_member_is_an_error_and_its_neighbours_are_not(tmp_path: Path, compression: int) -> None:
    path = make_zip(tmp_path / "i.zip", {"a.jpg": b"aaaa" * 200, "b.jpg": b"bbbb" * 200}, compression)
    with zipfile.ZipFile(path) as archive:
        begin = archive.getinfo("a.jpg").header_offset + 30 + len("a.jpg")
        size = archive.getinfo("a.jpg").compress_size
    data = bytearray(path.read_bytes())
    data[begin : begin + size] = bytes(255 - byte for byte in data[begin : begin + size])
    path.write_bytes(data)
    images = open_images(path)
    with pytest.raises(DataError, match=r"i/a\.jpg (is damaged|cannot be read)"):
        images.read("a.jpg")
    assert images.read("b.jpg") == b"bbbb" * 200


def test_a_member_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "i.zip", {"a.jpg": b"0" * 5000}, zipfile.ZIP_DEFLATED)
    images = open_images(path)
    with pytest.raises(DataError, match="5000 bytes, more than 100"):
        images.read("a.jpg", 100)


def test_an_unreadable_zip_is_an_error_with_a_hint(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "images2.zip", {"images2/x.jpg": b"two" * 100}).read_bytes()
    for half in (whole[: len(whole) // 2], b"<html>404</html>", b""):
        (tmp_path / "images2.zip").write_bytes(half)
        with pytest.raises(DataError, match=r"images2\.zip cannot be read as a zip") as caught:
            open_images(tmp_path)
        assert "fetch it again" in caught.value.hint


def test_a_place_without_images_is_an_error_that_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("?")
    with pytest.raises(DataError, match=r"holds no images: notes\.txt") as caught:
        open_images(tmp_path)
    assert "expected zips" in caught.value.hint
    with pytest.raises(DataError, match="does not exist"):
        open_images(tmp_path / "nowhere")


def test_metadata_beside_the_images_is_not_an_image(tmp_path: Path) -> None:
    make_zip(tmp_path / "images2.zip", {"images2/x.jpg": b"two"})
    assert meta_places(tmp_path) == []
    make_zip(tmp_path / "meta2.zip", {"meta2/x.pickle": b"meta", "meta2/y.jpg": b"no"})
    make_folder(tmp_path / "meta3", {"z.pkl": b"three"})
    images = open_images(tmp_path)
    assert len(images) == 1
    metas = open_metas(tmp_path)
    assert metas.read("x.pickle") == b"meta"
    assert metas.read("z.pkl") == b"three"


def test_the_identity_changes_with_the_content(tmp_path: Path) -> None:
    identities = []
    for data in (b"one", b"one", b"two"):
        path = make_zip(tmp_path / "images2.zip", {"x.jpg": data})
        with zipfile.ZipFile(path) as archive:
            written = archive.infolist()[0].date_time
        identities.append((written, identity_of([path], IMAGE_ENDINGS)))
    assert identities[2][1] != identities[0][1]
    assert identities[0][0] != identities[1][0] or identities[0][1] == identities[1][1]
    root = make_folder(tmp_path / "images3", {"y.jpg": b"one"})
    before = identity_of([root], IMAGE_ENDINGS)
    assert identity_of([root], IMAGE_ENDINGS) == before
    make_folder(root, {"z.jpg": b"one", "notes.txt": b"?"})
    assert identity_of([root], IMAGE_ENDINGS) != before


def test_a_path_may_begin_above_the_folder_that_is_given(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images2", {"x.jpg": b"two"})
    images = open_images(root)
    assert images.read("/home/someone/images2/x.jpg") == b"two"
    with pytest.raises(DataError, match="no file fits"):
        images.read("/home/someone/images3/x.jpg")
    packed = make_zip(tmp_path / "other" / "a.zip", {"images2/x.jpg": b"two"})
    for above in (packed, make_folder(tmp_path / "third", {"images2/x.jpg": b"two"})):
        assert open_images(above).read("D:\\data\\images2\\x.jpg") == b"two"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("packed", [True, False])
def test_names_in_utf_8_are_found_in_both_unicode_forms(tmp_path: Path, form: str, packed: bool) -> None:
    name = unicodedata.normalize(form, "café_0.jpg")  # type: ignore[arg-type]
    if packed:
        path = make_zip(tmp_path / "i.zip", {name: b"coffee"})
        data = path.read_bytes()
        flagged = struct.pack("<H", 0x800)
        assert data.count(flagged) == 2
        path.write_bytes(data.replace(flagged, b"\0\0"))  # as Info-ZIP and macOS write: UTF-8 that does not say so
    else:
        path = make_folder(tmp_path / "i", {name: b"coffee"})
    for asked in ("NFC", "NFD"):
        assert open_images(path).read(unicodedata.normalize(asked, "café_0.jpg")) == b"coffee"  # type: ignore[arg-type]


def test_links_are_followed_and_circles_are_left(tmp_path: Path) -> None:
    make_folder(tmp_path / "far", {"x.jpg": b"two"})
    root = make_folder(tmp_path / "near", {"y.jpg": b"one"})
    (root / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "back").symlink_to(root)
    (root / "nowhere.jpg").symlink_to(tmp_path / "gone")
    images = open_images(root)
    assert len(images) == 2
    assert images.read("linked/x.jpg") == b"two"


def test_a_zip_in_capitals_is_one_too(tmp_path: Path) -> None:
    make_zip(tmp_path / "A.zip", {"x.jpg": b"one"}).rename(tmp_path / "A.ZIP")
    assert open_images(tmp_path).read("x.jpg") == b"one"
