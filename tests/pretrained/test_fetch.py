"""Models of others are fetched from servers with the published layouts, and become checkpoints of ours."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import open_clip
import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save

from dove_core.config import FetchConfig
from dove_core.data.fetching.transfers import Retry
from dove_core.encoding.clip import build_model
from dove_core.encoding.clip_config import ClipConfig, read_config
from dove_core.encoding.load import load_encoder
from dove_core.errors import CheckpointError, DownloadError, SpaceError, UsageError
from dove_core.events import Advanced, Event, Noted
from dove_core.pretrained.catalog import MODELS
from dove_core.pretrained.fetch import execute_model
from dove_core.pretrained.lookup import find
from dove_core.pretrained.plan import plan_model
from tests.clip_files import TINY, make_architectures_small, plain_file, skyclip_zip, tiny_model, training_file
from tests.clip_models import SIGLIP, random_model
from tests.http_server import Served, Server, serving
from tests.hub_server import HubServer, hub_serving, use_in_this_process

SIGLIP_LIKE = {
    **{name: value for name, value in SIGLIP.items() if name != "text_cfg"},
    "text_cfg": {
        **SIGLIP["text_cfg"], "vocab_size": 6, "context_length": 16, "hf_tokenizer_name": "timm/ViT-B-16-SigLIP2",
    },
}  # fmt: skip
QUICK = Retry(retries=2, first_wait=0.01, longest_wait=0.02)
REMOTE = MODELS["remoteclip-vit-b32"]
SKY = MODELS["skyclip-vit-b32-top50"]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The published files by their names."""
    b32, rn50, sky = tiny_model("ViT-B-32", True), tiny_model("RN50", True), tiny_model("ViT-B-32", False)
    return {
        "RemoteCLIP-ViT-B-32.pt": plain_file(b32),
        "RemoteCLIP-RN50.pt": plain_file(rn50),
        SKY.path[0]: skyclip_zip("SkyCLIP_ViT_B32_top50pct", sky),
    }


@pytest.fixture(autouse=True)
def hub(files, tmp_path, monkeypatch) -> Iterator[HubServer]:
    make_architectures_small(monkeypatch)
    with hub_serving() as server:
        monkeypatch.delenv("HF_TOKEN", raising=False)
        use_in_this_process(server, tmp_path / "home", monkeypatch)
        remote = {name: body for name, body in files.items() if name.startswith("RemoteCLIP")}
        server.add("chendelong/RemoteCLIP", remote, kind="model")
        yield server


@pytest.fixture
def bucket(files) -> Iterator[Server]:
    with serving() as server:
        server.files[SKY.path[0]] = Served(files[SKY.path[0]])
        yield server


def bring(model, folder: Path, events: list[Event] | None = None, **how) -> Path:
    report = (events if events is not None else []).append
    plan = plan_model(model, folder, retry=QUICK, report=report, **how)
    return execute_model(plan, retry=QUICK, report=report)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_plain_file_on_the_hub_becomes_a_checkpoint_with_its_facts(tmp_path):
    events: list[Event] = []
    folder = bring(REMOTE, tmp_path / "models/remote", events)
    config = read_config(folder)
    assert (config.architecture, config.activation, config.activation_verified) == ("ViT-B-32", "quick-gelu", False)
    assert config.origin == "hf://chendelong/RemoteCLIP/RemoteCLIP-ViT-B-32.pt"
    assert config.activation_reason == REMOTE.reason and config.licence == REMOTE.licence
    assert left(tmp_path / "models") == ["remote"]
    [note] = [event.message for event in events if isinstance(event, Noted) and "not verified" in event.message]
    assert "is QuickGELU" in note and "--no-quick-gelu" in note and "dove eval" in note


def test_a_zip_of_skyscripts_bucket_loses_optimizer_and_prefix_and_leaves_nothing_behind(bucket, tmp_path):
    events: list[Event] = []
    folder = bring(SKY, tmp_path / "models/sky", events, mirror=bucket.url())
    state = load_file(folder / "model.safetensors")
    wanted = tiny_model("ViT-B-32", False).state_dict()
    assert state.keys() == wanted.keys()
    assert all((state[name] == wanted[name]).all() for name in wanted)
    config = read_config(folder)
    assert (config.activation, config.activation_verified) == ("gelu", True)
    assert config.origin == f"{SKY.base_url}{SKY.path[0]}"
    assert left(tmp_path / "models") == ["sky"]
    unpacked = sum(event.amount for event in events if isinstance(event, Advanced) and event.task.startswith("unpack"))
    assert unpacked == len(training_file(tiny_model("ViT-B-32", False)))
    assert not any(isinstance(event, Noted) and "verified" in event.message for event in events)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_shows_address_and_size_without_a_download(hub, bucket, tmp_path, name):
    model = MODELS[name]
    if model.member:
        bucket.files[model.path[0]] = Served(bytes(5000))
        plan = plan_model(model, tmp_path / name, mirror=bucket.url(), retry=QUICK)
        assert plan.download.files[0].address == bucket.url(model.path[0])
        assert model.base_url == "https://opendatasharing.s3.us-west-2.amazonaws.com/SkyScript/"
        assert plan.size == 5000 and plan.needed > 2 * 5000
        return
    hub.add(
        model.base_url.removeprefix("hf://"), {model.path[0]: bytes(5000), "open_clip_config.json": b"{}"}, kind="model"
    )
    hub.repositories.reverse()
    plan = plan_model(model, tmp_path / name, retry=QUICK)
    [file] = plan.download.files
    assert file.address == hub.url(f"{model.base_url.removeprefix('hf://')}/resolve/main/{model.path[0]}")
    assert plan.size == 5000
    assert not any(not asked.is_probe for asked in hub.blobs.asked)
    assert not (tmp_path / name).exists()


