"""FlexVAR: every map is the whole image at its size, so the list of sizes is free at run time (arXiv
2502.20313).

A map is fed the codes of the map before it, resized; positions are one table resized to each map, and there
is no level. Source: jiaosiyu1999/FlexVAR (MIT), models/flexvar.py. Beyond the source: maps need not be
square.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.adaln import TransformerConfig
from unified.checkpoints.next_scale import NextScaleTransformer
from unified.checkpoints.published import SCALES_256, config_from, load_weights, sizes_of
from unified.checkpoints.state_dict import unwrap
from unified.orders.shapes import Shape, Shapes
from unified.tokenizers.resize import unflatten
from unified.tokenizers.vq import VQTokenizer

TABLE_SIDE = 32


class FlexVAR(NextScaleTransformer):
    """The transformer, with the tokenizer it was trained with if images are to be written."""

    order = "next_scale"

    def __init__(self, config: TransformerConfig, tokenizer: VQTokenizer | None = None) -> None:
        super().__init__(config)
        self.pos_1LC = nn.Parameter(waves(config.width)[None])
        self.join(tokenizer)

    def positions(self, shapes: Shapes) -> Tensor:
        """[1, L, D]: the table [1, D, 32, 32] averaged over the cells of each map; copied where a map is
        finer."""
        return torch.cat([self.map_positions(shape) for shape in shapes], dim=1)

    def map_positions(self, shape: Shape) -> Tensor:
        return F.interpolate(self.pos_1LC.float(), size=shape, mode="area").flatten(2).transpose(1, 2)

    def image(self, codes: Sequence[Tensor], shapes: Shapes) -> Tensor:
        """Codes [B, n] of all maps -> images [B, 3, 16 h, 16 w] from the last, in about [-1, 1], not
        clamped."""
        return self.decode(unflatten(self.vectors(codes[-1]), shapes[-1]))

    def decode(self, total: Tensor) -> Tensor:
        """The last map's vectors [B, C, h, w] -> images in about [-1, 1]."""
        return self.needed_tokenizer().decode_vectors(total).float()


def waves(width: int) -> Tensor:
    """First positions [width, 32, 32]: channel 2i is sin(y w_i), channel 2i + 1 is cos(x w_i), w_i =
    10000^(-2i/width)."""
    frequencies = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    angles = frequencies[:, None] * torch.arange(TABLE_SIDE, dtype=torch.float32)  # [width / 2, 32]
    rows = angles.sin()[:, :, None].expand(-1, -1, TABLE_SIDE)
    columns = angles.cos()[:, None, :].expand(-1, TABLE_SIDE, -1)
    return torch.stack([rows, columns], dim=1).flatten(0, 1)[:width].clone()


def draw_sides(rng: random.Random, *, budget: int = 680, keep_finest: bool = True) -> list[int]:
    """Sides of the maps of one training step, at most `budget` codes in all. The published code lets the
    budget take the finest map away too (`keep_finest` False)."""
    if rng.random() < 0.05:
        sides = list(SCALES_256)
    else:
        sides = [1, 2, *sorted(rng.sample(range(3, 11), 5) + rng.sample(range(11, 16), 2)), 16]
    drawn = rng.random()
    for threshold in (0.90, 0.95, 0.98, 0.99):
        if drawn > threshold:
            del sides[rng.randrange(2, len(sides) - 1)]
    while sum(side * side for side in sides) > budget:
        del sides[rng.randrange(len(sides) - 4, len(sides) - keep_finest)]
    return sides


def load(
    options: Mapping[str, Any], state_dict: Mapping[str, Any], tokenizer: VQTokenizer | None = None
) -> FlexVAR:
    """A published transformer from its constructor's options and its state dict (wrappers are followed), in
    eval mode.

    ValueError with a short reason if options, weights or tokenizer do not fit.
    """
    found = unwrap(state_dict, "transformer")
    codes, code_width = sizes_of(found)
    with torch.device("meta"):
        model = FlexVAR(config_from(options, codes=codes, code_width=code_width))
    load_weights(model, found)
    model.join(tokenizer)
    return model.eval()
