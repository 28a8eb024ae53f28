"""Where an image has what a query describes, for models of open_clip."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from dove_core.answers.explain import explain
from dove_core.config import QueryConfig
from dove_core.encoding.clip_import import ModelSource, import_checkpoint
from dove_core.encoding.clip_relevance import AttentionRecorder, relevance
from dove_core.errors import UsageError
from dove_core.index.embed import embed
from dove_core.search.query import Searcher
from tests.cli.test_commands import dove
from tests.clip_models import RESNET, SIGLIP, TEXT, VIT, random_model
from tests.conftest import ALONE

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:timm.*", "ignore::FutureWarning:timm.*")

ONE_BLOCK = {**VIT, "vision_cfg": {**VIT["vision_cfg"], "layers": 1, "head_width": 32, "no_ln_pre": True}}


@pytest.fixture(scope="module")
def red_model():
    """A ViT of one block, made by hand: the more patches are red, the nearer is an image to the text "red".

    Channel 0 of a patch is its red, channel 1 is that of the class token alone. The attention is uniform and adds the
    patches to the class token; channel 0 of that becomes the direction of the text.
    """
    model = random_model(ONE_BLOCK)
    tower, block = model.visual, model.visual.transformer.resblocks[0]
    with torch.no_grad():
        text = open_clip.SimpleTokenizer()(["red"])
        direction = normalize(model.encode_text(text), dim=-1)[0]
        for weights in (tower.conv1.weight, tower.positional_embedding, tower.class_embedding, tower.proj):
            weights.zero_()
        for weights in (block.attn.in_proj_weight, block.mlp.c_proj.weight, block.mlp.c_proj.bias):
            weights.zero_()
        tower.conv1.weight[0, 0] = 1 / 64
        tower.class_embedding[1] = 1
        block.attn.in_proj_weight[64:] = torch.eye(32)
        block.attn.out_proj.weight.copy_(torch.eye(32))
        tower.proj[0], tower.proj[1, 3] = direction, 1
    return model


def write_checkpoint(model, folder, **image):
    torch.save(model.state_dict(), folder / "red.pt")
    config = {"model_cfg": {**ONE_BLOCK, "text_cfg": TEXT}}
    source = ModelSource("small", False, "a test", config=config, preprocess={"mean": [0] * 3, "std": [1] * 3, **image})
    import_checkpoint(folder / "red.pt", folder / "model", source)
    return folder / "model"


@pytest.mark.parametrize("cell", range(4))
def test_the_map_of_a_vit_is_where_the_image_has_what_the_text_says(red_model, cell):
    pixels = torch.zeros(1, 3, 32, 32)
    rows, columns = slice(cell // 2 * 16, cell // 2 * 16 + 16), slice(cell % 2 * 16, cell % 2 * 16 + 16)
    pixels[:, 0, rows, columns] = 1
    with torch.no_grad():
        towards = normalize(red_model.encode_image(torch.ones(1, 3, 32, 32)), dim=-1)
        found = relevance(red_model, pixels, torch.cat([towards, -towards]))
    assert found.shape == (1, 2, 4, 4)
    inside = torch.zeros(4, 4, dtype=torch.bool)
    inside[cell // 2 * 2 : cell // 2 * 2 + 2, cell % 2 * 2 : cell % 2 * 2 + 2] = True
    assert found[0, 0][inside].min() > 1e-4
    assert found[0, 0][~inside].max() < 1e-7
    assert found[0, 1].max() < 1e-7


@pytest.mark.parametrize(("mode", "red"), [("squash", (0, 1)), ("shortest", (0,)), ("longest", (0, 1))])
def test_maps_lie_where_the_shown_image_has_it(red_model, mode, red, tmp_path):
    """An image of 128 x 32 is red at its left: how much of that is seen depends on how it is resized."""
    image = np.zeros((32, 128, 3), np.uint8)
    image[:, : 56 if mode == "shortest" else 64, 0] = 255
    (tmp_path / "images").mkdir()
    Image.fromarray(image).save(tmp_path / "images" / "wide.png")
    checkpoint = write_checkpoint(red_model, tmp_path, resize_mode=mode)
    embed(checkpoint, tmp_path / "images", tmp_path / "index", compute=ALONE)
    searcher = Searcher.open(tmp_path / "index", ALONE)
    (one,) = explain(searcher, "red", searcher.ask("red", QueryConfig(top=1)))
    assert one.image.size == (200, 200)
    is_red = np.asarray(one.image.resize((4, 4), Image.Resampling.BOX))[..., 0] > 64
    assert is_red.any(axis=0).nonzero()[0].tolist() == list(red)
    assert np.array_equal(one.whole > 0.5 / is_red.sum(), is_red)
    assert one.whole.sum() == pytest.approx(1, abs=1e-5)
    assert list(one.words) == ["red"]
    assert np.allclose(one.by_word[0], one.whole)
    code, _, err = dove("query", "red", "--index", str(tmp_path / "index"), "--explain", str(tmp_path / "red.png"))
    assert code == 0, err
    with Image.open(tmp_path / "red.png") as sheet:
        assert sheet.width == 12 + 3 * 212


def test_words_that_turn_the_embedding_most_weigh_most(red_model, tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (32, 32), "red").save(tmp_path / "images" / "red.png")
    embed(write_checkpoint(red_model, tmp_path), tmp_path / "images", tmp_path / "index", compute=ALONE)
    searcher = Searcher.open(tmp_path / "index", ALONE)
    (one,) = explain(searcher, "red river bank", searcher.ask("red", QueryConfig(top=1)))
    whole, *others = searcher.embedder.embed_texts(["red river bank", "river bank", "red bank", "red river"]).numpy()
    turns = np.array([1 - whole @ other for other in others])
    assert np.allclose(one.weights, turns / turns.sum(), atol=1e-2)
    assert one.by_word.shape == (3, 4, 4)
    with pytest.raises(UsageError, match="has no words"):
        explain(searcher, "  ", searcher.ask("red", QueryConfig(top=1)))


def test_the_map_of_a_resnet_is_grad_cam():
    model, pixels = random_model(RESNET), torch.randn(2, 3, 64, 64)
    for bottleneck in model.visual.modules():
        if hasattr(bottleneck, "bn3"):
            torch.nn.init.ones_(bottleneck.bn3.weight)
    directions = normalize(torch.randn(2, 24), dim=-1)
    directions = torch.cat([directions, -directions])
    found = relevance(model, pixels, directions)
    for b in range(2):
        for c in range(4):
            features = model.visual.layer4(model.visual.layer3(model.visual.layer2(model.visual.layer1(
                model.visual.stem(pixels[b : b + 1])))))  # fmt: skip
            features.retain_grad()
            (normalize(model.visual.attnpool(features), dim=-1)[0] @ directions[c]).backward()
            weighted = (features * features.grad.mean(dim=(2, 3), keepdim=True)).sum(dim=1)[0]
            assert torch.allclose(found[b, c], weighted.clamp(min=0), atol=1e-7)
    assert (found > 0).any()
    assert (found == 0).any()


def by_definition(model, image, direction):
    """Return the map of a ViT of open_clip by section 3 of Chefer et al. 2021, one head after another."""
    tower, attentions = model.visual, []
    patches = tower.conv1(image).flatten(2).transpose(1, 2)[0]
    x = tower.ln_pre(torch.cat([tower.class_embedding[None], patches]) + tower.positional_embedding)
    for block in tower.transformer.resblocks:
        query, key, value = (block.ln_1(x) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, dim=-1)
        attentions.append([])
        for q, k, v in zip(query.split(16, dim=-1), key.split(16, dim=-1), value.split(16, dim=-1), strict=True):
            attention = (q @ k.T / 4).softmax(dim=-1)
            attention.retain_grad()
            attentions[-1].append((attention, v))
        x = x + block.attn.out_proj(torch.cat([attention @ v for attention, v in attentions[-1]], dim=-1))
        x = x + block.mlp(block.ln_2(x))
    embedding = normalize(tower.ln_post(x[0]) @ tower.proj, dim=-1)
    (embedding @ direction).backward()
    found = torch.eye(17)
    for heads in attentions:
        found = found + sum((attention * attention.grad).clamp(min=0) for attention, _ in heads) / 2 @ found
    return embedding.detach(), found[0, 1:].view(4, 4).detach()


def test_the_map_of_a_vit_is_that_of_the_paper():
    model, pixels, directions = random_model(VIT), torch.randn(2, 3, 32, 32), normalize(torch.randn(3, 24), dim=-1)
    found = relevance(model, pixels, directions)
    for b in range(2):
        for c in range(3):
            embedding, expected = by_definition(model, pixels[b : b + 1], directions[c])
            assert torch.allclose(embedding, normalize(model.encode_image(pixels[b : b + 1])[0], dim=-1), atol=1e-5)
            assert torch.allclose(found[b, c], expected, atol=1e-6)


@pytest.mark.parametrize("pool", ["avg", "map", "token"])
def test_towers_of_timm_have_maps_too_and_explaining_changes_no_number(pool):
    model = random_model({**SIGLIP, "vision_cfg": {**SIGLIP["vision_cfg"], "timm_pool": pool}})
    pixels, directions = torch.randn(1, 3, 224, 224), normalize(torch.randn(2, 192), dim=-1)
    with torch.no_grad(), AttentionRecorder() as recorder:
        within = model.encode_image(pixels)
    with torch.no_grad():
        assert torch.allclose(within, model.encode_image(pixels), atol=1e-5)
    assert len(recorder.found) == 12 + (pool == "map")
    found = relevance(model, pixels, directions)
    assert found.shape == (1, 2, 14, 14)
    assert found.min() >= 0
    assert not torch.equal(found[0, 0], found[0, 1])
    assert all(weights.grad is None for weights in model.parameters())


def test_a_model_without_maps_says_so():
    model = random_model(VIT)
    model.visual = torch.nn.Flatten()
    with pytest.raises(UsageError, match="does not know the image tower Flatten"):
        relevance(model, torch.zeros(1, 3, 32, 32), torch.zeros(1, 24))
