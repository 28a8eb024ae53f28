"""Checkpoints of CLIP models as files of open_clip, loaded by open_clip itself."""

from __future__ import annotations

import json

import open_clip
import pytest
import torch

from dove_core.encoding.clip_export import export_open_clip
from dove_core.encoding.load import load_encoder
from dove_core.errors import UsageError
from tests.cli.test_commands import dove
from tests.clip_models import RESNET, VIT, make_clip


@pytest.mark.parametrize(("config", "quick_gelu"), [(VIT, True), (VIT, False), (RESNET, True)])
def test_open_clip_loads_an_exported_model_with_the_same_embeddings(tmp_path, config, quick_gelu):
    make_clip(tmp_path / "model", config, quick_gelu=quick_gelu, resize_mode="squash", mean=[0.5, 0.4, 0.3])
    folder = export_open_clip(tmp_path / "model", tmp_path / "out")
    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    ours = load_encoder(tmp_path / "model")
    side = config["vision_cfg"]["image_size"]
    pixels, texts = torch.randn(2, 3, side, side), ["airport runway", "ships"]
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
    theirs.eval()
    with torch.no_grad():
        assert torch.allclose(theirs.encode_image(pixels, normalize=True), ours.encode_images(pixels), atol=1e-6)
        assert torch.allclose(theirs.encode_text(tokens, normalize=True), ours.encode_texts(texts), atol=1e-6)
    assert "mean=[0.5, 0.4, 0.3]" in repr(transform).replace("(0.5, 0.4, 0.3)", "[0.5, 0.4, 0.3]")
    assert f"size=({side}, {side})" in repr(transform).replace(f"[{side}, {side}]", f"({side}, {side})")


def test_the_command_writes_a_folder_and_replaces_none_silently(tmp_path, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "models" / "mine")
    code, out, _ = dove("export", "mine", "--json")
    assert (code, json.loads(out)) == (0, {"format": "open_clip", "folder": "export/mine"})
    code, _, err = dove("export", "mine")
    assert code == 2 and "export/mine exists already" in err and "--overwrite" in err
    assert dove("export", "mine", "--overwrite")[0] == 0
    assert dove("export", "--out", "elsewhere", "--format", "open_clip")[0] == 0  # the only model
    assert (tmp_path / "elsewhere" / "open_clip_model.safetensors").exists()
    code, _, err = dove("export", str(trained / "best"), "--out", "dove")
    assert code == 2 and "is not a CLIP model" in err
    assert not (tmp_path / "dove").exists()


def test_a_model_of_another_family_is_refused(tmp_path, trained):
    with pytest.raises(UsageError, match="not a CLIP model"):
        export_open_clip(trained / "best", tmp_path / "out")
