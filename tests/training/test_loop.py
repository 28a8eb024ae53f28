"""train() and resume() on small real shards."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from dove_core.config import ShardConfig, TrainConfig
from dove_core.data.sharding.shards import shard_captions
from dove_core.errors import CheckpointError, DataError, TrainingError, UsageError
from dove_core.evaluation.rows import EncodedSplit, score_global_row as score
from dove_core.events import Advanced, Noted, Skipped
from dove_core.model.dove import Dove
from dove_core.training.average import WeightAverage
from dove_core.training.journal import Journal
from dove_core.training.loop import resume, train
from dove_core.training.optimizer import learning_rate_at
from dove_core.training.run import load_state
from tests.cli.test_commands import dove
from tests.conftest import ALONE
from tests.made import SMALL, make_karpathy

QUICK = TrainConfig(weights="none", epochs=4, batch_size=16, learning_rate=1e-3)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


def test_ten_steps_equal_five_saved_and_five_more(shapes, tmp_path):
    training = dataclasses.replace(QUICK, objective="infonce", max_steps=10)  # its temperatures must come back too
    train(shapes / "train", tmp_path / "ten", SMALL, training, ALONE)
    train(shapes / "train", tmp_path / "five", SMALL, dataclasses.replace(training, max_steps=5), ALONE)
    assert not same(tmp_path / "ten" / "last", tmp_path / "five" / "last")
    result = resume(tmp_path / "five", ALONE, changes={"max_steps": 10})
    assert result is not None
    assert result.steps == 10
    assert same(tmp_path / "ten" / "last", tmp_path / "five" / "last")


def test_a_run_folder_holds_what_a_user_and_a_resume_need(trained):
    model = {"model.safetensors", "model.json", "vocabulary.json"}
    assert {path.name for path in (trained / "best").iterdir()} == model
    assert {path.name for path in (trained / "last").iterdir()} == model | {"training.pt"}
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(math.isfinite(row["loss"]) and 0 <= row["mean_recall"] <= 100 for row in rows)
    assert json.loads((trained / "settings.json").read_text())["training"]["epochs"] == 2


def test_the_loss_falls_and_the_rate_rises_and_falls(shapes, tmp_path):
    result = train(shapes / "train", tmp_path / "run", SMALL, dataclasses.replace(QUICK, objective="infonce"), ALONE)
    assert result is not None
    assert result.history[-1]["loss"] < result.history[0]["loss"] - 1
    rates = [learning_rate_at(p / 100, warmup=0.1, highest=2.0) for p in range(101)]
    assert rates[0] == 0
    assert rates[10] == 2.0
    assert rates[5] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0, abs=1e-9)
    assert learning_rate_at(0.0, warmup=0.0, highest=2.0) == 2.0


def test_captions_without_information_give_chance_recall(tmp_path):
    random = np.random.default_rng(0)
    captions, images = make_karpathy(tmp_path / "source", {"train": 64, "val": 60})
    content = json.loads(captions.read_text())
    for image in content["images"]:
        image["sentences"] = [{"raw": " ".join(f"word{k}" for k in random.integers(0, 30, 4))} for _ in range(5)]
    captions.write_text(json.dumps(content))
    shard_captions(captions, images, tmp_path / "shards", ShardConfig(workers=1))
    training = TrainConfig(weights="none", epochs=8, batch_size=16, learning_rate=1e-3, objective="infonce")
    train(tmp_path / "shards" / "train", tmp_path / "run", SMALL, training, ALONE)
    places = ("--checkpoint", str(tmp_path / "run" / "best"), "--shards", str(tmp_path / "shards" / "val"))
    for rank_by in ("pair", "sum"):
        code, out, err = dove("eval", *places, "--device", "cpu", "--workers", "0", "--rank-by", rank_by, "--json")
        assert code == 0, err
        metrics = json.loads(out)["metrics"]
        assert set(metrics) == {"global", "reranked", "pairwise"}
        for name, scores in metrics.items():
            for k in (1, 5, 10):
                chance = k / 60
                spread = 100 * math.sqrt(chance * (1 - chance) / 60)
                assert scores[f"text_to_image_recall@{k}"] < 100 * chance + 3 * spread, (name, rank_by, k)
            chance = 100 * (1 + 5 + 10) / 60 / 3
            assert scores["mean_recall"] < chance + 8, (name, rank_by)


def test_a_frozen_backbone_does_not_change_in_a_whole_run(shapes, tmp_path):
    train(shapes / "train", tmp_path / "a", SMALL, dataclasses.replace(QUICK, max_steps=1, freeze_backbone=True), ALONE)
    train(shapes / "train", tmp_path / "b", SMALL, dataclasses.replace(QUICK, max_steps=6, freeze_backbone=True), ALONE)
    first, second = weights(tmp_path / "a" / "last"), weights(tmp_path / "b" / "last")
    assert all(torch.equal(value, second[name]) for name, value in first.items() if name.startswith("trunk."))
    assert not all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_run_is_not_overwritten(shapes, trained):
    with pytest.raises(TrainingError, match="holds a trained run") as caught:
        train(shapes / "train", trained, SMALL, QUICK, ALONE)
    assert "--resume" in caught.value.hint


def test_a_restart_of_torchrun_continues_its_run_and_refuses_another_one(shapes, tmp_path, monkeypatch):
    once, run = dataclasses.replace(QUICK, max_steps=1), tmp_path / "run"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, value)
    train(shapes / "train", run, SMALL, once, ALONE)
    with pytest.raises(TrainingError, match="holds a trained run"):
        train(shapes / "train", run, SMALL, dataclasses.replace(once, learning_rate=0.1), ALONE)
    with pytest.raises(TrainingError, match="has taken its 1 steps"):
        train(shapes / "train", run, SMALL, once, ALONE)
    assert load_state(run)[0].steps == 1


def test_a_finished_run_says_so_and_takes_more_epochs(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    with pytest.raises(TrainingError, match="trained all of its 2 epochs"):
        resume(run, ALONE, changes={})
    result = resume(run, ALONE, changes={"epochs": 3})
    assert result is not None
    assert [figures["epoch"] for figures in result.history] == [3]


def test_a_resumed_run_refuses_changes_of_other_settings(trained):
    with pytest.raises(UsageError, match=r"--margin 0.5: this run was started with 0.2"):
        resume(trained, ALONE, changes={"margin": 0.5})


@pytest.mark.parametrize(
    ("name", "words"),
    [("training.pt", "training.pt"), ("model.safetensors", "model.safetensors"), ("model.json", "model")],
)
def test_a_truncated_checkpoint_is_named(trained, tmp_path, name, words):
    run = shutil.copytree(trained, tmp_path / "run")
    path = run / "last" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=words) as caught:
        resume(run, ALONE, changes={"epochs": 3})
    assert caught.value.hint


def test_a_missing_tar_is_named(shapes, tmp_path):
    broken = shutil.copytree(shapes / "train", tmp_path / "train")
    (broken / "00002.tar").unlink()
    with pytest.raises(DataError, match=r"00002\.tar cannot be opened"):
        train(broken, tmp_path / "run", SMALL, QUICK, ALONE)


def test_too_few_images_are_refused_with_the_numbers(tmp_path):
    captions, images = make_karpathy(tmp_path / "source", {"train": 1})
    shard_captions(captions, images, tmp_path / "shards", ShardConfig(workers=1))
    with pytest.raises(TrainingError, match="has 1 images for 1 process"):
        train(tmp_path / "shards" / "train", tmp_path / "run", SMALL, QUICK, ALONE)


def test_a_resumed_run_remembers_its_changes_and_refuses_other_shards(shapes, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    resume(run, ALONE, changes={"epochs": 4, "max_steps": 7})
    with pytest.raises(TrainingError, match="has taken its 7 steps"):
        resume(run, ALONE, changes={})
    with pytest.raises(DataError, match="differs from the shards that this run was started with"):
        resume(run, ALONE, changes={"max_steps": 0}, shards=shapes / "val")
    moved = shutil.copytree(shapes, tmp_path / "moved")
    result = resume(run, ALONE, changes={"max_steps": 0}, shards=moved / "train", validation=moved / "val")
    assert result is not None
    assert result.steps == 12
    assert json.loads((run / "settings.json").read_text())["training"]["epochs"] == 4


def test_errors_of_the_validation_split_come_before_training(shapes, tmp_path):
    with pytest.raises(DataError, match=r"none/manifest\.json"):
        train(shapes / "train", tmp_path / "run", SMALL, QUICK, ALONE, validation=tmp_path / "none")
    assert not (tmp_path / "run").exists()


def test_a_run_that_stops_before_its_first_validation_has_a_best_checkpoint(shapes, tmp_path):
    once = dataclasses.replace(QUICK, max_steps=1)
    train(shapes / "train", tmp_path / "run", SMALL, once, ALONE, validation=shapes / "val")
    assert same(tmp_path / "run" / "best", tmp_path / "run" / "last")


def test_the_journal_has_events_curves_and_the_command(shapes, tmp_path):
    training = dataclasses.replace(QUICK, epochs=2)
    run = tmp_path / "run"
    train(shapes / "train", run, SMALL, training, ALONE, validation=shapes / "val", command="dove train --run run")
    resume(run, ALONE, changes={"epochs": 3}, command="dove train --resume")
    assert (run / "commands.txt").read_text().splitlines() == ["dove train --run run", "dove train --resume"]
    with Image.open(run / "curves.png") as image:
        assert image.size[0] > 500
    written = b"".join(path.read_bytes() for path in sorted((run / "events").iterdir()))
    for name in (b"epoch/mean_recall", b"epoch/waiting", b"epoch/samples_per_second", b"epoch/pair_loss"):
        assert written.count(name) == 3  # one an epoch


def test_every_tenth_step_records_losses_learning_rate_and_throughput(shapes, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Journal, "step", lambda self, number, figures: seen.append((number, figures)))
    train(shapes / "train", tmp_path / "run", SMALL, QUICK, ALONE)
    ((number, figures),) = seen
    assert number == 10
    assert figures["loss"] == pytest.approx(figures["pair_loss"] + QUICK.lambda_g * figures["global_loss"], rel=1e-4)
    assert 0 < figures["learning_rate"] < QUICK.learning_rate
    assert figures["gradient_norm"] > 0
    assert figures["samples_per_second"] > 0
    assert 0 < figures["waiting"] < 1


def test_broken_images_are_counted_and_too_many_are_an_error(tmp_path):
    captions, images = make_karpathy(tmp_path / "source", {"train": 32})
    for name in ("train_3.jpg", "train_9.jpg"):
        data = bytearray((images / name).read_bytes())
        data[data.index(b"\xff\xda") + 6] = 0x33  # its ends are whole, but its scan needs a table that is not there
        (images / name).write_bytes(data)
    shard_captions(captions, images, tmp_path / "shards", ShardConfig(verify="header", workers=1))
    events = []
    training = dataclasses.replace(QUICK, epochs=1, max_broken=0.1)
    train(tmp_path / "shards" / "train", tmp_path / "run", SMALL, training, ALONE, report=events.append)
    skipped = [event for event in events if isinstance(event, Skipped)]
    assert sum(event.count for event in skipped) == 2
    assert all("cannot be decoded" in event.example for event in skipped)
    with pytest.raises(DataError, match=r"cannot be decoded, such as .*train_[39]\.jpg") as caught:
        few = dataclasses.replace(training, max_broken=0.01)
        train(tmp_path / "shards" / "train", tmp_path / "other", SMALL, few, ALONE)
    assert "--max-broken" in caught.value.hint


def test_the_averaged_weights_are_saved_and_a_resumed_run_continues_with_both(shapes, tmp_path):
    training = dataclasses.replace(QUICK, average=0.9, max_steps=6)
    train(shapes / "train", tmp_path / "six", SMALL, training, ALONE)
    plain = dataclasses.replace(training, average=0.0)
    train(shapes / "train", tmp_path / "plain", SMALL, plain, ALONE)
    assert not same(tmp_path / "six" / "last", tmp_path / "plain" / "last")
    train(shapes / "train", tmp_path / "three", SMALL, dataclasses.replace(training, max_steps=3), ALONE)
    resume(tmp_path / "three", ALONE, changes={"max_steps": 6})
    assert same(tmp_path / "six" / "last", tmp_path / "three" / "last")


def test_the_average_follows_its_definition():
    torch.manual_seed(0)
    model = Dove(SMALL, words=9)
    average, name = WeightAverage(model, 0.5), "fusion.out.weight"
    wanted = model.state_dict()[name].clone()
    for step in range(1, 9):
        with torch.no_grad():
            model.fusion.out.weight += torch.randn_like(wanted)
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * model.state_dict()[name]
        average.update(model, step)
    assert torch.allclose(average.model.state_dict()[name], wanted, atol=1e-6)


def test_accumulated_batches_give_the_gradient_of_their_mean(shapes, tmp_path):
    training = dataclasses.replace(QUICK, batch_size=8, accumulate=2, epochs=1)
    result = train(shapes / "train", tmp_path / "run", SMALL, training, ALONE)
    assert result is not None
    assert result.steps == 3  # 48 images
    assert result.history[0]["steps"] == 3


def test_a_resumed_run_accumulates_the_same_batches(shapes, tmp_path):
    training = dataclasses.replace(QUICK, accumulate=2, epochs=2)  # three batches an epoch: two steps
    train(shapes / "train", tmp_path / "whole", SMALL, training, ALONE)
    train(shapes / "train", tmp_path / "half", SMALL, dataclasses.replace(training, max_steps=2), ALONE)
    resume(tmp_path / "half", ALONE, changes={"max_steps": 0})
    assert load_state(tmp_path / "half")[0].steps == load_state(tmp_path / "whole")[0].steps == 4
    assert same(tmp_path / "whole" / "last", tmp_path / "half" / "last")


def test_a_signal_saves_the_current_step(shapes, tmp_path):
    training = dataclasses.replace(QUICK, epochs=3)
    train(shapes / "train", tmp_path / "whole", SMALL, training, ALONE)

    def interrupt(event):
        if isinstance(event, Advanced) and not (tmp_path / "run" / "last").exists():
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(shapes / "train", tmp_path / "run", SMALL, training, ALONE, report=interrupt)
    assert load_state(tmp_path / "run")[0].steps == 1
    resume(tmp_path / "run", ALONE, changes={})
    assert same(tmp_path / "whole" / "last", tmp_path / "run" / "last")


def test_a_run_resumed_in_another_precision_scales_its_loss(shapes, tmp_path, monkeypatch):
    training = dataclasses.replace(QUICK, epochs=2, max_steps=2)
    train(shapes / "train", tmp_path / "run", SMALL, training, ALONE)
    assert load_state(tmp_path / "run")[1]["scaler"] == {}
    monkeypatch.setattr("dove_core.training.trainer.mixed_dtype", lambda device, amp, training: torch.float16)
    for steps in (3, 4):  # the second resume finds a scaler's state
        result = resume(tmp_path / "run", ALONE, changes={"max_steps": steps})
        assert result is not None and result.steps == steps
        assert load_state(tmp_path / "run")[1]["scaler"]["scale"] > 1


def test_validation_keeps_only_what_the_global_row_needs(shapes, tmp_path, monkeypatch):
    seen = list[EncodedSplit]()
    monkeypatch.setattr(
        "dove_core.training.validation.score_global_row", lambda split: seen.append(split) or score(split)
    )
    training = dataclasses.replace(QUICK, epochs=1)
    train(shapes / "train", tmp_path / "run", SMALL, training, ALONE, validation=shapes / "val")
    assert [len(list(side)) for split in seen for side in (split.images, split.captions)] == [1, 1]


@pytest.mark.slow
def test_a_compiled_trunk_learns_the_same(shapes, tmp_path):
    """AdamW's first steps have the same length for any gradient: those near zero may change their sign."""
    training = dataclasses.replace(QUICK, epochs=1, max_steps=2)
    plain = train(shapes / "train", tmp_path / "plain", SMALL, training, ALONE)
    compiled = train(shapes / "train", tmp_path / "fast", SMALL, training, dataclasses.replace(ALONE, compile="on"))
    assert plain is not None and compiled is not None
    one, other = weights(tmp_path / "plain" / "last"), weights(tmp_path / "fast" / "last")
    apart = torch.cat([(value.float() - other[name].float()).abs().flatten() for name, value in one.items()])
    assert (apart > 1e-4).float().mean() < 0.05  # of steps of about 1e-3