def test_a_model_that_is_here_is_not_fetched_again_and_another_one_is_not_replaced(hub, tmp_path):
    folder = bring(REMOTE, tmp_path / "net")
    asked, card = len(hub.asked), (folder / "model.json").read_bytes()
    assert plan_model(REMOTE, folder).is_here
    assert bring(REMOTE, folder) == folder
    assert len(hub.asked) == asked
    with pytest.raises(UsageError, match="was made of another file: hf://chendelong") as caught:
        bring(MODELS["remoteclip-rn50"], folder)
    assert "--overwrite" in caught.value.hint and "--out" in caught.value.hint
    with pytest.raises(UsageError, match="has the activation quick-gelu, not gelu"):
        bring(find("remoteclip-vit-b32", quick_gelu=False), folder)
    assert (folder / "model.json").read_bytes() == card
    bring(MODELS["remoteclip-rn50"], folder, overwrite=True)
    assert read_config(folder).architecture == "RN50"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not a checkpoint, and not empty"):
        bring(REMOTE, tmp_path / "mine")


def test_an_interrupted_download_resumes(hub, files, tmp_path):
    body = files["RemoteCLIP-ViT-B-32.pt"]
    hub.blob(body).drops = [100_000] + [0] * QUICK.retries
    with pytest.raises(DownloadError):
        bring(REMOTE, tmp_path / "models/net")
    assert not (tmp_path / "models/net").exists()
    bring(REMOTE, tmp_path / "models/net")
    assert sum(asked.sent for asked in hub.blobs.asked if not asked.is_probe) == len(body)


def test_a_download_that_cannot_be_converted_stays_for_another_try_and_is_said_so(hub, files, tmp_path):
    hub.repositories.clear()
    hub.add("chendelong/RemoteCLIP", {"RemoteCLIP-ViT-B-32.pt": files["RemoteCLIP-RN50.pt"]}, kind="model")
    events: list[Event] = []
    with pytest.raises(CheckpointError, match="does not fit ViT-B-32"):
        bring(REMOTE, tmp_path / "models/net", events)
    kept = tmp_path / "models/.net.fetch/RemoteCLIP-ViT-B-32.pt"
    assert kept.read_bytes() == files["RemoteCLIP-RN50.pt"]
    assert any(isinstance(event, Noted) and f"{kept} stays for another try" in event.message for event in events)
    assert not (tmp_path / "models/net").exists()


def test_a_file_that_would_run_code_is_refused(tmp_path):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"state_dict": Exploit()}))
    with pytest.raises(CheckpointError, match="evil"):
        bring(find("remoteclip-vit-b32"), tmp_path / "net", given=tmp_path / "evil.pt")
    assert not (tmp_path / "net").exists()


class Exploit:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_a_file_that_the_user_has_is_converted_where_it_is(hub, files, tmp_path):
    (tmp_path / "mine").mkdir()
    for name in files:
        (tmp_path / "mine" / Path(name).name).write_bytes(files[name])
    folder = bring(REMOTE, tmp_path / "a", given=tmp_path / "mine/RemoteCLIP-ViT-B-32.pt")
    assert read_config(folder).origin == str(tmp_path / "mine/RemoteCLIP-ViT-B-32.pt")
    assert plan_model(REMOTE, folder, given=tmp_path / "mine").is_here
    packed = bring(SKY, tmp_path / "b", given=tmp_path / "mine")
    assert plan_model(SKY, packed, given=tmp_path / "mine/SkyCLIP_ViT_B32_top50pct.zip").is_here
    with pytest.raises(UsageError, match="was made of another file"):
        plan_model(REMOTE, folder, given=tmp_path / "mine/RemoteCLIP-RN50.pt")
    (tmp_path / "mine/epoch_20.pt").write_bytes(training_file(tiny_model("ViT-B-32", False)))
    (tmp_path / "mine/SkyCLIP_ViT_B32_top50pct.zip").unlink()
    assert plan_model(SKY, packed, given=tmp_path / "mine").is_here
    assert not hub.asked
    assert left(tmp_path) == ["a", "b", "mine"]
    with pytest.raises(UsageError, match=r"mine has no RemoteCLIP-ViT-L-14\.pt"):
        plan_model(MODELS["remoteclip-vit-l14"], tmp_path / "c", given=tmp_path / "mine")
    with pytest.raises(UsageError, match="--from and --mirror"):
        plan_model(REMOTE, tmp_path / "c", given=tmp_path / "mine", mirror="x")


