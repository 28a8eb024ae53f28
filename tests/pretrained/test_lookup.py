"""A name becomes a model or a release of data; what does not fit is an error that helps."""

from __future__ import annotations

import open_clip
import pytest

from dove_core.data.fetching.catalog import RELEASES, Release
from dove_core.errors import DownloadError, UsageError
from dove_core.pretrained.catalog import MODELS, WEIGHTS
from dove_core.pretrained.lookup import find
from tests.hub_server import hub_serving, use_in_this_process


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with hub_serving() as server:
        monkeypatch.delenv("HF_TOKEN", raising=False)
        use_in_this_process(server, tmp_path / "home", monkeypatch)
        config = {"open_clip_config.json": b"{}"}
        server.add("lab/net", config, kind="model")
        server.add("lab/both", config, kind="model")
        server.add("lab/both", {"train.parquet": b"PAR1"})
        server.add("lab/plain", {"weights.pt": b""}, kind="model")
        server.add("lab/mixed", {"weights.pt": b""}, kind="model")
        server.add("lab/mixed", {"train.parquet": b"PAR1"})
        server.add("lab/set", {"train.parquet": b"PAR1"})
        yield server


def test_the_tables_have_the_published_models_and_releases_and_no_name_twice():
    names = {
        "clip-vit-l14-laion", "farslip1-vit-b16", "farslip1-vit-b32", "farslip2-vit-b16", "farslip2-vit-b32",
        "georsclip-vit-b32", "georsclip-vit-b32-ret2", "georsclip-vit-h14", "georsclip-vit-l14",
        "georsclip-vit-l14-336", "remoteclip-rn50", "remoteclip-vit-b32", "remoteclip-vit-l14", "rs-m-clip",
        "skyclip-vit-b32-top50", "skyclip-vit-l14-top30", "skyclip-vit-l14-top30-laion",
        "skyclip-vit-l14-top30-multi", "skyclip-vit-l14-top50",
    }  # fmt: skip
    assert set(MODELS) == names
    assert not names & set(RELEASES)
    assert (
        find("RemoteCLIP_ViT_B32") is MODELS["remoteclip-vit-b32"]
        or find("RemoteCLIP_ViT_B32") == MODELS["remoteclip-vit-b32"]
    )
    assert find("skyscript") is RELEASES["skyscript"]


def test_every_activation_has_a_reason_and_every_architecture_is_one_of_open_clip():
    known = open_clip.list_models()
    for model in MODELS.values():
        assert model.licence
        if model.architecture:
            assert model.architecture in known and model.reason and model.quick_gelu is not None
    quick = {name for name, model in MODELS.items() if model.quick_gelu}
    assert {name for name in MODELS if name not in quick} == {"skyclip-vit-b32-top50", "georsclip-vit-h14", "rs-m-clip"}
    assert {name for name, model in MODELS.items() if not model.is_verified} == {
        "remoteclip-rn50", "remoteclip-vit-b32", "remoteclip-vit-l14",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "repository", "paths", "quick_gelu"),
    [
        ("ViT-B-32/openai", "timm/vit_base_patch32_clip_224.openai", WEIGHTS, True),
        ("ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", WEIGHTS, False),
        ("ViT-B-16-SigLIP2/webli", "timm/ViT-B-16-SigLIP2", WEIGHTS, False),
        ("ViTamin-S/datacomp1b", "jienengchen/ViTamin-S", ("pytorch_model.safetensors", "pytorch_model.bin"), False),
    ],
)
def test_a_tag_of_open_clip_says_place_activation_and_preprocessing(name, repository, paths, quick_gelu):
    model = find(f"open_clip:{name}")
    assert (model.base_url, model.path) == (f"hf://{repository}", paths)
    assert (model.architecture, model.quick_gelu) == (name.split("/")[0], quick_gelu)
    assert model.is_verified and "open_clip's configuration" in model.reason
    assert model.preprocess["resize_mode"] == ("squash" if "SigLIP" in name else "shortest")


