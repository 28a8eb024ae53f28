"""The training objective and its batches."""

from __future__ import annotations

import dataclasses
import io
import itertools

import pytest
import torch
from PIL import Image

from dove_core.config import EvalConfig, RankConfig, ShardConfig, TrainConfig
from dove_core.data.reader import Shards
from dove_core.data.sharding.shards import shard_captions
from dove_core.encoding.dove import DoveEncoder, build
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.preprocess import normalise
from dove_core.errors import DataError
from dove_core.evaluation.encode import encode_split
from dove_core.evaluation.rows import score_rows
from dove_core.model.tokenizer import Tokenizer, split_words
from dove_core.training.batches import MakeBatch
from dove_core.training.dove import DoveTrainable
from dove_core.training.losses import negative_pairs, triplet
from dove_core.training.objective import Objective
from dove_core.training.optimizer import decayed_by_shape, make_optimizer
from tests.conftest import ALONE
from tests.made import SMALL, make_karpathy
from tests.training.jobs import make_pairs


def test_the_total_is_the_pair_term_plus_lambda_g_times_the_global_term():
    torch.manual_seed(0)
    checkpoint = build(SMALL, Tokenizer([f"w{k}" for k in range(40)], 12))
    pairs = make_pairs(6)
    objective = Objective(checkpoint.model.eval(), TrainConfig(lambda_g=3.0), lambda x, counts: x)
    total, pair, whole = objective(pairs, [6])
    images, captions, scores = checkpoint.model(
        (pairs.pixels.float() / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1),
        pairs.tokens,
        pairs.lengths,
        pairs.paired,
    )
    negative = negative_pairs(pairs.images, pairs.captions)
    assert torch.isclose(pair, triplet(scores, negative, margin=0.2, hardest=False), atol=1e-6)
    cosines = images.embedding @ captions.embedding.T
    assert torch.isclose(whole, triplet(cosines, negative, margin=0.2, hardest=False), atol=1e-6)
    assert torch.isclose(total, pair + 3 * whole)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_roams_term_uses_the_given_number_of_captions_per_image(count):
    torch.manual_seed(0)
    checkpoint = build(SMALL, Tokenizer([f"w{k}" for k in range(40)], 12))
    pairs = make_pairs(6, captions_each=3)
    pairs = pairs._replace(paired=6 * count)
    training = TrainConfig(captions_per_picture=3, paired_captions=count)
    found = Objective(checkpoint.model.eval(), training, lambda x, counts: x)(pairs, [6])
    scores = checkpoint.model(normalise(pairs.pixels), pairs.tokens, pairs.lengths)[2][:, : 6 * count]
    negative = negative_pairs(pairs.images, pairs.captions[:count])
    assert torch.isclose(found.pair_loss, triplet(scores, negative, margin=0.2, hardest=False), atol=1e-6)
    images, captions = checkpoint.model(normalise(pairs.pixels), pairs.tokens, pairs.lengths)[:2]
    foreign = negative_pairs(pairs.images, pairs.captions)
    whole = triplet(images.embedding @ captions.embedding.T, foreign, margin=0.2, hardest=False)
    assert torch.isclose(found.global_loss, whole, atol=1e-6)


def test_sixteen_pairs_are_learned_completely(tmp_path):
    captions, images = make_karpathy(tmp_path / "source", {"train": 16})
    shard_captions(captions, images, tmp_path / "shards", ShardConfig(workers=1))
    shards = Shards(tmp_path / "shards" / "train")
    torch.manual_seed(0)
    words = Tokenizer.learn(itertools.chain(*shards.captions("caption")), min_count=1, max_tokens=12)
    checkpoint = build(dataclasses.replace(SMALL, embed_dim=64, dropout=0.0), words)
    training = TrainConfig(objective="infonce", lambda_g=1.0)
    objective = Objective(checkpoint.model.train(), training, lambda x, counts: x)
    optimizer = make_optimizer(decayed_by_shape(objective.parameters(), 0.0), learning_rate=5e-4)
    make = MakeBatch(words, "caption", 32, crop_scale=1.0, turn=False, seed=0)
    records = [shards.read(number) for number in range(16)]
    for epoch in range(50):
        optimizer.zero_grad()
        objective(make(records, epoch), [16]).loss.backward()
        optimizer.step()
    checkpoint.model.eval()
    embedder = Embedder(DoveEncoder(checkpoint), ALONE)
    split = encode_split(embedder, shards, batch_size=16, exact=True)
    rows = score_rows(embedder, split, EvalConfig(), RankConfig(rank_by="pair"))
    for name, scores in rows.items():
        assert scores.image_to_text[1] == scores.text_to_image[1] == 100, name


