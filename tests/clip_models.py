"""Small models of open_clip's architectures with random weights, and their checkpoints."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import open_clip
import torch

from dove_core.encoding.clip_import import ModelSource, import_checkpoint

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"embed_dim": 24, "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16}}
RESNET = {"embed_dim": 24, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}}
SIGLIP_TEXT = {
    "context_length": 64, "vocab_size": 300, "hf_tokenizer_name": "timm/x",
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "width": 192, "heads": 3, "layers": 2, "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"},
}  # fmt: skip
SIGLIP = {
    "embed_dim": 192, "init_logit_bias": -10, "custom_text": True, "text_cfg": SIGLIP_TEXT,
    "vision_cfg": {
        "image_size": 224, "timm_model_name": "vit_tiny_patch16_224", "timm_pool": "avg", "timm_proj": "none",
    },
}  # fmt: skip


def random_model(config: dict[str, Any], *, quick_gelu: bool = False) -> Any:
    """Return a model of open_clip with random weights, in evaluation mode."""
    values = {name: value for name, value in config.items() if name != "custom_text"}
    values.setdefault("text_cfg", TEXT)
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of timm
        return kind(**values, quick_gelu=quick_gelu).eval()


def make_clip(
    folder: Path, config: dict[str, Any] = VIT, *, quick_gelu: bool = False, tokenizer: Path | None = None, **image: Any
) -> Any:
    """Write a checkpoint of a random model; return the model."""
    model = random_model(config, quick_gelu=quick_gelu)
    file = folder.with_name(f"{folder.name}.pt")
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), file)
    values = {**config, "text_cfg": config.get("text_cfg", TEXT)}
    source = ModelSource(
        "small", quick_gelu, "a test", config={"model_cfg": values}, preprocess=image, tokenizer=tokenizer
    )
    import_checkpoint(file, folder, source)
    return model


def make_tokenizer(path: Path) -> Path:
    """Write a small tokenizer that ends each text as SigLIP's does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<pad>", "<eos>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(["an airport near a river with ships"] * 10, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.enable_padding(pad_id=0, pad_token="<pad>")
    tokenizer.save(str(path))
    return path