def test_a_file_in_the_hubs_cache_is_converted_there(hub, tmp_path, monkeypatch):
    huggingface_hub.hf_hub_download("chendelong/RemoteCLIP", "RemoteCLIP-ViT-B-32.pt")
    sent = sum(asked.sent for asked in hub.blobs.asked)
    use_in_this_process(hub, tmp_path / "home", monkeypatch, offline=True)
    folder = bring(REMOTE, tmp_path / "models/net")
    assert read_config(folder).origin == "hf://chendelong/RemoteCLIP/RemoteCLIP-ViT-B-32.pt"
    assert sum(asked.sent for asked in hub.blobs.asked) <= sent + 1
    assert left(tmp_path / "models") == ["net"]


def test_a_repository_in_the_hubs_cache_needs_no_network(hub, tmp_path, monkeypatch):
    config = json.dumps({"model_cfg": {**TINY["ViT-B-16"], "quick_gelu": True}}).encode()
    weights = save(tiny_model("ViT-B-16", True).state_dict())
    hub.add("some/net", {"open_clip_config.json": config, "open_clip_model.safetensors": weights}, kind="model")
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        huggingface_hub.hf_hub_download("some/net", name)
    asked = len(hub.asked) + len(hub.blobs.asked)
    use_in_this_process(hub, tmp_path / "home", monkeypatch, offline=True)
    folder = bring(find("hf:some/net"), tmp_path / "models/net")
    assert read_config(folder).activation == "quick-gelu"
    assert len(hub.asked) + len(hub.blobs.asked) == asked
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        find("hf:some/other")


