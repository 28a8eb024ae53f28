"""From the published layouts of data and weights on servers to hits and scores, by the commands that a user types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dove_core.pretrained.catalog import MODELS
from tests.cli.test_commands import dove
from tests.clip_files import make_architectures_small, plain_file, skyclip_zip, tiny_model
from tests.data.parquet_files import make_rsicd
from tests.http_server import Served, Server, serving
from tests.hub_server import HubServer, hub_serving, use_in_this_process
from tests.made import draw_shape

PLAIN = {
    "remoteclip-vit-b32": ("chendelong/RemoteCLIP", "RemoteCLIP-ViT-B-32.pt", "ViT-B-32", True),
    "remoteclip-rn50": ("chendelong/RemoteCLIP", "RemoteCLIP-RN50.pt", "RN50", True),
    "georsclip-vit-b32-ret2": ("Zilun/GeoRSCLIP", "ckpt/RS5M_ViT-B-32_RET-2.pt", "ViT-B-32", True),
    "georsclip-vit-l14": ("Zilun/GeoRSCLIP", "ckpt/RS5M_ViT-L-14.pt", "ViT-L-14", True),
    "farslip2-vit-b16": ("ZhenShiL/FarSLIP", "FarSLIP2_ViT-B-16.pt", "ViT-B-16", True),
}
SKY = MODELS["skyclip-vit-b32-top50"]
OPTIONS = ("--device", "cpu", "--workers", "0")


@pytest.fixture
def hub(tmp_path_factory, monkeypatch) -> Iterator[HubServer]:
    """The Hub with the published files of models, and RSICD."""
    folder = tmp_path_factory.mktemp("hub")
    make_architectures_small(monkeypatch)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub_serving() as server:
        use_in_this_process(server, folder, monkeypatch)
        for repository in {facts[0] for facts in PLAIN.values()}:
            files = {
                path: plain_file(tiny_model(architecture, quick_gelu))
                for owner, path, architecture, quick_gelu in PLAIN.values()
                if owner == repository
            }
            server.add(repository, files, kind="model")
        data = make_rsicd(folder / "rsicd")
        server.add(
            "arampacha/rsicd", {str(file.relative_to(data)): file.read_bytes() for file in data.rglob("*.parquet")}
        )
        yield server


@pytest.fixture
def home(hub, tmp_path, monkeypatch) -> Path:
    """A working folder with photos."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for colour in ("red", "green", "blue"):
        for shape in ("circle", "square"):
            draw_shape(colour, shape).save(tmp_path / "photos" / f"{colour}_{shape}.png")
    return tmp_path


def run(*words: str) -> str:
    code, out, err = dove(*words)
    assert code == 0, err
    return out


def hits(*words: str) -> dict[str, float]:
    """Return the score of each image that a query finds, best first."""
    lines = [json.loads(line) for line in run("query", *words, "--json").splitlines()]
    return {Path(hit["key"]).stem: hit["score"] for hit in lines}


def test_three_commands_lead_from_nothing_to_hits(home):
    run("fetch", "remoteclip-vit-b32")
    run("embed", "photos/", "--checkpoint", "remoteclip-vit-b32", "--out", "index/photos", *OPTIONS)
    found = hits("flooded farmland near a river", "--index", "photos")
    assert set(found) == {path.stem for path in Path("photos").iterdir()}
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_rsicd_from_the_hub_is_sharded_and_evaluated_with_a_model_from_the_hub(home):
    run("fetch", "rsicd")
    run("shard", "rsicd")
    run("fetch", "remoteclip-vit-b32")
    code, out, err = dove("eval", "--shards", "shards/rsicd/test", *OPTIONS, "--json")
    assert code == 0, err
    assert "using models/remoteclip-vit-b32" in err and "it is not verified that its activation is QuickGELU" in err
    result = json.loads(out)
    assert list(result["metrics"]) == ["global"] and result["pictures"] == 5


@pytest.mark.parametrize("name", [*PLAIN, "skyclip-vit-b32-top50"])
def test_every_layout_becomes_a_checkpoint_that_finds_an_image_by_itself(home, name):
    with serving() as bucket:
        mirror = _skyscript(bucket) if name.startswith("skyclip") else []
        run("fetch", name, *mirror)
    run("embed", "photos/", "--checkpoint", name, *OPTIONS)
    found = hits("--image", "photos/blue_square.png", "--device", "cpu")
    assert found["blue_square"] > 0.999 and found["blue_square"] > max(found.values()) - 1e-3  # of float16 vectors
    run("index", "verify", "--device", "cpu")


def _skyscript(bucket: Server) -> list[str]:
    stem = SKY.member.split("/")[0]
    bucket.files[SKY.path[0]] = Served(skyclip_zip(stem, tiny_model(SKY.architecture, False)))
    return ["--mirror", bucket.url()]


def test_both_activations_of_one_file_are_two_checkpoints_with_different_scores(home):
    run("fetch", "rsicd", "--split", "test")
    run("shard", "rsicd")
    run("fetch", "remoteclip-vit-b32")
    run("fetch", "remoteclip-vit-b32", "--no-quick-gelu", "--out", "models/other")
    vectors = {}
    for name in ("remoteclip-vit-b32", "other"):
        run("embed", "photos/", "--checkpoint", name, "--out", name, *OPTIONS)
        vectors[name] = Path("index", name, "vectors.npy").read_bytes()
    assert vectors["remoteclip-vit-b32"] != vectors["other"]