def test_a_run_that_ended_before_its_first_save_starts_from_the_beginning_with_its_settings(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("last", "best"))
    events = []
    result = resume(run, ALONE, changes={"validate_every": 2}, report=events.append)
    assert Noted(f"{run} was not saved yet: starting from the beginning with its settings") in events
    assert result is not None
    assert [figures["epoch"] for figures in result.history] == [1, 2]
    whole, again = (json.loads((folder / "settings.json").read_text()) for folder in (trained, run))
    assert again["training"].pop("validate_every") == 2
    assert whole["training"].pop("validate_every") == 1
    assert again == whole
    assert same(trained / "last", run / "last")


def test_a_run_with_best_and_without_last_is_not_started_over(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(run / "last")
    with pytest.raises(CheckpointError, match="it has best/ and no last/") as caught:
        resume(run, ALONE)
    assert "--from" in caught.value.hint
    assert (run / "best").exists()


def test_the_start_may_be_given_again_if_it_is_that_of_the_run(shapes, trained, tmp_path):
    once = TrainConfig(epochs=1, batch_size=16, max_steps=1)
    train(shapes / "train", tmp_path / "run", training=once, compute=ALONE, start=trained / "best")
    result = resume(tmp_path / "run", ALONE, changes={"max_steps": 2}, start=trained / "best")
    assert result is not None
    assert result.steps == 2
    with pytest.raises(UsageError, match="this run was started from"):
        resume(tmp_path / "run", ALONE, changes={"max_steps": 3}, start=trained / "last")
