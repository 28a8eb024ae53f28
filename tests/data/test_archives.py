import zipfile
from pathlib import Path

import pytest

from dove_core.data.sharding.archives import open_metas, open_pictures
from dove_core.errors import DataError

BIG = 2**20


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
def test_a_picture_is_found_in_each_layout_of_a_zip(tmp_path: Path, inside: str) -> None:
    make_zip(tmp_path / "images2.zip", {inside: b"two"})
    make_zip(tmp_path / "images3.zip", {"images3/y.jpg": b"three"}, zipfile.ZIP_DEFLATED)
    with open_pictures(tmp_path) as pictures:
        assert pictures.find("images2/x.jpg").read(BIG) == b"two"
        assert pictures.find("images3/y.jpg").read(BIG) == b"three"
        with pytest.raises(DataError, match="no file fits"):
            pictures.find("images3/x.jpg")


@pytest.mark.parametrize("inside", ["x.jpg", "images2/x.jpg"])
def test_a_picture_is_found_in_a_folder(tmp_path: Path, inside: str) -> None:
    root = make_folder(tmp_path / "images2", {inside: b"two"})
    for place in (root, tmp_path):
        with open_pictures(place) as pictures:
            assert pictures.find("images2/x.jpg").read(BIG) == b"two"
            assert pictures.find(".\\images2\\x.jpg").read(BIG) == b"two"


def test_a_base_name_finds_the_only_picture_of_that_name(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "RSICD_images.zip", {"RSICD_images/a.jpg": b"a", "one/b.jpg": b"1", "two/b.jpg": b"2"})
    with open_pictures(path) as pictures:
        assert pictures.find("a.jpg").read(BIG) == b"a"
        with pytest.raises(DataError, match=r"2 files fit 'b.jpg': RSICD_images/one/b.jpg, RSICD_images/two/b.jpg"):
            pictures.find("b.jpg")


def test_the_shallowest_of_several_is_meant(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "p.zip", {"thumbs/images2/x.jpg": b"small", "images2/x.jpg": b"large"})
    with open_pictures(path) as pictures:
        assert pictures.find("images2/x.jpg").read(BIG) == b"large"


def test_a_zip_is_read_instead_of_the_folder_unpacked_beside_it(tmp_path: Path) -> None:
    make_zip(tmp_path / "images2.zip", {"images2/x.jpg": b"zip"})
    make_folder(tmp_path, {"images2/x.jpg": b"folder", "images3/y.jpg": b"folder"})
    with open_pictures(tmp_path) as pictures:
        assert len(pictures) == 2
        assert pictures.find("images2/x.jpg").read(BIG) == b"zip"
        assert pictures.find("images3/y.jpg").read(BIG) == b"folder"


def test_what_macs_and_others_leave_behind_is_no_picture(tmp_path: Path) -> None:
    junk = {"__MACOSX/images2/._x.jpg": b"", "images2/._x.jpg": b"", ".hidden/x.jpg": b"", "images2/Thumbs.db": b""}
    path = make_zip(tmp_path / "images2.zip", {"images2/x.jpg": b"two", **junk})
    with open_pictures(path) as pictures:
        assert len(pictures) == 1


@pytest.mark.parametrize("hostile", ["../secret.jpg", "images2/../../secret.jpg", "..", "", "/", "..\\secret.jpg"])
def test_a_hostile_path_leads_nowhere(tmp_path: Path, hostile: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    root = make_folder(tmp_path / "data", {"images2/x.jpg": b"two"})
    with open_pictures(root) as pictures, pytest.raises(DataError):
        pictures.find(hostile)


def test_a_hostile_member_is_not_indexed(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "i.zip", {"../../x.jpg": b"evil", "ok.jpg": b"fine"})
    with open_pictures(path) as pictures:
        assert len(pictures) == 1
        assert pictures.find("ok.jpg").read(BIG) == b"fine"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_member_is_an_error_and_its_neighbours_are_not(tmp_path: Path, compression: int) -> None:
    path = make_zip(tmp_path / "i.zip", {"a.jpg": b"aaaa" * 200, "b.jpg": b"bbbb" * 200}, compression)
    with zipfile.ZipFile(path) as archive:
        begin = archive.getinfo("a.jpg").header_offset + 30 + len("a.jpg")
        size = archive.getinfo("a.jpg").compress_size
    data = bytearray(path.read_bytes())
    data[begin : begin + size] = bytes(255 - byte for byte in data[begin : begin + size])
    path.write_bytes(data)
    with open_pictures(path) as pictures:
        with pytest.raises(DataError, match=r"i/a\.jpg (is damaged|cannot be read)"):
            pictures.find("a.jpg").read(BIG)
        assert pictures.find("b.jpg").read(BIG) == b"bbbb" * 200


def test_a_member_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "i.zip", {"a.jpg": b"0" * 5000}, zipfile.ZIP_DEFLATED)
    with open_pictures(path) as pictures, pytest.raises(DataError, match="5000 bytes, more than 100"):
        pictures.find("a.jpg").read(100)


def test_an_unreadable_zip_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "images2.zip", {"images2/x.jpg": b"two" * 100}).read_bytes()
    for half in (whole[: len(whole) // 2], b"<html>404</html>", b""):
        (tmp_path / "images2.zip").write_bytes(half)
        with pytest.raises(DataError, match=r"images2\.zip cannot be read as a zip") as caught:
            open_pictures(tmp_path)
        assert "fetch it again" in caught.value.hint


def test_a_place_without_pictures_is_an_error_that_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("?")
    with pytest.raises(DataError, match=r"holds no pictures: notes\.txt") as caught:
        open_pictures(tmp_path)
    assert "images*.zip" in caught.value.hint
    with pytest.raises(DataError, match="does not exist"):
        open_pictures(tmp_path / "nowhere")


def test_metas_lie_beside_the_pictures_and_are_none_of_them(tmp_path: Path) -> None:
    make_zip(tmp_path / "images2.zip", {"images2/x.jpg": b"two"})
    assert open_metas(tmp_path) is None
    make_zip(tmp_path / "meta2.zip", {"meta2/x.pickle": b"meta", "meta2/y.jpg": b"no"})
    make_folder(tmp_path / "meta3", {"z.pkl": b"three"})
    with open_pictures(tmp_path) as pictures:
        assert len(pictures) == 1
    metas = open_metas(tmp_path)
    assert metas is not None
    with metas:
        assert metas.find("x.pickle").read(BIG) == b"meta"
        assert metas.find("z.pkl").read(BIG) == b"three"


def test_the_identity_changes_with_the_content(tmp_path: Path) -> None:
    path = tmp_path / "images2.zip"
    identities = []
    for data in (b"one", b"one", b"two"):
        make_zip(path, {"x.jpg": data})
        with zipfile.ZipFile(path, "a"), open_pictures(path) as pictures:
            identities.append([entry[:2] for entry in pictures.identity] + [pictures.identity[0][2]])
    assert identities[0][0] == identities[2][0]
    assert identities[0] != identities[2]


def test_a_path_may_begin_above_the_folder_that_is_given(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images2", {"x.jpg": b"two"})
    with open_pictures(root) as pictures:
        assert pictures.find("/home/someone/images2/x.jpg").read(BIG) == b"two"
        with pytest.raises(DataError, match="no file fits"):
            pictures.find("/home/someone/images3/x.jpg")
