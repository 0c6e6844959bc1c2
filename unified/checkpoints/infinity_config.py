"""Infinity's sizes: our config, the published constructor's options, what was released.

Source: FoundationVision/Infinity (MIT), infinity/models/infinity.py; arXiv 2412.04431.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unified.checkpoints.infinity_bits import BitGrid

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

FIELDS = {
    "text_channels": "text_width",
    "text_maxlen": "text_length",
    "embed_dim": "width",
    "depth": "depth",
    "num_heads": "heads",
    "mlp_ratio": "mlp_ratio",
    "rope2d_normalized_by_hw": "rope",
    "apply_spatial_patchify": "patchify",
    "drop_path_rate": "path",
}
# Padding changes nothing that is kept, `head_gain` first weights alone.
_OTHERS = {"block_chunks", "add_lvl_embeding_only_first_block", "pad_to_multiplier", "head_gain"}


@dataclass(frozen=True, kw_only=True)
class InfinityConfig:
    """`cell_bits`: bits of a latent cell; with `patchify` a token holds 2 x 2 cells. `text_width`,
    `text_length`: channels of the text features, and the longest text. `rope`: the mode of
    `infinity_rope.rotations`. `level_every`: the map's embedding is added before the first layer and, if this
    is not 0, before every so many layers. `path`: the rate, in training, at which branches of the last layer
    are dropped (linear in the layer). `raw_queries`: cache policies are shown the queries that ScaleKV's
    published code scores with, remade by the bare qkv matrix (no bias, no unit length, no head scale, no
    rotation), in place of those that attended."""

    cell_bits: int = 4
    patchify: bool = False
    text_width: int = 128
    text_length: int = 16
    depth: int = 2
    width: int = 64
    heads: int = 4
    mlp_ratio: float = 4.0
    rope: int = 2
    level_every: int = 0
    path: float = 0.0
    raw_queries: bool = False

    def __post_init__(self) -> None:
        least = {"cell_bits": 1, "text_length": 1, "depth": 1, "width": 1, "heads": 1, "level_every": 0}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise ValueError(f"{name} must be at least {number}, got {getattr(self, name)}")
        if self.grid.token_bits > 62:
            raise ValueError(f"a token of {self.grid.token_bits} bits does not fit an id: at most 62")
        if self.width % (4 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of 4 times {self.heads} heads")
        if self.rope not in (0, 1, 2):
            raise ValueError(f"rope must be 0, 1 or 2, got {self.rope}")
        if not self.pool_heads or self.width % self.pool_heads:
            raise ValueError(
                f"text_width {self.text_width} gives {self.pool_heads} pooling heads, which must divide "
                f"width {self.width}"
            )

    @property
    def grid(self) -> BitGrid:
        return BitGrid(self.cell_bits, 2 if self.patchify else 1)

    @property
    def pool_heads(self) -> int:
        return self.text_width // (64 if self.width > 4096 else 128)

    @property
    def inner(self) -> int:
        """Width of the feed-forward layers."""
        return round(self.width * self.mlp_ratio / 256) * 256


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
    unknown = sorted(set(options) - set(FIELDS) - _OTHERS)
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r} of the published transformer")
    missing = [name for name in ("text_channels", "text_maxlen", "embed_dim", "depth", "num_heads")
               if name not in options]  # fmt: skip
    if missing:
        raise ValueError(f"the options of the published transformer lack {', '.join(missing)}")
    fields = {ours: options[theirs] for theirs, ours in FIELDS.items() if theirs in options}
    fields["patchify"] = bool(fields.get("patchify", False))
    once = options.get("add_lvl_embeding_only_first_block", 1)
    every = 0 if once else options["depth"] // options.get("block_chunks", 1)
    return InfinityConfig(cell_bits=cell_bits, level_every=every, **fields, **more)