def test_a_batch_has_several_captions_of_each_image_and_encodes_each_distinct_one_once(shapes):
    """The shapes have two captions per image, and 24 kinds of images."""
    shards = Shards(shapes / "train")
    words = Tokenizer.learn(itertools.chain(*shards.captions("caption")), min_count=1, max_tokens=12)
    records = [shards.read(number) for number in range(30)]
    for count in (1, 2, 3):
        batch = MakeBatch(words, "caption", 32, crop_scale=1.0, turn=False, seed=0, count=count)(records, 1)
        texts = [" ".join(words.words[n - 2] for n in row if n) for row in batch.tokens.tolist()]
        assert len(set(texts)) == len(texts) < 30 * min(count, 2)
        assert batch.rows.shape == batch.captions.shape == (count, 30)
        assert sorted(set(batch.rows[0].tolist())) == list(range(batch.paired))
        made = MakeBatch(words, "caption", 32, crop_scale=1.0, turn=False, seed=0, count=count, paired=count)(
            records, 1
        )
        assert made.paired == len(made.tokens) == len(texts)
        for k, record in enumerate(records):
            own = {" ".join(split_words(text)) for text in record.sample.captions["caption"]}
            drawn = [texts[row] for row in batch.rows[:, k]]
            assert set(drawn) <= own
            assert len(set(drawn)) == min(count, 2)
        equal = batch.rows.flatten()[:, None] == batch.rows.flatten()
        assert torch.equal(equal, batch.captions.flatten()[:, None] == batch.captions.flatten())


def test_jpegs_left_in_a_batch_decode_to_the_same_pixels(shapes):
    """As on a GPU, but with torchvision's decoder on the CPU; one file is not a JPEG, two are broken."""
    shards = Shards(shapes / "train")
    words = Tokenizer.learn(itertools.chain(*shards.captions("caption")), min_count=1, max_tokens=12)
    make = MakeBatch(words, "caption", 40, crop_scale=0.8, turn=True, seed=0)
    records = [shards.read(number) for number in range(6)]
    stream = io.BytesIO()
    Image.new("RGB", (50, 50), "red").save(stream, "PNG")
    records[1] = dataclasses.replace(records[1], image=stream.getvalue())
    cut = records[2].image[:-40]  # its header is whole
    records[2] = dataclasses.replace(records[2], image=cut)
    records[4] = dataclasses.replace(records[4], image=b"\xff\xd8nothing")
    here = make(records, 3)
    left = dataclasses.replace(make, leave_jpegs=True)(records, 3)
    assert left.encoded is not None
    there = left.to(torch.device("cpu")).decoded()
    assert [len(batch.broken) for batch in (here, left, there)] == [2, 1, 2]
    assert set(here.broken) == set(there.broken)
    order = [there.images.tolist().index(number) for number in here.images.tolist()]
    assert set(here.images.tolist()) == set(there.images.tolist()) == {0, 1, 3, 5}
    assert (here.pixels.int() - there.pixels[order].int()).abs().max() <= 3
    assert torch.equal(here.captions, there.captions[:, order])
    whole = [shards.read(number) for number in range(6)]
    here, left = make(whole, 3), dataclasses.replace(make, leave_jpegs=True)(whole, 3)
    there = left.decoded()
    assert there.broken == ()
    assert torch.equal(here.rows, there.rows)
    assert (here.pixels.int() - there.pixels.int()).abs().max() <= 3
    stream = io.BytesIO()
    Image.new("RGB", (33 * 40, 33 * 40), "red").save(stream, "JPEG")  # more than a GPU's antialiasing can make smaller
    whole[3] = dataclasses.replace(whole[3], image=stream.getvalue())
    left = dataclasses.replace(make, leave_jpegs=True, crop_scale=1.0)(whole, 3)
    assert [v.row for v in left.views] == [0, 1, 2, 4, 5]
    assert left.pixels[3, 0].min() > 250
    everything = [dataclasses.replace(record, image=b"\xff\xd8" + record.image[2:300]) for record in records[3:]]
    with pytest.raises(DataError, match="cannot be decoded"):
        dataclasses.replace(make, leave_jpegs=True)(everything, 0).decoded()


def test_the_trunk_has_its_own_share_of_the_learning_rate():
    checkpoint = build(SMALL, Tokenizer(["a"], 12))
    made = DoveTrainable(checkpoint, TrainConfig(backbone_rate=0.1), lambda x, counts: x)
    shares = {p: group["share"] for group in made.parameter_groups(0.3) for p in group["params"]}
    assert len(shares) == len(list(made.objective.parameters()))
    trunk = set(checkpoint.model.trunk.parameters())
    assert {shares[p] for p in trunk} == {0.1}
    assert {share for p, share in shares.items() if p not in trunk} == {1.0}


def test_only_matrices_decay_and_everything_learns():
    checkpoint = build(SMALL, Tokenizer(["a"], 12))
    groups = decayed_by_shape(checkpoint.model.parameters(), 0.3)
    decaying, exempt = make_optimizer(groups, learning_rate=1.0).param_groups
    assert decaying["weight_decay"] == 0.3
    assert exempt["weight_decay"] == 0
    assert all(p.ndim >= 2 for p in decaying["params"])
    assert len(decaying["params"]) + len(exempt["params"]) == len(list(checkpoint.model.parameters()))