def test_a_damaged_zip_and_one_without_the_weights_are_errors(files, tmp_path):
    body = bytearray(files[SKY.path[0]])
    body[len(body) // 2] ^= 255
    (tmp_path / "damaged.zip").write_bytes(body)
    with pytest.raises(CheckpointError, match=r"damaged\.zip is damaged"):
        bring(SKY, tmp_path / "net", given=tmp_path / "damaged.zip")
    (tmp_path / "cut.zip").write_bytes(files[SKY.path[0]][:-100])
    with pytest.raises(CheckpointError, match=r"cut\.zip is damaged"):
        bring(SKY, tmp_path / "net", given=tmp_path / "cut.zip")
    import zipfile

    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("notes.txt", b"")
    with pytest.raises(CheckpointError, match=r"other\.zip has no .*epoch_20\.pt; seen: notes\.txt"):
        bring(SKY, tmp_path / "net", given=tmp_path / "other.zip")
    assert not (tmp_path / "net").exists()
    assert not list(tmp_path.rglob("epoch_20.pt"))


def test_a_disk_that_is_too_small_is_known_before_the_download(bucket, tmp_path):
    bucket.files[SKY.path[0]].total = 2**50
    plan = plan_model(SKY, tmp_path / "net", mirror=bucket.url(), retry=QUICK)
    assert plan.needed > 2 * 2**50
    with pytest.raises(SpaceError, match="GB are needed while it is made"):
        execute_model(plan)
    assert len(bucket.asked) == 1


def test_skyscripts_refusal_names_other_models(bucket, tmp_path):
    from dataclasses import replace

    bucket.files[SKY.path[0]].status = 403
    with pytest.raises(DownloadError, match="403") as caught:
        bring(replace(SKY, base_url=bucket.url()), tmp_path / "net")
    for help in ("4054", "--mirror", "--from", "`dove fetch remoteclip-vit-b32`"):
        assert help in caught.value.hint


def test_settings_that_choose_parts_of_a_release_do_not_fit(tmp_path):
    with pytest.raises(UsageError, match="remoteclip-vit-b32 is fetched as a whole: --split"):
        plan_model(REMOTE, tmp_path / "net", FetchConfig(split="test"))


def test_a_repository_with_a_configuration_of_open_clip_says_all_itself(hub, tmp_path):
    config = {"model_cfg": {**TINY["ViT-B-16"], "quick_gelu": True}, "preprocess_cfg": {"resize_mode": "squash"}}
    hub.add("some/net", _files(config, "ViT-B-16"), kind="model")
    model = find("hf:some/net")
    assert model.name == "some-net"
    made = read_config(bring(model, tmp_path / "models/net"))
    assert (made.activation, made.activation_verified, made.resize_mode) == ("quick-gelu", True, "squash")
    assert "open_clip_config.json" in made.activation_reason
    assert made.origin == "hf://some/net/open_clip_pytorch_model.bin"
    assert left(tmp_path / "models") == ["net"]
    bare = {name: value for name, value in config["model_cfg"].items() if name != "quick_gelu"}
    hub.add("some/bare", _files({"model_cfg": bare}, "ViT-B-16"), kind="model")
    assert read_config(bring(find("hf:some/bare"), tmp_path / "models/bare")).activation == "gelu"


def _files(config: dict, architecture: str) -> dict[str, bytes]:
    body = plain_file(tiny_model(architecture, True))
    return {"open_clip_config.json": json.dumps(config).encode(), "open_clip_pytorch_model.bin": body}


def _words(pad: object = "<pad>") -> dict[str, bytes]:
    """Return a small tokenizer as repositories have it: only its settings say how texts are padded."""
    words = {word: number for number, word in enumerate(("<s>", "</s>", "<pad>", "<unk>", "a", "lake"))}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    ends = [("<s>", 0), ("</s>", 1)]
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return {"tokenizer.json": made.to_str().encode(), "tokenizer_config.json": json.dumps({"pad_token": pad}).encode()}


@pytest.mark.parametrize("pad", ["<pad>", {"content": "<pad>", "special": True}])
def test_a_tag_of_open_clip_brings_its_own_tokenizer_and_preprocessing(hub, tmp_path, monkeypatch, pad):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-16-SigLIP2", SIGLIP_LIKE)
    model = random_model(SIGLIP_LIKE)
    weights = {"open_clip_model.safetensors": save(model.state_dict())}
    hub.add("timm/ViT-B-16-SigLIP2", {**weights, **_words(pad)}, kind="model")
    folder = bring(find("open_clip:ViT-B-16-SigLIP2/webli"), tmp_path / "net")
    config = read_config(folder)
    assert (config.resize_mode, config.mean, config.clean) == ("squash", [0.5] * 3, "canonicalize")
    assert (config.activation, config.activation_verified) == ("gelu", True)
    assert config.origin == "hf://timm/ViT-B-16-SigLIP2/open_clip_model.safetensors"
    encoder = load_encoder(folder)
    assert encoder.tokenizer.encode(["A lake!"]).tolist() == [[0, 4, 5, 1, *[2] * 12]]
    with torch.no_grad():
        expected = model.encode_text(torch.from_numpy(encoder.tokenizer.encode(["a lake"])), normalize=True)
    assert torch.allclose(encoder.encode_texts(["a lake"]), expected, atol=1e-5)


def test_a_language_model_is_built_from_the_configuration_in_its_own_repository(hub, tmp_path):
    language = json.loads(
        transformers.XLMRobertaConfig(
            vocab_size=6, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        ).to_json_string()
    )
    text = {"hf_model_name": "xlm-tiny", "hf_tokenizer_name": "xlm-tiny", "hf_pooler_type": "mean_pooler",
            "context_length": 8}  # fmt: skip
    model_cfg = {"embed_dim": 32, "vision_cfg": TINY["ViT-B-32"]["vision_cfg"], "text_cfg": text}
    config = ClipConfig("x", model_cfg, "gelu", "", language_model=language)
    torch.manual_seed(0)
    model = build_model(config)
    card = {"open_clip_config.json": json.dumps({"model_cfg": model_cfg}).encode()}
    hub.add("joaodaniel/RS-M-CLIP", {**card, "open_clip_model.safetensors": save(model.state_dict())}, kind="model")
    hub.add("xlm-tiny", {**_words(), "config.json": json.dumps(language).encode()}, kind="model")
    folder = bring(MODELS["rs-m-clip"], tmp_path / "net")
    assert read_config(folder).language_model == language
    assert load_encoder(folder).encode_texts(["a lake", ""]).shape == (2, 32)


def test_a_tokenizer_that_says_no_padding_is_an_error_and_leaves_no_checkpoint(hub, tmp_path, monkeypatch):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-16-SigLIP2", SIGLIP_LIKE)
    weights = {"open_clip_model.safetensors": save(random_model(SIGLIP_LIKE).state_dict())}
    hub.add("timm/ViT-B-16-SigLIP2", {**weights, **_words(None)}, kind="model")
    with pytest.raises(CheckpointError, match="do not say which token pads"):
        bring(find("open_clip:ViT-B-16-SigLIP2/webli"), tmp_path / "net")
    assert not (tmp_path / "net").exists()
