"""Where an image has what a text describes, for a model of the family `clip`, by gradients of their cosine.

A transformer is explained as in "Generic Attention-model Explainability", Chefer et al. 2021 (arXiv 2103.15679),
section 3: the matrix `R` begins as the identity, and each attention matrix `A` of all blocks adds
`mean over heads of max(A * dcos/dA, 0) @ R` to it. The map is the row of the token that becomes the embedding: the
class token; with attention pooling its query; the mean over all rows if the tower averages its tokens. Unlike there,
the identity is subtracted in the end, which changes nothing for a class token: see
docs/decisions/0056-explaining-a-clip.md.

A convolutional tower is explained by Grad-CAM, Selvaraju et al. 2017 (arXiv 1610.02391), on its last feature maps:
`max(sum over channels of feature * mean over positions of dcos/dfeature, 0)`.

Letters: B images, C texts, D dimensions of an embedding, h heads, Q queries, K keys, N tokens of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dove_core.errors import UsageError


def relevance(model: Any, pixels: Tensor, directions: Tensor) -> Tensor:
    """Return maps `(B, C, g, g)` float32 >= 0 of images `(B, 3, S, S)` for the embeddings `(C, D)` of texts.

    Images are computed one by one, since all attention matrices of an image are kept.

    Raises:
        UsageError: the tower has neither attention over patches nor feature maps.
    """
    visual = model.visual
    has_blocks = hasattr(visual, "transformer") or hasattr(getattr(visual, "trunk", None), "blocks")
    explain = _by_attention if has_blocks else _by_features
    return torch.cat([explain(model, image.detach().clone(), directions.detach()) for image in torch.split(pixels, 1)])


def _cosines(model: Any, image: Tensor, directions: Tensor) -> Sequence[Tensor]:
    embedding = F.normalize(model.encode_image(image).float(), dim=-1)
    return (embedding[0] @ directions.T).unbind()


def _by_attention(model: Any, image: Tensor, directions: Tensor) -> Tensor:
    """Return the maps `(1, C, g, g)` of one image `(1, 3, S, S)`, by the attention of all blocks."""
    recorder = AttentionRecorder()
    with torch.enable_grad(), recorder:
        cosines = _cosines(model, image.requires_grad_(), directions)
    of_blocks = {attention.shape for attention in recorder.found if attention.shape[2] == attention.shape[3]}
    if len(of_blocks) != 1 or any(len(attention) != 1 for attention in recorder.found):
        raise _no_maps(model)  # such as attention within windows
    maps = []
    for cosine in cosines:
        gradients = torch.autograd.grad(cosine, recorder.found, retain_graph=True)
        pairs = zip(recorder.found, gradients, strict=True)
        flows = [(attention.detach() * gradient).clamp(min=0).mean(dim=1)[0] for attention, gradient in pairs]
        maps.append(_patches(model, _propagate(flows)))
    return torch.stack(maps)[None]


def _propagate(flows: Sequence[Tensor]) -> Tensor:
    """Return `R - 1`: what attention brings to each token in the end, or to a pooling, from each token `(Q, N)`."""
    found = torch.zeros_like(flows[0])
    for flow in flows:
        is_pooling, keys = flow.shape[0] != flow.shape[1], flow.shape[1]  # a pooling may leave out special tokens
        found = flow @ found[-keys:] if is_pooling else found + flow + flow @ found
    return found


def _patches(model: Any, found: Tensor) -> Tensor:
    """Return the map `(g, g)` of the patches, given `R - 1 (Q, N)`."""
    visual = model.visual
    is_own = hasattr(visual, "transformer")
    special = 1 if is_own else int(visual.trunk.num_prefix_tokens)
    if found.shape[0] == found.shape[1]:
        is_class = special and (visual.pool_type if is_own else visual.trunk.global_pool) in ("tok", "token")
        found = found[:1] if is_class else found[special:]
    row = found.mean(dim=0)[special:]
    grid = math.isqrt(len(row))
    if grid * grid != len(row):
        raise _no_maps(model)
    return row.view(grid, grid)


def _by_features(model: Any, image: Tensor, directions: Tensor) -> Tensor:
    """Return the maps `(1, C, g, g)` of one image `(1, 3, S, S)`, by Grad-CAM."""
    found = list[Tensor]()

    def begin(layer: Any, inputs: Any, features: Tensor) -> Tensor:
        torch.set_grad_enabled(True)  # until the end of `no_grad` below: gradients reach back to this layer only
        found.append(features.detach().requires_grad_())
        return found[-1]

    layer, is_channels_last = _last_layer(model)
    hook = layer.register_forward_hook(begin)
    try:
        with torch.no_grad():
            cosines = _cosines(model, image, directions)
    finally:
        hook.remove()
    maps = []
    for cosine in cosines:
        (gradient,) = torch.autograd.grad(cosine, found, retain_graph=True)
        features = found[0].detach()
        if is_channels_last:
            features, gradient = features.movedim(-1, 1), gradient.movedim(-1, 1)
        maps.append((features * gradient.mean(dim=(2, 3), keepdim=True)).sum(dim=1)[0].clamp(min=0))
    return torch.stack(maps)[None].float()


def _last_layer(model: Any) -> tuple[Any, bool]:
    """Return the layer that has the last feature maps, and whether their channels come last."""
    visual = model.visual
    if hasattr(visual, "layer4"):
        return visual.layer4, False
    layers = getattr(getattr(visual, "trunk", None), "feature_info", None)
    if not layers:
        raise _no_maps(model)
    return visual.trunk.get_submodule(layers[-1]["module"]), getattr(visual.trunk, "output_fmt", "NCHW") == "NHWC"


def _no_maps(model: Any) -> UsageError:
    visual = getattr(model.visual, "trunk", model.visual)
    message = f"--explain does not know the image tower {type(visual).__name__}"
    return UsageError(message, hint="leave out --explain, or use a model with a ViT, a ResNet or a ConvNeXt")


class AttentionRecorder(TorchFunctionMode):
    """Computes attention in steps, and keeps its matrices `(B, h, Q, K)` as parts of the graph in `found`.

    torch's own functions give no gradients of these matrices.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found = list[Tensor]()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute a function of torch."""
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **(kwargs or {}))
        if func is F.multi_head_attention_forward:
            return self._attend_by_heads(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
        dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        """Compute what `scaled_dot_product_attention` does, without dropout, of `(B, h, Q, d)`."""
        if is_causal or enable_gqa or (attn_mask is not None and attn_mask.dtype == torch.bool):
            raise UsageError("--explain does not know this attention", hint="leave out --explain")
        scores = query @ key.transpose(-1, -2) * (scale or query.shape[-1] ** -0.5)
        self.found.append((scores if attn_mask is None else scores + attn_mask).softmax(dim=-1))
        return self.found[-1] @ value

    def _attend_by_heads(
        self, query: Tensor, key: Tensor, value: Tensor, embed_dim_to_check: int, num_heads: int,
        in_proj_weight: Tensor | None, in_proj_bias: Tensor | None, bias_k: Tensor | None, bias_v: Tensor | None,
        add_zero_attn: bool, dropout_p: float, out_proj_weight: Tensor, out_proj_bias: Tensor | None,
        **others: Any,
    ) -> tuple[Tensor, None]:  # fmt: skip
        """Compute what `multi_head_attention_forward` does, without dropout, of `(Q, B, E)`."""
        if in_proj_weight is None or bias_k is not None or add_zero_attn:
            raise UsageError("--explain does not know this attention", hint="leave out --explain")
        biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
        parts = zip((query, key, value), in_proj_weight.chunk(3), biases, strict=True)
        q, k, v = (F.linear(x, w, b).view(*x.shape[:2], num_heads, -1).permute(1, 2, 0, 3) for x, w, b in parts)
        mixed = self._attend(q, k, v, others.get("attn_mask"))
        return F.linear(mixed.permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias), None
