"""A checkpoint is read as it was saved; a missing or damaged one is an error."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch

from dove_core.encoding.dove import DoveEncoder, build, save_checkpoint
from dove_core.encoding.load import load_encoder
from dove_core.errors import CheckpointError
from dove_core.model.tokenizer import Tokenizer
from tests.made import SMALL


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    made = tmp_path / "best"
    made.mkdir()
    save_checkpoint(made, build(SMALL, Tokenizer(["airport", "runway"], SMALL.max_tokens)))
    return made


def test_a_saved_checkpoint_is_read_with_its_weights_configuration_and_words(folder):
    loaded = load_encoder(folder).checkpoint
    torch.manual_seed(0)
    made = build(SMALL, Tokenizer(["airport", "runway"], SMALL.max_tokens))
    assert loaded.config == SMALL
    assert loaded.tokenizer.words == ("airport", "runway")
    assert not loaded.model.training
    state = made.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.model.state_dict().items())


def test_the_fingerprint_changes_with_weights_words_and_configuration(folder, tmp_path):
    prints = {load_encoder(folder).fingerprint}
    for name, old, new in (
        ("vocabulary.json", "runway", "runways"),
        ("model.json", '"dropout": 0.1', '"dropout": 0.2'),
    ):
        changed = shutil.copytree(folder, tmp_path / name)
        text = (changed / name).read_text()
        assert old in text
        (changed / name).write_text(text.replace(old, new))
        prints.add(load_encoder(changed).fingerprint)
    made = build(SMALL, Tokenizer(["airport", "runway"], SMALL.max_tokens))
    (other := tmp_path / "other").mkdir()
    save_checkpoint(other, made)
    assert len(prints | {load_encoder(other).fingerprint}) == 4
    assert load_encoder(shutil.copytree(folder, tmp_path / "copy")).fingerprint in prints


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "vocabulary.json"])
@pytest.mark.parametrize("keep", [0, 0.5, None])
def test_a_truncated_or_missing_file_is_named(folder, name, keep):
    path = folder / name
    if keep is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")) as caught:
        load_encoder(folder)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["model.json", "vocabulary.json", "model.safetensors"])
def test_a_folder_in_place_of_a_file_is_an_error_that_says_so(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(CheckpointError, match=re.escape(f"{folder / name} cannot be read: ") + ".*") as caught:
        load_encoder(folder)
    assert caught.value.message.endswith(": Is a directory")


def test_files_that_do_not_match_each_other_are_an_error(folder):
    content = json.loads((folder / "vocabulary.json").read_text())
    (folder / "vocabulary.json").write_text(json.dumps({**content, "words": ["one"]}))
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        load_encoder(folder)


def test_an_unknown_setting_or_one_out_of_bounds_is_an_error(folder):
    content = json.loads((folder / "model.json").read_text())
    for change, words in (
        ({"colour": 1}, "unknown keys: colour"),
        ({"region_grid": 0}, "--region-grid 0 is out of range"),
    ):
        (folder / "model.json").write_text(json.dumps({**content, **change}))
        with pytest.raises(CheckpointError, match=words):
            load_encoder(folder)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="none is not a checkpoint") as caught:
        load_encoder(tmp_path / "none")
    assert "runs/NAME/best" in caught.value.hint


def test_a_model_in_training_mode_is_an_error():
    with pytest.raises(ValueError, match="evaluation mode"):
        DoveEncoder(build(SMALL, Tokenizer(["airport"], SMALL.max_tokens)))


def test_a_checkpoint_names_its_family_and_is_dove_without_a_name(folder):
    content = json.loads((folder / "model.json").read_text())
    assert content.pop("family") == "dove"
    (folder / "model.json").write_text(json.dumps(content))
    assert load_encoder(folder).family == "dove"
