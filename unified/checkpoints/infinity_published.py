"""Infinity's published weights and training loss.

Source: FoundationVision/Infinity (MIT), infinity/models/infinity.py and trainer.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_config import config_from
from unified.checkpoints.published import without_buffers
from unified.checkpoints.state_dict import check_fit, unwrap
from unified.orders.shapes import Shapes, area

Model = TypeVar("Model", bound=Infinity)


def load(options: Mapping[str, Any], state_dict: Mapping[str, Any], cell_bits: int, **more: Any) -> Infinity:
    """A published transformer from its constructor's options and its state dict (wrappers are followed), in
    eval mode. `more`: further fields of the config, such as `raw_queries`. ValueError with a short reason if
    options or weights do not fit."""
    config = config_from(options, cell_bits, **more)
    with torch.device("meta"):
        model = Infinity(config)
    return filled(model, options, state_dict)


def filled(model: Model, options: Mapping[str, Any], state_dict: Mapping[str, Any]) -> Model:
    """The model (which may lie on "meta") with published weights, in eval mode. ValueError if they do not
    fit."""
    chunk = model.config.depth // options.get("block_chunks", 1)
    found = renamed(unwrap(state_dict, "transformer"), chunk)
    check_fit(model.state_dict(), found)
    copies = {name: value.to(torch.float32, copy=True) for name, value in found.items()}
    model.load_state_dict(copies, assign=True)
    return model.eval()


def renamed(state_dict: Mapping[str, Tensor], chunk: int) -> dict[str, Tensor]:
    """Published names -> ours: blocks are numbered through, what encodes texts lies in a module of its own.
    Buffers are left out (keys' biases must be zero)."""
    found = {}
    for name, value in without_buffers(state_dict).items():
        match = re.fullmatch(r"block_chunks\.(\d+)\.module\.(\d+)\.(.+)", name)
        if match:
            name = f"blocks.{int(match[1]) * chunk + int(match[2])}.{match[3]}"
        elif name.startswith(("cfg_uncond", "text_")):
            name = f"text.{name}"
        elif name.startswith("head."):
            name = name.replace("head.", "head.projection.")
        if name.endswith("scale_mul_1H11"):
            value = value.reshape(1, -1, 1, 1)  # [1, 1, H, 1] if made for the fused attention kernel
        found[name] = value
    return found


def training_loss(
    logits: Tensor, bits: Tensor, shapes: Shapes, *, by_scale: bool = True, given: int = 0
) -> Tensor:
    """Two-way cross entropy, the mean over the bits of a token, weighted over tokens: with `by_scale` in
    proportion to the square root of (last map's area / own map's area), otherwise equally. The first `given`
    maps are not predicted. logits [B, L, S, 2], bits [B, L, S] -> scalar."""
    losses = F.cross_entropy(logits.flatten(0, 2), bits.flatten(), reduction="none").view(bits.shape)
    return (losses.mean(dim=-1) * token_weights(shapes, by_scale, given).to(losses)).sum(dim=-1).mean()


def token_weights(shapes: Shapes, by_scale: bool, given: int = 0) -> Tensor:
    """[L] of sum 1, those of the first `given` maps being 0. ValueError if none is left."""
    if not 0 <= given < len(shapes):
        raise ValueError(f"of {len(shapes)} maps, from 0 to {len(shapes) - 1} can be given, got {given}")
    areas = torch.tensor([area((shape,)) for shape in shapes])
    own = areas.repeat_interleave(areas).double()
    weights = (areas[-1] / own).sqrt() if by_scale else torch.ones_like(own)
    weights[: area(shapes[:given])] = 0
    return weights / weights.sum()
