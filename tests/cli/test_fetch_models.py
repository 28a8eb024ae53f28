"""`dove fetch` with models, as a user runs it; the Hub and SkyScript's bucket are servers on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dove_core.pretrained.catalog import MODELS
from tests.cli.test_commands import dove
from tests.clip_files import make_architectures_small, plain_file, skyclip_zip, tiny_model, training_file
from tests.http_server import Served, serving
from tests.hub_server import hub_serving, use_in_this_process

SKY = MODELS["skyclip-vit-b32-top50"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    make_architectures_small(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path


@pytest.fixture
def hub(home, tmp_path_factory, monkeypatch):
    with hub_serving() as server:
        use_in_this_process(server, tmp_path_factory.mktemp("hub"), monkeypatch)
        server.add(
            "chendelong/RemoteCLIP", {"RemoteCLIP-ViT-B-32.pt": plain_file(tiny_model("ViT-B-32", True))}, kind="model"
        )
        yield server


def card(name: str) -> dict[str, object]:
    return json.loads(Path("models", name, "model.json").read_text())


def test_a_model_is_planned_fetched_and_then_here(hub, home):
    address = hub.url("chendelong/RemoteCLIP/resolve/main/RemoteCLIP-ViT-B-32.pt")
    code, out, err = dove("fetch", "remoteclip-vit-b32", "--dry-run")
    assert code == 0, err
    assert out.splitlines()[0].split("  ")[-1] == address and "MB  to fetch" in out
    assert "models/remoteclip-vit-b32 needs about" in out and "free" in out
    plan = json.loads(dove("fetch", "remoteclip-vit-b32", "--dry-run", "--json")[1])
    assert (plan["model"], plan["quick_gelu"], plan["is_verified"]) == ("remoteclip-vit-b32", True, False)
    assert plan["files"][0]["url"] == address and plan["bytes_needed"] > plan["files"][0]["size"]
    assert dove("fetch", "remoteclip-vit-b32", "--check")[1].split()[:2] == ["present", address]
    assert not list(home.iterdir())
    code, _, err = dove("fetch", "remoteclip-vit-b32")
    assert code == 0, err
    assert "it is not verified that its activation is QuickGELU" in err
    assert card("remoteclip-vit-b32")["activation_verified"] is False
    asked = len(hub.asked)
    code, out, err = dove("fetch", "remoteclip-vit-b32", "--json")
    assert (code, json.loads(out)["is_here"]) == (0, True)
    assert "is here already; --overwrite makes it again" in err
    assert len(hub.asked) == asked


def test_both_activations_of_a_row_can_be_fetched_and_one_is_not_replaced_by_the_other(hub, home):
    assert dove("fetch", "remoteclip-vit-b32")[0] == 0
    code, _, err = dove("fetch", "remoteclip-vit-b32", "--no-quick-gelu")
    assert code == 2 and "has the activation quick-gelu, not gelu" in err and "--overwrite" in err
    code, _, err = dove("fetch", "remoteclip-vit-b32", "--no-quick-gelu", "--out", "models/other")
    assert code == 0, err
    assert card("other")["activation"] == "gelu" and "chosen with --no-quick-gelu" in card("other")["activation_reason"]
    assert dove("fetch", "remoteclip-vit-b32", "--no-quick-gelu", "--overwrite")[0] == 0
    assert card("remoteclip-vit-b32")["activation"] == "gelu"


def test_skyscripts_bucket_has_a_zip_of_which_the_weights_are_kept(home):
    with serving() as bucket:
        bucket.files[SKY.path[0]] = Served(skyclip_zip("SkyCLIP_ViT_B32_top50pct", tiny_model("ViT-B-32", False)))
        code, _, err = dove("fetch", "skyclip-vit-b32-top50", "--mirror", bucket.url())
    assert code == 0, err
    assert "unpack epoch_20.pt" in err
    assert card("skyclip-vit-b32-top50")["activation"] == "gelu"
    assert [path.name for path in Path("models").iterdir()] == ["skyclip-vit-b32-top50"]


def test_a_file_that_the_user_has_needs_what_no_table_says(home):
    Path("mine.pt").write_bytes(training_file(tiny_model("ViT-B-32", True)))
    code, _, err = dove("fetch", "mine", "--from", "mine.pt")
    assert code == 2 and "so nothing says how to build it" in err and "--architecture" in err
    code, _, err = dove("fetch", "mine", "--from", "mine.pt", "--architecture", "ViT-B-32", "--quick-gelu")
    assert code == 0, err
    assert card("mine")["activation_reason"] == "chosen with --quick-gelu"
    code, _, err = dove("fetch", "mine")
    assert code == 2 and "there is no release or model 'mine'" in err


def test_a_missing_package_is_named_before_anything_is_downloaded(hub, home, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    code, _, err = dove("fetch", "remoteclip-vit-b32")
    assert code == 2 and "cannot be converted without the package open_clip" in err and "dove-eo[clip]" in err
    assert all(asked.is_probe for asked in hub.blobs.asked)
    assert dove("fetch", "remoteclip-vit-b32", "--dry-run")[0] == 0
    code, _, err = dove("fetch", "open_clip:ViT-B-32/openai")
    assert code == 2 and "CLIP models need the library open_clip" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["remoteclip-vit-b32", "--split", "test"], "remoteclip-vit-b32 is fetched as a whole: --split"),
        (["rsicd", "--overwrite"], "rsicd is not a model: --overwrite"),
        (["rsicd", "--quick-gelu"], "rsicd is not a model: --quick-gelu"),
        (["sample", "--architecture", "RN50"], "the sample release is drawn on this machine"),
        (["open_clip:ViT-B-32/none"], "open_clip has no weights ViT-B-32/none"),
        (["remoteclip-vit-b32", "--from", "nowhere"], "--from nowhere does not exist"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(hub, words, message):
    code, _, err = dove("fetch", *words)
    assert code == 2 and message in err
    assert not hub.asked
