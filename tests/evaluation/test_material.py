"""Evaluation on images in several forms: folders of classes, tables of labels or captions, SkyScript's zips."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from dove_core.config import EvalConfig, RankConfig, ZeroShotConfig
from dove_core.data.reader import Shards
from dove_core.errors import DataError, UsageError
from dove_core.evaluation.evaluate import evaluate
from dove_core.evaluation.material import in_words, sharded
from dove_core.evaluation.measure import EvaluationInput, EvaluationRequest, measure
from dove_core.evaluation.suite import SETS, average, find_sets, missing, settings_for
from dove_core.events import Skipped
from tests.cli.test_commands import dove
from tests.conftest import ALONE
from tests.made import COLOURS, draw_shape, make_karpathy


@pytest.fixture
def folders(tmp_path):
    """Images in folders named after their classes, with the same file names in each."""
    for colour in COLOURS:
        folder = tmp_path / "ByColour" / f"{colour.title()}Circle"
        folder.mkdir(parents=True)
        for k in range(3):
            draw_shape(colour, "circle", shift=k).save(folder / f"{k}.jpg")
    return tmp_path / "ByColour"


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def drawn(tmp_path, colour, k=0):
    path = tmp_path / "drawn.jpg"
    draw_shape(colour, "circle", shift=k).save(path)
    return path.read_bytes()


def a_set(tmp_path, stem, rows, names="red\ngreen\nblue\n", header="filepath,label", table="img_txt_pairs_train.csv"):
    """Write a zip in the form of SkyScript's benchmark sets; return its path."""
    files = {f"{stem}/images/{colour}_{k}.jpg": drawn(tmp_path, colour, k) for colour in COLOURS[:3] for k in range(2)}
    lines = [header, *(f"{stem}/images/{path},{label}" for path, label in rows)]
    files[f"{stem}/{table}"] = "\n".join(lines)
    if names:
        files[f"{stem}/classnames.txt"] = names
    files[f"__MACOSX/{stem}/._{table}"] = "junk"
    return zipped(tmp_path / f"{stem}.zip", files)


ROWS = [(f"{colour}_{k}.jpg", colour) for colour in COLOURS[:3] for k in range(2)]


def labels_in(material):
    return sorted((r.path.rpartition("/")[2], *r.captions["label"]) for r in samples(material))


def samples(material):
    shards = Shards(material.shards)
    return [shards.read(n).sample for n in range(len(shards))]


def test_folder_names_become_classes(folders, tmp_path):
    with sharded(folders) as material:
        found = samples(material)
        assert material.label_field == "label"
        assert len(found) == 18  # equal file names in different classes are different images
        assert {text for sample in found for text in sample.captions["label"]} == {f"{c} circle" for c in COLOURS}
        assert material.shards.exists()
    assert not material.shards.exists()
    packed = zipped(tmp_path / "x.zip", {f"all/{p.parent.name}/{p.name}": p.read_bytes() for p in folders.glob("*/*")})
    with sharded(packed) as material:
        assert len(samples(material)) == 18


def test_folders_that_are_numbers_are_no_names_of_classes(tmp_path):
    for number, colour in enumerate(COLOURS[:3]):
        (tmp_path / "i" / str(number)).mkdir(parents=True)
        (tmp_path / "i" / str(number) / "a.jpg").write_bytes(drawn(tmp_path, colour))
    with (
        pytest.raises(DataError, match="the folders of classes are numbers, such as 0") as caught,
        sharded(tmp_path / "i"),
    ):
        pass
    assert "--class-names FILE" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("AnnualCrop", "annual crop"),
        ("storage_tank", "storage tank"),
        ("airport", "airport"),
        ("BareLand_2", "bare land 2"),
    ],
)
def test_a_folder_name_is_split_into_words(name, words):
    assert in_words(name) == words


def test_a_benchmark_zip_has_its_table_and_classes(tmp_path):
    with sharded(a_set(tmp_path, "aid", ROWS)) as material:
        assert labels_in(material) == sorted(ROWS)
        assert Path(material.class_names).read_text().split() == ["red", "green", "blue"]


