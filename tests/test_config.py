"""Settings have help texts and bounds, and recipes set them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_type_hints

import pytest

from dove_core import config
from dove_core.bounds import Settings
from dove_core.config import ExecutorConfig, FetchConfig, ModelConfig, ShardConfig, TrainConfig
from dove_core.errors import UsageError
from dove_core.recipes import read_recipe, recipe_names

KINDS = [value for value in vars(config).values() if dataclasses.is_dataclass(value) and value is not Settings]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_setting_has_a_help_and_a_default_within_its_bounds(kind):
    kind()
    for field in dataclasses.fields(kind):
        assert field.metadata["help"].endswith((".", "?")), field.name


def test_the_model_and_training_have_the_documented_defaults():
    model, training = ModelConfig(), TrainConfig()
    assert (model.backbone, model.image_size, model.embed_dim) == ("resnet50", 256, 512)
    assert model.caption_field == "title_multi_objects"
    assert (training.batch_size, training.epochs, training.learning_rate) == (64, 20, 2e-4)
    assert (training.weight_decay, training.lambda_g, training.margin) == (0.05, 10, 0.2)


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (TrainConfig, {"learning_rate": 0.0}, "--learning-rate 0.0 is out of range"),
        (TrainConfig, {"epochs": 0}, "--epochs 0 is out of range"),
        (TrainConfig, {"margin": float("nan")}, "--margin nan is out of range"),
        (TrainConfig, {"objective": "none"}, "--objective 'none' is not a valid choice"),
        (ExecutorConfig, {"executor": "slurm"}, "--executor 'slurm' is not a valid choice"),
        (ExecutorConfig, {"ray_address": "host:6379"}, "--ray-address needs --executor ray"),
        (TrainConfig, {"captions_per_picture": 2, "paired_captions": 3}, "--paired-captions 3 is more than"),
        (ModelConfig, {"embed_dim": 100}, "--embed-dim 100 is not a multiple of --heads 8"),
        (ModelConfig, {"center_box_frac": 1.5}, "--center-box-frac 1.5 is out of range"),
        (FetchConfig, {"limit": -1}, "--limit -1 is out of range"),
        (FetchConfig, {"captions": "best"}, "--captions 'best' is not a valid choice"),
        (ShardConfig, {"max_bad": -0.1}, "--max-bad -0.1 is out of range"),
        (ShardConfig, {"shard_size": "many"}, "--shard-size 'many' is not of type int"),
    ],
)
def test_an_invalid_setting_is_an_error_with_its_option_and_value(kind, values, words):
    with pytest.raises(UsageError) as caught:
        kind(**values)
    assert words in caught.value.message


def test_no_two_settings_of_a_command_have_the_same_name():
    for kinds in (
        ("ModelConfig", "TrainConfig", "FineTuneConfig", "ComputeConfig"),
        ("ShardConfig", "ExecutorConfig"),
        ("EvalConfig", "ZeroShotConfig", "RankConfig", "ComputeConfig", "ExecutorConfig"),
        ("QueryConfig", "RankConfig", "ComputeConfig"),
        ("EmbedConfig", "ComputeConfig", "ExecutorConfig"),
        ("ServeConfig", "CacheConfig"),
    ):
        names = [name for kind in kinds for name in get_type_hints(getattr(config, kind))]
        assert len(names) == len(set(names))


def test_every_included_recipe_can_be_read():
    assert recipe_names() == ["clip-retrieval", "rsicd-imagenet", "rsicd-scratch", "rsicd-scratch-gpu"]
    for name in recipe_names():
        assert read_recipe(name)


def test_a_recipe_can_be_a_file_of_the_user(tmp_path):
    (tmp_path / "own.toml").write_text('[model]\nbackbone = "resnet34"\n[training]\nepochs = 3\n')
    assert read_recipe(str(tmp_path / "own.toml")) == {"backbone": "resnet34", "epochs": 3}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model]\nbackbon = 1", "there is no setting 'backbon' in [model]"),
        ("[training]\nbackbone = 'resnet18'", "there is no setting 'backbone' in [training]"),
        ("[modl]\nbackbone = 'resnet18'", "has 'modl'"),
        ("epochs = 3", "has 'epochs'"),
        ("[training]\nepochs = 0", "--epochs 0 is out of range"),
        ("[training]\nepochs = 'many'", "--epochs 'many' is not of type int"),
        ("[training", "cannot be read"),
    ],
)
def test_an_invalid_recipe_is_an_error_that_names_the_setting(text, words, tmp_path):
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_recipe(str(tmp_path / "own.toml"))
    assert words in caught.value.message
    assert caught.value.hint


def test_an_unknown_recipe_is_an_error_that_names_the_known_ones():
    with pytest.raises(UsageError, match="--recipe mine: there is no such recipe") as caught:
        read_recipe("mine")
    assert "rsicd-scratch" in caught.value.hint


def test_the_help_of_train_names_every_recipe():
    commands = (Path(__file__).parents[1] / "docs" / "commands.md").read_text()
    (row,) = [line for line in commands.splitlines() if line.startswith("| `--recipe` ")]
    assert all(name in row for name in recipe_names())
