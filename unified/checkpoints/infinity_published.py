"""Infinity's published options, released sizes, weights and training loss.

Source: FoundationVision/Infinity (MIT), infinity/models/infinity.py and trainer.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.checkpoints.infinity import Infinity, InfinityConfig
from unified.checkpoints.published import without_buffers
from unified.checkpoints.state_dict import check_fit, unwrap
from unified.orders.shapes import Shapes, area

# Depth, width, heads; the two that are released with weights, and those of the ablations by depth.
RELEASED = {
    "2b": (32, 2048, 16),
    "8b": (40, 3584, 28),
    "layer12": (12, 768, 8),
    "layer16": (16, 1152, 12),
    "layer24": (24, 1536, 16),
    "layer32": (32, 2080, 20),
    "layer40": (40, 2688, 24),
    "layer48": (48, 3360, 28),
}
CHUNKS = {"2b": 8, "8b": 8}  # groups of layers in the names of weights; 4 in the others

_FIELDS = {
    "text_channels": "text_width",
    "text_maxlen": "text_length",
    "embed_dim": "width",
    "depth": "depth",
    "num_heads": "heads",
    "mlp_ratio": "mlp_ratio",
    "rope2d_normalized_by_hw": "rope",
    "apply_spatial_patchify": "patchify",
}
# Padding changes nothing that is kept, `head_gain` first weights alone.
_OTHERS = {"block_chunks", "add_lvl_embeding_only_first_block", "pad_to_multiplier", "head_gain"}


def released(name: str, *, cell_bits: int | None = None) -> InfinityConfig:
    """A released size: "2b" (32 bits a token), "8b" (14 bits a cell, four cells a token), or an ablation."""
    if name not in RELEASED:
        raise ValueError(f"unknown size {name!r}: released are {', '.join(RELEASED)}")
    depth, width, heads = RELEASED[name]
    patchify = name == "8b"
    return InfinityConfig(
        depth=depth, width=width, heads=heads, patchify=patchify, text_width=2048, text_length=512, path=0.1,
        cell_bits=cell_bits or (14 if patchify else 32),
    )  # fmt: skip


def config_from(options: Mapping[str, Any], cell_bits: int, **more: Any) -> InfinityConfig:
    """The config of the published constructor's options. Unknown or missing option: ValueError."""
    unknown = sorted(set(options) - set(_FIELDS) - _OTHERS)
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r} of the published transformer")
    missing = [name for name in ("text_channels", "text_maxlen", "embed_dim", "depth", "num_heads")
               if name not in options]  # fmt: skip
    if missing:
        raise ValueError(f"the options of the published transformer lack {', '.join(missing)}")
    fields = {ours: options[theirs] for theirs, ours in _FIELDS.items() if theirs in options}
    fields["patchify"] = bool(fields.get("patchify", False))
    once = options.get("add_lvl_embeding_only_first_block", 1)
    every = 0 if once else options["depth"] // options.get("block_chunks", 1)
    return InfinityConfig(cell_bits=cell_bits, level_every=every, **fields, **more)


def load(options: Mapping[str, Any], state_dict: Mapping[str, Any], cell_bits: int, **more: Any) -> Infinity:
    """A published transformer from its constructor's options and its state dict (wrappers are followed), in
    eval mode. `more`: further fields of the config, such as `raw_queries`. ValueError with a short reason if
    options or weights do not fit."""
    config = config_from(options, cell_bits, **more)
    found = renamed(unwrap(state_dict), config.depth // options.get("block_chunks", 1))
    with torch.device("meta"):
        model = Infinity(config)
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


def training_loss(logits: Tensor, bits: Tensor, shapes: Shapes, *, by_scale: bool = True) -> Tensor:
    """Two-way cross entropy, the mean over the bits of a token, weighted over tokens: with `by_scale` in
    proportion to the square root of (last map's area / own map's area), otherwise equally. logits [B, L, S,
    2], bits [B, L, S] -> scalar."""
    losses = F.cross_entropy(logits.flatten(0, 2), bits.flatten(), reduction="none").view(bits.shape)
    return (losses.mean(dim=-1) * token_weights(shapes, by_scale).to(losses)).sum(dim=-1).mean()


def token_weights(shapes: Shapes, by_scale: bool) -> Tensor:
    """[L] of sum 1."""
    areas = torch.tensor([area((shape,)) for shape in shapes])
    own = areas.repeat_interleave(areas).double()
    weights = (areas[-1] / own).sqrt() if by_scale else torch.ones_like(own)
    return weights / weights.sum()