def test_numbers_are_indices_of_classes_and_rows_without_a_label_are_counted(tmp_path):
    events = []
    rows = [(path, COLOURS.index(label)) for path, label in ROWS[:-1]] + [(ROWS[-1][0], "")]
    with sharded(a_set(tmp_path, "aid", rows), report=events.append) as material:
        assert labels_in(material) == sorted(ROWS[:-1])
    assert [(e.reason, e.count) for e in events if isinstance(e, Skipped)] == [("no label", 1)]
    with (
        pytest.raises(DataError, match="label 7, but there are 3 classes"),
        sharded(a_set(tmp_path, "aid", [(path, 7) for path, _ in ROWS])),
    ):
        pass
    with pytest.raises(DataError, match="numbers as labels") as caught, sharded(a_set(tmp_path, "aid", rows, names="")):
        pass
    assert "classnames.txt" in caught.value.hint


def test_either_label_column_of_an_attribute_set_can_be_used(tmp_path):
    path = a_set(
        tmp_path, "surface", [(p, f"{c},other") for p, c in ROWS], names="", header="filepath,label_v1,label_v2"
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("surface/classnames_v1.txt", "red\ngreen\nblue")
        archive.writestr("surface/classnames_v2.txt", "other\nanother")
    with sharded(path) as material:
        assert labels_in(material) == sorted(ROWS)
        assert Path(material.class_names).read_text().startswith("red\n")
    with sharded(path, label_field="label_v2") as material:
        assert {label for _, label in labels_in(material)} == {"other"}
        assert Path(material.class_names).read_text().startswith("other\n")
    with pytest.raises(UsageError, match="label_v3") as caught, sharded(path, label_field="label_v3"):
        pass
    assert "label_v1, label_v2" in caught.value.hint


def test_captions_of_a_json_and_of_a_csv_become_shards(tmp_path):
    captions, images = make_karpathy(tmp_path / "source", {"test": 4, "val": 2})
    with sharded(images, captions) as material:
        assert material.label_field == ""
        assert len(samples(material)) == 4
    with sharded(images, captions, split="val") as material:
        assert len(samples(material)) == 2
    with pytest.raises(DataError, match="no row of split train"), sharded(images, captions, split="train"):
        pass
    five = [(path, f"a {label} circle {k}") for path, label in ROWS for k in range(5)]
    path = a_set(tmp_path, "RSICD", five, names="", header="filepath,title", table="RSICD_img_txt_pairs_test.csv")
    with sharded(path) as material:
        assert material.label_field == ""
        assert [len(sample.captions["title"]) for sample in samples(material)] == [5] * 6


def test_the_table_of_the_split_is_used_and_two_of_a_split_are_an_error(tmp_path):
    path = a_set(tmp_path, "aid", ROWS, table="pairs_train.csv")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("aid/pairs_test.csv", "filepath,label\naid/images/red_0.jpg,red\n")
    with sharded(path) as material:
        assert len(samples(material)) == 1
    with sharded(path, split="train") as material:
        assert len(samples(material)) == 6
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("aid/more_test.csv", "filepath,label\n")
    with pytest.raises(DataError, match=r"several tables: .*more_test\.csv") as caught, sharded(path):
        pass
    assert "--captions" in caught.value.hint


@pytest.mark.parametrize("what", ["missing", "text", "flat"])
def test_input_without_labels_or_captions_is_an_error(tmp_path, what):
    place = tmp_path / "place.zip"
    if what == "text":
        place.write_text("no zip")
    elif what == "flat":
        place = tmp_path / "flat"
        place.mkdir()
        draw_shape("red", "circle").save(place / "x.jpg")
    with pytest.raises(DataError) as caught, sharded(place):
        pass
    assert caught.value.hint


def words(**more):
    return ZeroShotConfig(templates="a {c} circle on grey ground", **more)


def test_all_listed_classes_are_used_and_unknown_labels_are_an_error(trained, tmp_path):
    names = "red\ngreen\nblue\nyellow\n"
    path = a_set(tmp_path, "aid", ROWS, names=names)
    request = EvaluationRequest(trained / "best", zero_shot=words(), compute=ALONE)
    (found,) = measure(request, EvaluationInput(images=path))
    assert found.result["classes"] == names.split()
    assert len(found.result["confusion"]["global"]) == 4
    assert found.result["pictures"] == 6
    path = a_set(tmp_path, "eurosat", ROWS, names="red\ngreen\n")
    with pytest.raises(DataError, match=r"labels are not in .*blue"):
        measure(request, EvaluationInput(images=path))
    (tmp_path / "own.txt").write_text("blue\nred\ngreen\n")
    own = EvaluationRequest(trained / "best", zero_shot=words(class_names=str(tmp_path / "own.txt")), compute=ALONE)
    (found,) = measure(own, EvaluationInput(images=path))
    assert found.result["classes"] == ["blue", "red", "green"]


@pytest.mark.parametrize("text", ["", "one\n", "a\nb\na\n"])
def test_a_list_of_classes_has_at_least_two_and_no_duplicates(trained, tmp_path, text):
    (tmp_path / "own.txt").write_text(text)
    request = EvaluationRequest(trained / "best", zero_shot=words(class_names=str(tmp_path / "own.txt")), compute=ALONE)
    with pytest.raises(DataError, match=r"own\.txt has"):
        measure(request, EvaluationInput(images=a_set(tmp_path, "aid", ROWS)))


def test_a_suite_is_measured_with_skyscripts_settings(trained, tmp_path):
    folder = tmp_path / "benchmark"
    folder.mkdir()
    for name, known in SETS.items():
        if known.kind == "retrieval":
            titles = [(path, f"a {label} circle") for path, label in ROWS]
            made = a_set(tmp_path, name, titles, names="", header="filepath,title", table=f"{name}_test.csv")
        elif known.kind == "attribute":
            made = a_set(tmp_path, name, ROWS, header="filepath,label_v1")
        else:
            made = a_set(tmp_path, name, ROWS)
        made.rename(folder / made.name)
    assert list(find_sets(tmp_path)) == list(SETS)
    measured = measure(EvaluationRequest(trained / "best", compute=ALONE), EvaluationInput(suite=tmp_path))
    by_name = {one.result["dataset"]: one.result for one in measured}
    assert list(by_name) == list(SETS)
    assert by_name["aid"]["templates"] == ["a satellite photo of {c}.", "a satellite image of {c}"]
    assert by_name["roof_shape"]["templates"][0] == "a satellite photo of building, {c}."
    assert by_name["surface"]["templates"][1] == "a satellite image of road, {c}"
    assert by_name["RSICD"]["protocol"] == "unique-text"
    assert by_name["RSICD"]["caption_prefix"] == "a satellite image. "
    results = [one.result for one in measured]
    mean = average(results)
    seven = [r for r in results if SETS[r["dataset"]].kind == "scene" and r["dataset"] != "SkyScript_cls"]
    assert len(seven) == 7
    assert mean["metrics"]["global"]["acc1"] == pytest.approx(sum(r["metrics"]["global"]["acc1"] for r in seven) / 7)
    assert average(results[1:3]) is None
    assert missing(results) == []
    assert "fmow" in missing(results[1:3])
    words = ("eval", "--checkpoint", str(trained / "best"), "--suite", str(tmp_path), "--device", "cpu")
    code, out, err = dove(*words, "--workers", "0", "--json")
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == len(SETS) + 1
    assert lines[-1]["sets"] == [r["dataset"] for r in seven]
    assert lines[-1]["metrics"] == mean["metrics"]


def test_a_suite_keeps_settings_that_the_user_chose():
    evaluation, zero_shot = settings_for(
        "RSICD", EvalConfig(protocol="captions-5"), ZeroShotConfig(templates="there is {c}")
    )
    assert (evaluation.protocol, evaluation.prefix, zero_shot.templates) == ("captions-5", "", "there is {c}")
    evaluation, _ = settings_for("RSICD", EvalConfig(prefix="seen from above: "), ZeroShotConfig())
    assert evaluation.prefix == "seen from above: "


def test_a_folder_without_benchmark_sets_is_an_error_with_the_command_to_download_them(tmp_path):
    with pytest.raises(DataError, match="has none of SkyScript_cls, aid") as caught:
        find_sets(tmp_path)
    assert "dove fetch benchmarks" in caught.value.hint


def test_images_give_the_same_result_as_their_shards(trained, shapes, tmp_path):
    captions, images = make_karpathy(tmp_path / "source", {"test": 12})
    request = EvaluationRequest(trained / "best", compute=ALONE)
    (by_files,) = measure(request, EvaluationInput(images=images, captions=captions))
    by_shards = evaluate(trained / "best", shapes / "test", EvalConfig(), RankConfig(), ALONE).to_json()
    assert by_files.result["metrics"]["pairwise"] == pytest.approx(by_shards["metrics"]["pairwise"])
