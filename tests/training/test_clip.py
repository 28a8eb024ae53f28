"""Training a CLIP model further: loss, layers, freezing, resume, several processes, and the settings it has."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch
from open_clip.loss import ClipLoss

from dove_core.config import ComputeConfig, FineTuneConfig, LaunchConfig, ModelConfig, ShardConfig, TrainConfig
from dove_core.data.reader import Shards
from dove_core.data.sharding.shards import shard_captions
from dove_core.encoding.clip import load_clip
from dove_core.encoding.clip_config import read_config
from dove_core.encoding.clip_export import export_open_clip
from dove_core.encoding.dove_text import VOCABULARY
from dove_core.encoding.load import load_encoder
from dove_core.errors import CheckpointError, TrainingError, UsageError
from dove_core.events import Event, Noted
from dove_core.training.batches import Batch, MakeBatch
from dove_core.training.clip import ClipTrainable
from dove_core.training.clip_layers import Tower, parameter_groups, towers
from dove_core.training.launch import launch
from dove_core.training.loop import resume, train
from dove_core.training.optimizer import make_optimizer, set_learning_rate
from dove_core.training.run import RunSettings
from dove_core.training.world import World
from tests.cli.test_commands import dove
from tests.clip_models import RESNET, SIGLIP, VIT, make_clip, make_tokenizer
from tests.conftest import ALONE
from tests.made import SMALL, make_karpathy
from tests.training import jobs

TUNED = TrainConfig(epochs=2, batch_size=12, learning_rate=1e-3, grad_clip=1.0)
STEPS = dataclasses.replace(TUNED, batch_size=6, max_steps=3)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ViT with random weights."""
    folder = tmp_path_factory.mktemp("clip") / "vit"
    make_clip(folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def trainable(folder: Path, training: TrainConfig = TUNED, tuning: FineTuneConfig = FineTuneConfig()) -> ClipTrainable:
    return ClipTrainable(load_clip(folder), training, tuning, lambda x, counts: x)


def batch_of(made: ClipTrainable, shards: Path, count: int) -> Batch:
    """Return a batch as the trainer makes it, of images whole and upright."""
    own = Shards(shards / "train")
    make = MakeBatch(made.tokenizer, "caption", made.image_size, crop_scale=1.0, turn=False, seed=0)
    return make([own.read(number) for number in range(count)], 0)


def whole(tokens: torch.Tensor) -> torch.Tensor:
    """Return tokens padded to the length that open_clip takes."""
    return torch.nn.functional.pad(tokens, (0, 77 - tokens.shape[1]))


def tuned(shapes: Path, run: Path, start: Path, training: TrainConfig, **more: Any) -> dict[str, torch.Tensor]:
    train(shapes / "train", run, ModelConfig(), training, ALONE, start=start, **more)
    return weights(run / "last")


def test_the_loss_is_open_clips_where_no_two_captions_are_equal(clip, shapes):
    made = trainable(clip)
    batch = batch_of(made, shapes, 24)
    distinct = {int(caption): k for k, caption in enumerate(batch.captions[0])}
    rows = torch.tensor(sorted(distinct.values()))
    own = jobs.share(batch, rows)
    assert 4 < len(rows) < 24
    ours = made.objective(own, [len(rows)]).loss
    images = made.model.encode_image(load_clip(clip).preprocess.normalise(own.pixels), normalize=True)
    texts = made.model.encode_text(whole(own.tokens), normalize=True)
    assert ours.item() == pytest.approx(ClipLoss()(images, texts, made.model.logit_scale.exp()).item(), rel=1e-5)
    assert made.objective(batch, [24]).loss < ClipLoss()(
        made.model.encode_image(load_clip(clip).preprocess.normalise(batch.pixels), normalize=True),
        made.model.encode_text(whole(batch.tokens), normalize=True)[batch.rows[0]],
        made.model.logit_scale.exp(),
    ), "equal captions are no negatives"


@pytest.mark.parametrize("each", [1, 3])
def test_loss_and_gradient_of_two_processes_equal_one_with_the_doubled_batch(clip, each):
    one = jobs.clip_gradients(World(0, 1, torch.device("cpu")), lambda event: None, clip, 7, each)
    job = partial(jobs.clip_gradients, folder=clip, count=7, captions_each=each)
    two = launch(LaunchConfig(gpus=2, restarts=0), "cpu", job)
    assert two is not None
    assert two.keys() == one.keys()
    largest = max(float(abs(g).max()) for g in one.values())
    for name, gradient in one.items():
        assert np.allclose(two[name], gradient, atol=2e-5 * largest, rtol=1e-3), name


def test_two_processes_train_the_weights_of_one(clip, shapes, tmp_path):
    one = tuned(shapes, tmp_path / "one", clip, dataclasses.replace(TUNED, max_steps=4))
    half = dataclasses.replace(TUNED, batch_size=6, max_steps=4)
    two = tuned(shapes, tmp_path / "two", clip, half, launching=LaunchConfig(gpus=2, restarts=0))
    before = weights(clip)
    for name, value in one.items():
        moved = (value - before[name]).float().norm()
        assert (two[name] - value).float().norm() <= 0.02 * moved + 1e-6, name


def test_sixteen_pairs_are_learned_completely(clip, tmp_path):
    captions, images = make_karpathy(tmp_path / "source", {"train": 16})
    shard_captions(captions, images, tmp_path / "shards", ShardConfig(workers=1))
    made = trainable(clip)
    batch = batch_of(made, tmp_path / "shards", 16)
    optimizer = make_optimizer(made.parameter_groups(0.0), learning_rate=2e-3)
    for _ in range(115):
        made.objective(batch, [16]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        made.after_step()
    encoder = made.encoder(made.model)
    with torch.no_grad():
        scores = (
            encoder.encode_images(encoder.preprocess.normalise(batch.pixels))
            @ encoder.model.encode_text(whole(batch.tokens), normalize=True).T
        )
    assert scores.argmax(dim=1).tolist() == batch.rows[0].tolist()


def test_ten_steps_equal_five_saved_and_five_more(clip, shapes, tmp_path):
    training = dataclasses.replace(TUNED, epochs=4, max_steps=10, average=0.9)
    ten = tuned(shapes, tmp_path / "ten", clip, training)
    tuned(shapes, tmp_path / "five", clip, dataclasses.replace(training, max_steps=5))
    result = resume(tmp_path / "five", ALONE, changes={"max_steps": 10})
    assert result is not None
    assert result.steps == 10
    assert all(torch.equal(value, ten[name]) for name, value in weights(tmp_path / "five" / "last").items())


def test_a_run_records_where_it_started_and_its_checkpoint_is_one_like_any_other(clip, shapes, tmp_path):
    tuned(shapes, tmp_path / "run", clip, TUNED, validation=shapes / "val")
    settings = RunSettings.read(tmp_path / "run")
    assert settings.start is not None
    assert (settings.start.address, settings.start.family) == (str(clip), "clip")
    assert settings.start.fingerprint == load_encoder(clip).fingerprint
    written = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert written["model"] == {"caption_field": settings.model.caption_field}
    assert "lambda_g" not in written["training"]
    config = read_config(tmp_path / "run" / "best")
    assert config.caption_field == "caption"
    assert str(clip) in config.origin
    assert config.sha256 == ""
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "logit_scale", "mean_recall"} <= lines[-1].keys()
    assert (tmp_path / "run" / "curves.png").exists()
    folder = export_open_clip(tmp_path / "run" / "best", tmp_path / "out")
    theirs, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    encoder, pixels = load_encoder(tmp_path / "run" / "best"), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(
            theirs.eval().encode_image(pixels, normalize=True), encoder.encode_images(pixels), atol=1e-6
        )
    again = dataclasses.replace(STEPS, max_steps=1)
    tuned(shapes, tmp_path / "again", tmp_path / "run" / "best", again)
    assert RunSettings.read(tmp_path / "again").model.caption_field == "caption"


@pytest.mark.parametrize(("config", "image", "text"), [(VIT, 1, 2), (VIT, -1, 0), (VIT, 0, -1), (RESNET, 2, 1)])
def test_frozen_parts_do_not_change_and_all_others_do(tmp_path, shapes, config, image, text):
    make_clip(tmp_path / "model", config)
    tuning = FineTuneConfig(freeze_image_blocks=image, freeze_text_blocks=text)
    after, before = (
        tuned(shapes, tmp_path / "run", tmp_path / "model", STEPS, tuning=tuning),
        weights(tmp_path / "model"),
    )
    images, texts = towers(load_clip(tmp_path / "model").model)
    frozen = images.frozen(image) | texts.frozen(text)
    assert frozen
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not changed & frozen
    assert changed >= (images.depths.keys() | texts.depths.keys() | {"logit_scale"}) - frozen
    if config is RESNET:
        still = ("visual.bn", "visual.layer1", "visual.layer2")
        statistics = {name for name in before if "running_" in name}
        assert changed & statistics == {name for name in statistics if not name.startswith(still)}


def architecture(name: str) -> torch.nn.Module:
    values = {"custom_text": False, **open_clip.get_model_config(name)}
    kind = open_clip.CustomTextCLIP if values.pop("custom_text") else open_clip.CLIP
    if "timm_model_name" in values["vision_cfg"]:
        values["vision_cfg"]["timm_model_pretrained"] = False
    with torch.device("meta"):
        return kind(**values)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore")  # of timm
@pytest.mark.parametrize(
    ("name", "blocks", "first", "last"),
    [
        ("ViT-B-32", 12, {"class_embedding", "positional_embedding", "conv1", "ln_pre"}, {"ln_post", "proj"}),
        ("RN50", 4, {"conv1", "bn1", "conv2", "bn2", "conv3", "bn3"}, {"attnpool"}),
        ("ViT-B-16-SigLIP2", 12, {"pos_embed", "patch_embed"}, {"norm", "attn_pool"}),
        ("convnext_base", 4, {"stem"}, {"head", "proj"}),
    ],
)
def test_the_layers_of_a_tower_are_known(name, blocks, first, last):
    images, texts = towers(architecture(name))

    def parts(tower: Tower, depth: int) -> set[str]:
        names = {parameter for parameter, own in tower.depths.items() if own == depth}
        return {parameter.replace("visual.", "").replace("trunk.", "").split(".")[0] for parameter in names}

    assert (images.count, texts.count) == (blocks, 12)
    assert parts(images, 0) == first
    assert parts(images, blocks + 1) >= last - {"proj"} if name == "convnext_base" else last
    words = {parameter.replace("text.", "").split(".")[0] for parameter, depth in texts.depths.items() if depth == 0}
    assert words == {"token_embedding", "positional_embedding"}
    ends = {parameter.replace("text.", "").split(".")[0] for parameter, depth in texts.depths.items() if depth == 13}
    assert ends == {"ln_final", "text_projection"}


def test_each_layer_has_its_share_of_the_learning_rate(clip):
    model = load_clip(clip).model
    groups = parameter_groups(model, 0.3, 0.5)
    shares = {id(p): (group["share"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(shares) == len(list(model.parameters()))
    named = {name: shares[id(p)] for name, p in model.named_parameters()}
    assert named["visual.conv1.weight"] == (0.125, 0.3)
    assert named["visual.transformer.resblocks.0.ln_1.weight"] == (0.25, 0.0)
    assert named["visual.transformer.resblocks.1.mlp.c_fc.weight"] == (0.5, 0.3)
    assert named["visual.proj"] == (1.0, 0.3)
    assert named["token_embedding.weight"] == (0.125, 0.3)
    assert named["logit_scale"] == (1.0, 0.0)
    optimizer = make_optimizer(groups, learning_rate=1.0)
    set_learning_rate(optimizer, 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1 * group["share"] for group in groups]


def test_the_scale_of_the_scores_stays_at_100_or_below(clip, shapes):
    made = trainable(clip)
    with torch.no_grad():
        made.model.logit_scale.fill_(10.0)
    made.after_step()
    assert made.model.logit_scale.exp().item() == pytest.approx(100, rel=1e-6)
    made.objective(batch_of(made, shapes, 8), [8]).loss.backward()
    assert made.model.logit_scale.grad != 0, "it can become smaller again"


def test_checkpointing_keeps_fewer_activations_and_changes_nothing(clip, shapes):
    kept, gradients = [], []
    for on in (False, True):
        made = trainable(clip, tuning=FineTuneConfig(grad_checkpointing=on))
        sizes: list[int] = []

        def pack(x: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(x.nbytes)
            return x

        batch = batch_of(made, shapes, 8)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss = made.objective(batch, [8]).loss
        kept.append(sum(sizes))
        loss.backward()
        gradients.append({name: p.grad for name, p in made.model.named_parameters()})
    assert kept[1] < 0.5 * kept[0]
    assert all(torch.allclose(value, gradients[1][name], atol=1e-6) for name, value in gradients[0].items())


def test_checkpointing_is_refused_where_open_clip_has_none(tmp_path):
    make_clip(tmp_path / "rn", RESNET)
    with pytest.raises(UsageError, match="--grad-checkpointing: open_clip has none for the image tower of small"):
        trainable(tmp_path / "rn", tuning=FineTuneConfig(grad_checkpointing=True))
    trainable(tmp_path / "rn", tuning=FineTuneConfig(grad_checkpointing=True, freeze_image_blocks=-1))


def test_a_loss_that_is_not_finite_ends_the_run(clip, shapes, tmp_path):
    wild = dataclasses.replace(STEPS, learning_rate=1e30, grad_clip=0.0)
    with pytest.raises(TrainingError, match="loss or gradient is nan at step 3") as caught:
        tuned(shapes, tmp_path / "run", clip, wild)
    assert caught.value.hint == "lower --learning-rate, or try --no-amp"
    assert not (tmp_path / "run" / "last").exists()


def test_a_model_with_a_sigmoid_loss_and_another_tokenizer_learns(tmp_path, shapes):
    make_clip(tmp_path / "siglip", SIGLIP, tokenizer=make_tokenizer(tmp_path / "tokenizer.json"), resize_mode="squash")
    before = weights(tmp_path / "siglip")
    once = dataclasses.replace(STEPS, max_steps=1, average=0.9)  # it has no buffers to average
    one = tuned(shapes, tmp_path / "one", tmp_path / "siglip", once)
    assert torch.equal(one["logit_bias"], before["logit_bias"])
    assert not torch.equal(one["logit_scale"], before["logit_scale"])


CHANGES: dict[str, Any] = {
    "epochs": 3, "batch_size": 8, "learning_rate": 2e-3, "weight_decay": 0.5, "warmup": 0.5, "warmup_steps": 3,
    "grad_clip": 0.01, "accumulate": 2, "average": 0.9, "captions_per_picture": 2, "random_rotation": False,
    "crop_scale": 0.3, "jitter": 0.3, "max_steps": 2, "seed": 1,
}  # fmt: skip
TUNING = {"layer_decay": 0.5, "freeze_image_blocks": 1, "freeze_text_blocks": -1}


@pytest.fixture(scope="module")
def untouched(clip, shapes, tmp_path_factory) -> dict[str, torch.Tensor]:
    return tuned(shapes, tmp_path_factory.mktemp("base") / "run", clip, STEPS)


@pytest.mark.parametrize("name", [*CHANGES, *TUNING])
def test_every_setting_of_a_clip_changes_something(name, clip, shapes, untouched, tmp_path):
    training = dataclasses.replace(STEPS, **({name: CHANGES[name]} if name in CHANGES else {}))
    tuning = FineTuneConfig(**({name: TUNING[name]} if name in TUNING else {}))
    changed = tuned(shapes, tmp_path / "run", clip, training, tuning=tuning)
    assert any(not torch.equal(value, untouched[key]) for key, value in changed.items())


@pytest.mark.parametrize(
    ("training", "tuning", "words"),
    [
        ({"lambda_g": 1.0}, {}, "--lambda-g 1.0: .* is a CLIP model, which does not have it"),
        ({"weights": "none"}, {}, "--weights none: .* is a CLIP model"),
        ({}, {"freeze_image_blocks": 3}, "--freeze-image-blocks 3: the image tower has 2 blocks"),
        ({}, {"freeze_image_blocks": -1, "freeze_text_blocks": -1}, "leave nothing to train"),
    ],
)
def test_settings_without_an_effect_on_a_clip_are_refused(training, tuning, words, clip, shapes, tmp_path):
    with pytest.raises(UsageError, match=words):
        tuned(shapes, tmp_path, clip, dataclasses.replace(STEPS, **training), tuning=FineTuneConfig(**tuning))


def test_a_dove_is_trained_further_with_its_own_shape_and_vocabulary(trained, shapes, tmp_path):
    small = dataclasses.replace(STEPS, learning_rate=1e-9)
    after = tuned(shapes, tmp_path / "run", trained / "best", small)
    before = weights(trained / "best")
    learned = [name for name in before if "running_" not in name and "num_batches" not in name]
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in learned)
    assert (tmp_path / "run/last" / VOCABULARY).read_text() == (trained / "best" / VOCABULARY).read_text()
    assert RunSettings.read(tmp_path / "run").model == RunSettings.read(trained).model
    result = resume(tmp_path / "run", ALONE, changes={"max_steps": 4})
    assert result is not None
    assert result.steps == 4
    with pytest.raises(UsageError, match=r"--backbone resnet34: .* has its own"):
        train(
            shapes / "train",
            tmp_path / "b",
            dataclasses.replace(ModelConfig(), backbone="resnet34"),
            start=trained / "best",
        )
    with pytest.raises(UsageError, match=r"--min-word-count 2: .* has its own"):
        tuned(shapes, tmp_path / "c", trained / "best", dataclasses.replace(STEPS, min_word_count=2))
    with pytest.raises(UsageError, match=r"--layer-decay 0.5: only a CLIP model has it"):
        tuned(shapes, tmp_path / "d", trained / "best", STEPS, tuning=FineTuneConfig(layer_decay=0.5))
    with pytest.raises(UsageError, match=r"--layer-decay 0.5: only a CLIP model has it"):
        train(shapes / "train", tmp_path / "e", SMALL, STEPS, ALONE, tuning=FineTuneConfig(layer_decay=0.5))


def test_words_that_the_vocabulary_of_a_dove_lacks_are_counted(clip, trained, shapes, tmp_path):
    captions, images = make_karpathy(tmp_path / "source", {"train": 12})
    text = captions.read_text().replace("grey", "dark").replace("ground", "asphalt")
    captions.write_text(text)
    shard_captions(captions, images, tmp_path / "shards", ShardConfig(workers=1))
    notes: list[str] = []

    def take(event: Event) -> None:
        if isinstance(event, Noted) and event.message.startswith("the vocabulary"):
            notes.append(event.message)

    start = trained / "best"
    one = dataclasses.replace(STEPS, max_steps=1)
    train(tmp_path / "shards" / "train", tmp_path / "a", ModelConfig(), one, ALONE, start=start, report=take)
    assert len(notes) == 1
    words = [word for image in json.loads(text)["images"] for one in image["sentences"] for word in one["raw"].split()]
    count = len({word.strip(".,") for word in words})
    share = sum(word.strip(".,") in ("dark", "asphalt") for word in words) / len(words)
    assert f"lacks 2 of the {count} words of the captions ({share:.1%} of the text), such as " in notes[0]
    resume(tmp_path / "a", ALONE, changes={"max_steps": 2}, report=take)
    train(shapes / "train", tmp_path / "b", ModelConfig(), one, ALONE, start=start, report=take)
    train(tmp_path / "shards" / "train", tmp_path / "c", ModelConfig(), one, ALONE, start=clip, report=take)
    assert len(notes) == 1, "neither in a resumed run, nor if all words are known, nor for subwords"


def test_a_checkpoint_that_changed_since_the_run_began_is_noticed(clip, shapes, tmp_path, monkeypatch):
    make_clip(tmp_path / "model")
    from dove_core.training import loop

    opened = loop.begin

    def changed(*arguments: Any) -> Any:
        make_clip(tmp_path / "model", quick_gelu=True)
        return opened(*arguments)

    monkeypatch.setattr(loop, "begin", changed)
    with pytest.raises(TrainingError, match="is not the checkpoint any more that this run was started from"):
        tuned(shapes, tmp_path / "run", tmp_path / "model", STEPS)


def test_the_command_takes_a_name_and_a_recipe_of_its_own(clip, shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "models" / "mine")
    card = tmp_path / "models" / "mine" / "model.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"activation_verified": False}))
    data = ["--shards", str(shapes / "train"), "--workers", "0", "--device", "cpu"]
    code, _, err = dove("train", "--from", "mine", *data, "--max-steps", "2", "--batch-size", "8", "--run", "a")
    assert code == 0, err
    assert "using --recipe clip-retrieval" in err
    assert "it is not verified that its activation is GELU" in err
    settings = RunSettings.read(tmp_path / "runs" / "a")
    assert (settings.training.learning_rate, settings.training.warmup_steps) == (5e-6, 100)
    assert settings.training.batch_size == 8
    make_clip(tmp_path / "models" / "second", quick_gelu=True)
    code, _, err = dove("train", "--from", "second", "--resume", "--run", "a")
    assert code == 2, err
    assert "models/second" in err
    code, _, err = dove("train", "--from", "mine", *data, "--recipe", "rsicd-scratch", "--run", "b")
    assert (code, "has its own" in err, "or the recipe that sets it" in err) == (2, True, True)
    code, _, err = dove("train", "--from", "other", *data, "--run", "b")
    assert (code, "there is no checkpoint other" in err) == (5, True)
    code, out, err = dove("train", "--from", "mine", *data, "--epochs", "1", "--learning-rate", "0.001", "--run", "c")
    assert code == 0, err
    assert "logit scale" in out
    code, _, err = dove("train", "--resume", "--run", "c", "--epochs", "2", "--layer-decay", "0.9")
    assert (code, "--layer-decay 0.9: this run was started with 1.0" in err) == (2, True)
    code, out, err = dove("train", "--resume", "--run", "c", "--epochs", "2", "--workers", "0", "--json")
    assert code == 0, err
    assert json.loads(out)["history"][-1]["epoch"] == 2


def test_a_damaged_checkpoint_is_named(tmp_path, shapes):
    make_clip(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"model.safetensors cannot be read"):
        tuned(shapes, tmp_path / "run", tmp_path / "model", STEPS)
    assert not (tmp_path / "run" / "settings.json").exists()


def test_half_precision_learns_nearly_the_same(clip, shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    for name, amp in (("half", True), ("full", False)):
        compute = ComputeConfig(device="cpu", workers=0, amp=amp)
        train(shapes / "train", tmp_path / name, ModelConfig(), TUNED, compute, start=clip, validation=shapes / "val")
    losses = [
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1])["loss"]
        for name in ("half", "full")
    ]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
