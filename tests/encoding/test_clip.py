"""Models of open_clip: the same numbers as open_clip's own code, with random weights."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import warnings

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from dove_core.encoding.clip_config import read_config
from dove_core.encoding.clip_import import ModelSource, import_checkpoint
from dove_core.encoding.clip_padding import ignores_padding
from dove_core.encoding.clip_preprocess import ClipPreprocess
from dove_core.encoding.clip_tokenizer import clean
from dove_core.encoding.load import load_encoder, load_text_side
from dove_core.errors import CheckpointError, UsageError
from tests.clip_models import RESNET, SIGLIP, TEXT, VIT, make_clip, make_tokenizer, random_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:timm.*", "ignore::FutureWarning:timm.*")

AWKWARD = [
    "airport runway", "", "   ", "word " * 200, "x" * 500, "🛰️ satellite 🏭", "👨‍👩‍👧‍👦", "R&amp;D &amp;amp; &lt;b&gt;",
    "it's we'll they'd don’t", "naïve ÜBER straße İstanbul", "中文 图像 ١٢٣ 1234567", "½ ² ﬁ ＡＢＣ",
    "e\u0301 zero\u200bwidth", "mojibake âœ” Ã©", "tab\tand\nline", "\x07bell", "a_b-c/d !!! ???",
    "an <end_of_text> inside",
]  # fmt: skip

KINDS = {
    "ViT with GELU": (VIT, False),
    "ViT with QuickGELU": (VIT, True),
    "ResNet with QuickGELU": (RESNET, True),
    "SigLIP": (SIGLIP, False),
}


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """A random model of open_clip, and the folder of its checkpoint."""
    folder = tmp_path_factory.mktemp("clip")
    config, quick_gelu = KINDS[request.param]
    tokenizer = make_tokenizer(folder / "t.json") if config is SIGLIP else None
    return make_clip(folder / "model", config, quick_gelu=quick_gelu, tokenizer=tokenizer), folder / "model"


def test_image_embeddings_equal_those_of_open_clip(pair):
    model, folder = pair
    encoder = load_encoder(folder)
    side = encoder.config.image_size
    pixels = torch.randn(3, 3, side, side)
    with torch.no_grad():
        expected = model.encode_image(pixels, normalize=True)
        assert torch.allclose(encoder.encode_images(pixels), expected, atol=1e-5)


def test_text_embeddings_equal_those_of_open_clip_with_and_without_torch(pair, tmp_path):
    model, folder = pair
    encoder = load_encoder(folder)
    encoder.save_text_side(tmp_path)
    side, whole = load_text_side(tmp_path), load_text_side(folder)
    with torch.no_grad():
        expected = model.encode_text(torch.from_numpy(encoder.tokenizer.encode(AWKWARD)), normalize=True).numpy()
        assert np.abs(encoder.encode_texts(AWKWARD).numpy() - expected).max() < 1e-5
    assert np.abs(np.stack([side.encode(text) for text in AWKWARD]) - expected).max() < 1e-4
    assert np.abs(whole.encode(AWKWARD[0]) - expected[0]).max() < 1e-5
    assert side.digest() == whole.digest() == encoder.fingerprint


POOLED = {**VIT, "text_cfg": {**TEXT, "pool_type": "eos", "eos_id": 49407}}
LINEAR = {**VIT, "text_cfg": {**TEXT, "proj_bias": True}}


@pytest.mark.parametrize(
    ("config", "ignores"), [(VIT, True), (RESNET, True), (LINEAR, True), (POOLED, True), (SIGLIP, False)]
)
def test_texts_are_encoded_without_padding_where_it_has_no_effect(tmp_path, config, ignores):
    tokenizer = make_tokenizer(tmp_path / "t.json") if config is SIGLIP else None
    model = make_clip(tmp_path / "model", config, tokenizer=tokenizer)
    assert ignores_padding(model) is ignores
    encoder, texts = load_encoder(tmp_path / "model"), ["ships", "an airport near a river"]
    lengths: list[int] = []
    tower = encoder.model.text.transformer if config.get("custom_text") else encoder.model.transformer
    tower.register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].shape[1]))
    with torch.no_grad():
        expected = model.encode_text(torch.from_numpy(encoder.tokenizer.encode(texts)), normalize=True)
        assert torch.allclose(encoder.encode_texts(texts), expected, atol=1e-6)
    assert lengths == [7 if ignores else 64]


def test_the_activation_of_the_checkpoint_reaches_the_towers(tmp_path):
    weights = random_model(VIT).state_dict()
    torch.save(weights, tmp_path / "w.pt")
    pixels = torch.randn(2, 3, 32, 32)
    found = []
    for quick_gelu in (False, True):
        source = ModelSource("small", quick_gelu, "a test", config={"model_cfg": {**VIT, "text_cfg": SMALL_TEXT}})
        import_checkpoint(tmp_path / "w.pt", tmp_path / str(quick_gelu), source)
        with torch.no_grad():
            found.append(load_encoder(tmp_path / str(quick_gelu)).encode_images(pixels))
    assert not torch.allclose(found[0], found[1], atol=1e-4)


SMALL_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}


def test_tokens_equal_those_of_open_clip(tmp_path):
    make_clip(tmp_path / "model")
    encoder = load_encoder(tmp_path / "model")
    expected = open_clip.get_tokenizer("ViT-B-32")(AWKWARD).numpy()
    assert np.array_equal(encoder.tokenizer.encode(AWKWARD), expected)


def test_random_texts_of_many_scripts_have_the_tokens_of_open_clip(tmp_path):
    make_clip(tmp_path / "model")
    encoder, theirs = load_encoder(tmp_path / "model"), open_clip.get_tokenizer("ViT-B-32")
    random = np.random.default_rng(0)
    ranges = ((32, 127), (160, 0x24F), (0x391, 0x3A1), (0x410, 0x44F), (0x4E00, 0x9FBF), (0x1F300, 0x1F320))
    texts = [
        "".join(chr(random.integers(*ranges[random.integers(len(ranges))])) for _ in range(random.integers(1, 40)))
        for _ in range(300)
    ]
    assert np.array_equal(encoder.tokenizer.encode(texts), theirs(texts).numpy())


@pytest.mark.parametrize("how", ["lower", "whitespace", "canonicalize"])
def test_texts_are_cleaned_as_open_clip_cleans_them(how):
    from open_clip.tokenizer import get_clean_fn

    assert [clean(text, how) for text in AWKWARD] == [get_clean_fn(how)(text) for text in AWKWARD]


def test_a_text_over_the_context_length_is_noted(tmp_path):
    make_clip(tmp_path / "model")
    side = load_text_side(tmp_path / "model")
    assert side.notes("airport runway") == []
    assert side.notes("word " * 75) == []
    assert side.notes("word " * 80) == ["the model reads 77 tokens: the last 5 of the query were cut"]


def encoded(pixels: np.ndarray, form: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **({"quality": 95} if form == "JPEG" else {}))
    return stream.getvalue()


def photo(height: int, width: int) -> np.ndarray:
    """Return a smooth image with some texture, like a photograph."""
    random = np.random.default_rng(height * width)
    small = Image.fromarray(random.integers(0, 256, (max(2, height // 12), max(2, width // 12), 3), np.uint8))
    noise = random.normal(0, 3, (height, width, 3))
    return (np.asarray(small.resize((width, height), Image.BICUBIC)) + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("size", [(64, 64), (150, 150), (90, 201), (301, 77), (40, 33), (500, 400)])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_pixels_are_nearly_those_of_open_clips_own_transform(tmp_path_factory, mode, size, form):
    settings = {"interpolation": "bicubic", "resize_mode": mode, "fill_color": 7}
    config = read_config(small_model(tmp_path_factory))
    config = type(config)(**{**vars(config), **settings, "image_size": 64})
    preprocess, data = ClipPreprocess(config), encoded(photo(*size), form)
    mine = preprocess.normalise(preprocess.fit(data, "x")[None])[0]
    theirs = image_transform_v2(PreprocessCfg(size=64, **settings), is_train=False)(Image.open(io.BytesIO(data)))
    assert mine.shape == theirs.shape
    difference = (mine - theirs).abs() * 0.27 * 255
    assert difference.mean() < 4
    assert torch.nn.functional.cosine_similarity(mine.flatten(), theirs.flatten(), dim=0) > (
        0.995 if form == "JPEG" else 0.999
    )


_FOLDERS = []


def small_model(factory):
    if not _FOLDERS:
        _FOLDERS.append(factory.mktemp("small") / "model")
        make_clip(_FOLDERS[0])
    return _FOLDERS[0]


def test_images_as_large_as_the_input_keep_their_pixels(tmp_path):
    make_clip(tmp_path / "model")
    pixels = photo(32, 32)
    fitted = load_encoder(tmp_path / "model").preprocess.fit(encoded(pixels, "PNG"), "x")
    assert np.array_equal(fitted.permute(1, 2, 0).numpy(), pixels)


def source(**changes) -> ModelSource:
    values = {"architecture": "small", "quick_gelu": True, "reason": "a test"} | changes
    return ModelSource(**{"config": {"model_cfg": {**VIT, "text_cfg": SMALL_TEXT}}} | values)


def test_a_training_checkpoint_loses_its_optimizer_and_the_prefix_of_its_keys(tmp_path):
    weights = random_model(VIT, quick_gelu=True).state_dict()
    moments = {name: torch.zeros_like(value) for name, value in weights.items()}
    content = {"epoch": 20, "name": "x", "optimizer": {"state": moments, "param_groups": [{"lr": 1e-5}]},
               "state_dict": {f"module.{name}": value for name, value in weights.items()}}  # fmt: skip
    torch.save(content, tmp_path / "epoch_20.pt")
    config = import_checkpoint(tmp_path / "epoch_20.pt", tmp_path / "model", source(origin="somewhere", licence="MIT"))
    assert (config.activation, config.origin, config.licence, len(config.sha256)) == (
        "quick-gelu",
        "somewhere",
        "MIT",
        64,
    )
    pairs = load_encoder(tmp_path / "model").model.state_dict()
    assert all(torch.equal(pairs[name], value) for name, value in weights.items())
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < (tmp_path / "epoch_20.pt").stat().st_size * 0.6


class Evil:
    def __reduce__(self):
        return print, ("this code must not run",)


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"state_dict": {"a": Evil()}}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match="run code"):
            import_checkpoint(tmp_path / name, tmp_path / "model", source())
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "model").exists()


def test_keys_and_shapes_that_do_not_fit_are_named(tmp_path):
    weights = random_model(VIT).state_dict()
    del weights["ln_final.bias"]
    weights["extra.weight"] = torch.zeros(1)
    weights["visual.proj"] = torch.zeros(3, 3)
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(
        CheckpointError, match=r"lacks ln_final\.bias; has unknown extra\.weight; has other .* visual\.proj"
    ):
        import_checkpoint(tmp_path / "w.pt", tmp_path / "model", source())


def test_a_long_clip_is_refused_with_the_reason(tmp_path):
    weights = random_model(VIT).state_dict()
    weights["positional_embedding"] = torch.zeros(248, 32)
    weights["positional_embedding_res"] = torch.zeros(248, 32)
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="Long-CLIP model of 248 tokens"):
        import_checkpoint(tmp_path / "w.pt", tmp_path / "model", source())


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04 not a zip"])
def test_damaged_files_are_errors(tmp_path, content):
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            import_checkpoint(tmp_path / name, tmp_path / "model", source())


def test_torchscript_is_refused_with_a_way_out(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "w.pt"))
    with pytest.raises(CheckpointError, match="TorchScript"):
        import_checkpoint(tmp_path / "w.pt", tmp_path / "model", source())


def test_the_activation_is_never_guessed(tmp_path):
    torch.save(random_model(VIT).state_dict(), tmp_path / "w.pt")
    with pytest.raises(UsageError, match="activation") as raised:
        import_checkpoint(
            tmp_path / "w.pt", tmp_path / "model", source(architecture="ViT-B-32", quick_gelu=None, config={})
        )
    assert "--quick-gelu" in raised.value.hint
    with pytest.raises(UsageError, match="does not know the architecture 'ViT-Z'"):
        import_checkpoint(tmp_path / "w.pt", tmp_path / "model", source(architecture="ViT-Z", config={}))


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [("activation", "relu", "activation 'relu'"), ("image_size", 0, "image_size 0"), ("mean", [1, 2], "three numbers"),
     ("model", {}, "embed_dim"), ("clean", "x", "clean 'x'"), ("sha256", 5, "sha256")],
)  # fmt: skip
def test_values_of_model_json_that_are_not_possible_are_errors(tmp_path, name, value, problem):
    import json

    make_clip(tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(CheckpointError, match=problem):
        load_encoder(tmp_path / "model")


def test_a_text_side_needs_no_torch(tmp_path):
    make_clip(tmp_path / "model")
    (tmp_path / "words").mkdir()
    load_encoder(tmp_path / "model").save_text_side(tmp_path / "words")
    code = (
        "import sys; from pathlib import Path; from dove_core.encoding.load import load_text_side\n"
        f"print(load_text_side(Path({str(tmp_path / 'words')!r})).encode('airport runway').shape)\n"
        "print([name for name in ('torch', 'open_clip', 'onnx', 'transformers', 'ftfy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(24,)", "[]"]


def test_a_damaged_text_side_is_an_error(tmp_path):
    make_clip(tmp_path / "model")
    (tmp_path / "words").mkdir()
    load_encoder(tmp_path / "model").save_text_side(tmp_path / "words")
    (tmp_path / "words" / "text.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"text\.onnx cannot be read"):
        load_text_side(tmp_path / "words").encode("airport")
    (tmp_path / "words" / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        load_text_side(tmp_path / "words")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "quick_gelu"), [("ViT-B-32", False), ("ViT-B-32", True), ("ViT-L-14", True), ("RN50", True)]
)
def test_full_size_models_have_the_embeddings_of_open_clip(tmp_path, name, quick_gelu):
    config = open_clip.get_model_config(name)
    model = make_clip(tmp_path / "model", config, quick_gelu=quick_gelu)
    encoder, texts = load_encoder(tmp_path / "model"), [AWKWARD[0], AWKWARD[3]]
    (tmp_path / "words").mkdir()
    encoder.save_text_side(tmp_path / "words")
    side, pixels = load_text_side(tmp_path / "words"), torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        images = model.encode_image(pixels, normalize=True)
        expected = model.encode_text(open_clip.get_tokenizer(name)(texts), normalize=True).numpy()
        assert torch.allclose(encoder.encode_images(pixels), images, atol=1e-5)
    assert np.abs(np.stack([side.encode(text) for text in texts]) - expected).max() < 1e-4
