"""Embeddings and scores of Dove, with random weights."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

from dove_core.model import dove
from dove_core.model.attention import attend_to
from dove_core.model.dove import CaptionFeatures, Dove, ImageFeatures
from dove_core.model.trunk import MapShape
from dove_core.model.visual import Pooling, region_boxes, region_weights
from tests.made import SMALL


def shapes_of(size: int, width: int = 6) -> list[MapShape]:
    """Return the shapes of the maps of a ResNet."""
    return [MapShape(width, stride, -(-size // stride)) for stride in (4, 8, 16, 32)]


@pytest.fixture(scope="module")
def model() -> Dove:
    torch.manual_seed(0)
    return Dove(SMALL, words=50).eval()


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def tokens() -> tuple[Tensor, Tensor]:
    drawn = torch.randint(2, 50, (7, 9), generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([9, 1, 4, 7, 2, 9, 5])
    return drawn.masked_fill(torch.arange(9) >= lengths[:, None], 0), lengths


def both(model: Dove, pixels: Tensor, tokens: tuple[Tensor, Tensor]) -> tuple[ImageFeatures, CaptionFeatures]:
    with torch.no_grad():
        return model.encode_images(pixels), model.encode_captions(*tokens)


def test_embeddings_have_length_one_and_the_documented_shapes(model, pixels, tokens):
    images, captions = both(model, pixels, tokens)
    assert images.embedding.shape == images.fused.shape == (5, 32)
    assert images.key.shape == images.value.shape == (5, 4, 4, 8)
    assert captions.embedding.shape == captions.pooled.shape == (7, 32)
    assert captions.query.shape == (7, 4, 9, 8)
    for unit in (images.embedding, images.fused, captions.embedding):
        assert torch.allclose(unit.norm(dim=1), torch.ones(len(unit)), atol=1e-5)


def test_a_score_does_not_depend_on_the_batch_its_order_or_the_block_size(model, pixels, tokens):
    images, captions = both(model, pixels, tokens)
    whole = model.score_pairs(images, captions)
    words, lengths = tokens
    for i, j in ((0, 1), (3, 3), (4, 6)):
        alone = both(model, pixels[i : i + 1], (words[j : j + 1, : lengths[j]], lengths[j : j + 1]))
        assert torch.allclose(model.score_pairs(*alone), whole[i, j], atol=1e-5)
        assert torch.allclose(alone[0].embedding, images.embedding[i], atol=1e-5)
        assert torch.allclose(alone[1].embedding, captions.embedding[j], atol=1e-5)
    order_i, order_j = torch.tensor([4, 2, 0, 1, 3]), torch.tensor([6, 0, 5, 1, 3, 2, 4])
    turned = both(model, pixels[order_i], (words[order_j], lengths[order_j]))
    assert torch.allclose(model.score_pairs(*turned), whole[order_i][:, order_j], atol=1e-5)
    for block in (1, 700, 3000, 10**9):
        assert torch.allclose(model.score_pairs(images, captions, block=block), whole, atol=1e-6)


def test_the_pair_matrix_equals_the_naive_double_loop(model, pixels, tokens):
    images, captions = both(model, pixels, tokens)
    iga = model.guidance
    naive = torch.zeros(5, 7)
    for i in range(5):
        for j in range(7):
            guided = []
            for head in range(4):
                attention = (captions.query[j, head] @ images.key[i, head].T).softmax(dim=-1)
                pooled = sum(captions.weight[j, head, t] * attention[t] for t in range(9))
                guided.append(pooled @ images.value[i, head])
            base = iga.norm(captions.pooled[j] + iga.out(torch.cat(guided)))
            t_rg = base + iga.mlp(base)
            naive[i, j] = torch.cosine_similarity(images.fused[i], t_rg, dim=0)
    assert torch.allclose(model.score_pairs(images, captions), naive, atol=1e-5)


def test_the_guided_caption_depends_on_the_image(model, pixels, tokens):
    images, captions = both(model, pixels, tokens)
    guided = model.guidance(*images[2:], *captions[1:-1])
    assert not torch.allclose(guided[0], guided[1], atol=1e-4)


def test_gradients_do_not_depend_on_tiles_or_on_recomputation(model, pixels, tokens, monkeypatch):
    images, captions = both(model, pixels, tokens)
    gradients = []
    for block, kept in ((500, 0), (500, 10**9), (10**9, 0)):
        monkeypatch.setitem(dove._KEEP_ELEMENTS, "cpu", kept)
        key = images.key.clone().requires_grad_()
        query = captions.query.clone().requires_grad_()
        score = model.score_pairs(images._replace(key=key), captions._replace(query=query), block=block)
        gradients.append(torch.autograd.grad(score.pow(2).sum(), (key, query)))
    for again, tiled, whole in zip(*gradients, strict=True):
        assert torch.allclose(again, whole, atol=1e-6)
        assert torch.allclose(tiled, whole, atol=1e-6)


def test_image_features_do_not_depend_on_captions_nor_caption_features_on_images(model, pixels, tokens):
    images, captions = both(model, pixels, tokens)
    again, _ = both(model, pixels, (tokens[0].flip(0), tokens[1].flip(0)))
    _, same = both(model, pixels.flip(0) * 3, tokens)
    assert all(torch.equal(a, b) for a, b in zip(images, again, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(captions, same, strict=True))


def test_padding_does_not_change_a_caption(model, tokens):
    words, lengths = tokens
    with torch.no_grad():
        short = model.encode_captions(words[1:2, :1], lengths[1:2])
        padded = model.encode_captions(words[1:2], lengths[1:2])
    assert torch.allclose(short.embedding, padded.embedding, atol=1e-6)
    assert float(padded.weight[..., 1:].abs().max()) == 0


def test_weights_and_statistics_of_a_frozen_trunk_do_not_change(pixels, tokens):
    torch.manual_seed(0)
    model = Dove(SMALL, words=50)
    model.trunk.freeze()
    model.train()
    before = {name: value.clone() for name, value in model.trunk.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, _, scores = model(pixels, *tokens)
    scores.sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.trunk.state_dict().items())
    assert any(parameter.grad is not None for parameter in model.regions.parameters())


def test_every_parameter_gets_a_gradient_from_the_two_scores(pixels, tokens):
    model = Dove(dataclasses.replace(SMALL, center_box="center"), words=50)
    images, captions, pairs = model(pixels, *tokens)
    (pairs.pow(2).sum() + (images.embedding @ captions.embedding.T).pow(2).sum()).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A bias common to all logits of a softmax has no effect; its gradient is zero except for rounding.
    assert set(still) <= {"guidance.word_weight.bias", "multiscale.gate.bias"}


@pytest.mark.parametrize(("size", "stride", "grid"), [(64, 8, 4), (64, 16, 6), (96, 32, 3), (80, 32, 2)])
def test_region_weights_equal_resampling_and_roi_align(size, stride, grid):
    boxes = region_boxes(size, grid, center_frac=0.5)
    n, cells = -(-size // stride), -(-size // 16)
    m = torch.randn(2, 5, n, n)
    if n > cells:
        same = torch.nn.functional.adaptive_avg_pool2d(m, cells)
    else:
        same = torch.nn.functional.interpolate(m, size=(cells, cells), mode="bilinear", align_corners=False)
    expected = roi_align(same, [boxes, boxes], 1, 1 / 16, sampling_ratio=4, aligned=True).view(2, grid * grid + 1, 5)
    found = region_weights(boxes, n, sampled=MapShape(5, 16, cells)) @ m.flatten(2).transpose(1, 2)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("size", [80, 1024])
def test_means_of_large_maps_fit_in_half_precision(size):
    shapes = shapes_of(size, width=1)
    pooling = Pooling(shapes, size=size, grid=2, center_frac=None)
    maps = [torch.full((1, 1, side, side), 60.0, dtype=torch.float16) for _, _, side in shapes]
    assert torch.allclose(torch.cat(pooling(maps)[0]), torch.tensor(60.0, dtype=torch.float16), rtol=1e-3)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_pooling_returns_means_and_regions_of_each_stage(precision):
    shapes = shapes_of(80)
    pooling = Pooling(shapes, size=80, grid=2, center_frac=None)
    assert [shape.side for shape in shapes] == [20, 10, 5, 3]
    generator = torch.Generator().manual_seed(1)
    maps = [torch.randn(2, 6, n, n, generator=generator).to(precision) for _, _, n in shapes]
    means, regions = pooling(maps)
    assert all(torch.allclose(a, m.mean(dim=(2, 3)), atol=1e-2) for a, m in zip(means, maps, strict=True))
    assert [tuple(r.shape) for r in regions] == [(2, 4, 6)] * 3
    boxes = region_boxes(80, 2, center_frac=None)
    for pooled, m, shape in zip(regions, maps[1:], shapes[1:], strict=True):
        weights = region_weights(boxes, shape.side, sampled=shapes[-2])
        assert torch.allclose(pooled.float(), weights @ m.float().flatten(2).transpose(1, 2), atol=2e-2)


def test_gradients_of_the_maps_are_channels_last(model, pixels):
    maps = model.trunk(pixels)
    channels_last = []
    for m in maps:
        m.register_hook(lambda grad: channels_last.append(grad.is_contiguous(memory_format=torch.channels_last)))
    means, regions = model.pooling(maps)
    sum(x.pow(2).sum() for x in (*means, *regions)).backward()
    assert channels_last == [True] * 4


def test_region_boxes_cover_the_image_and_the_centre_box_is_in_the_middle():
    boxes = region_boxes(96, 3, center_frac=0.5)
    area = ((boxes[:-1, 2] - boxes[:-1, 0]) * (boxes[:-1, 3] - boxes[:-1, 1])).sum()
    assert area == 96 * 96
    assert boxes[1].tolist() == [32, 0, 64, 32]
    assert boxes[-1].tolist() == [24, 24, 72, 72]


@pytest.mark.parametrize("masked", [True, False])
def test_attention_on_a_cpu_and_its_gradients_equal_torchs_in_any_precision(masked):
    mask = (torch.arange(9) < torch.tensor([9, 1, 4])[:, None])[:, None, None] if masked else None
    found = {}
    for precision in (torch.float32, torch.bfloat16):
        torch.manual_seed(1)
        parts = [torch.randn(3, 2, 9, 8).to(precision).requires_grad_() for _ in range(3)]
        result = attend_to(*parts, mask)
        result.float().pow(2).sum().backward()
        found[precision] = (result, *(part.grad for part in parts))
    torch.manual_seed(1)
    parts = [torch.randn(3, 2, 9, 8).requires_grad_() for _ in range(3)]
    expected = torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask)
    expected.pow(2).sum().backward()
    for precision, atol in ((torch.float32, 1e-5), (torch.bfloat16, 0.2)):
        for mine, theirs in zip(found[precision], (expected, *(part.grad for part in parts)), strict=True):
            assert torch.allclose(mine.float(), theirs, atol=atol)