def test_every_tag_of_open_clip_is_on_the_hub():
    for architecture, tag in open_clip.list_pretrained():
        assert find(f"open_clip:{architecture}/{tag}").base_url.count("/") == 3


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("open_clip:ViT-B-32/best", "tags of ViT-B-32: openai"),
        ("open_clip:ViT-B32/openai", "architectures: ViT-B-32"),
        ("open_clip:ViT-B-32", "tags of ViT-B-32: openai"),
    ],
)
def test_an_unknown_tag_or_architecture_lists_the_known_ones(name, hint):
    with pytest.raises(UsageError, match="open_clip has no weights") as caught:
        find(name)
    assert hint in caught.value.hint


def test_a_repository_is_what_its_files_are(hub):
    model = find("hf:lab/net")
    assert (model.name, model.base_url, model.architecture) == ("lab-net", "hf://lab/net", "")
    assert isinstance(find("hf:lab/set"), Release) and isinstance(find("hf:lab/mixed"), Release)
    with pytest.raises(UsageError, match="has a model and a data set lab/both") as caught:
        find("hf:lab/both")
    assert "hf://lab/both" in caught.value.hint and "hf://datasets/lab/both" in caught.value.hint
    assert find("hf://lab/both").base_url == "hf://lab/both"
    assert find("hf://datasets/lab/both").base_url == "hf://datasets/lab/both"
    with pytest.raises(DownloadError, match=r"lab/plain has no open_clip_config\.json$"):
        find("hf:lab/plain")
    with pytest.raises(DownloadError, match="has no model lab/none, or it is private"):
        find("hf://lab/none")
    with pytest.raises(DownloadError, match="neither a model nor a data set lab/none") as caught:
        find("hf:lab/none")
    assert "HF_TOKEN" in caught.value.hint
    with pytest.raises(UsageError, match="is not OWNER/NAME"):
        find("hf:net")


def test_the_users_choice_of_the_activation_is_written_down_with_what_it_overrules():
    model = find("remoteclip-vit-b32", quick_gelu=False)
    assert model.quick_gelu is False and not model.is_verified
    assert "chosen with --no-quick-gelu" in model.reason and "README" in model.reason
    assert find("skyclip-vit-l14-top30", quick_gelu=True) == MODELS["skyclip-vit-l14-top30"]
    with pytest.raises(UsageError, match="has the architecture ViT-B-32, not ViT-L-14"):
        find("remoteclip-vit-b32", architecture="ViT-L-14")


def test_a_file_that_is_in_no_table_needs_architecture_and_activation():
    model = find("mine", architecture="ViT-B-32", quick_gelu=True, has_file=True)
    assert (model.name, model.architecture, model.quick_gelu) == ("mine", "ViT-B-32", True)
    assert model.reason == "chosen with --quick-gelu"
    for choices in ({"architecture": "ViT-B-32"}, {"quick_gelu": True}, {}):
        with pytest.raises(UsageError, match="no release or model 'mine'; so nothing says how to build it") as caught:
            find("mine", has_file=True, **choices)
        assert "--architecture" in caught.value.hint and "--no-quick-gelu" in caught.value.hint
    with pytest.raises(UsageError, match="cannot be the name of a folder"):
        find("../mine", architecture="ViT-B-32", quick_gelu=True, has_file=True)


def test_a_misspelt_name_shows_similar_ones_and_all(hub):
    with pytest.raises(
        UsageError, match="no release or model 'remoteclip-vitb32'; similar: remoteclip-vit-b32"
    ) as caught:
        find("remoteclip-vitb32")
    for name in (*MODELS, *RELEASES, "hf:OWNER/NAME", "open_clip:ARCHITECTURE/TAG", "--from FILE"):
        assert name in caught.value.hint
    with pytest.raises(UsageError, match="rsicd is not a model: --architecture"):
        find("rsicd", architecture="ViT-B-32")
