"""VAR: an image as a pyramid of residual maps, each drawn in one pass of the transformer (arXiv 2404.02905).

Every map is fed the running sum of the maps before it, brought to its size. Positions and levels are learnt
per slot, so the sizes of the maps are those of training. Source: FoundationVision/VAR (MIT), models/var.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unified.checkpoints.adaln import TransformerConfig
from unified.checkpoints.next_scale import NextScaleTransformer, finished
from unified.checkpoints.published import config_from, load_weights, sizes_of
from unified.checkpoints.state_dict import unwrap
from unified.orders.shapes import Shapes, area
from unified.tokenizers.residual_vq import ResidualVQTokenizer


class VAR(NextScaleTransformer):
    """The transformer, with the tokenizer it was trained with if images are to be written."""

    order = "residual"

    def __init__(self, config: TransformerConfig, tokenizer: ResidualVQTokenizer | None = None) -> None:
        super().__init__(config)
        self.pos_1LC = nn.Parameter(torch.zeros(1, area(config.shapes), config.width))
        self.lvl_embed = nn.Embedding(len(config.shapes), config.width)
        self.join(tokenizer)

    def join(self, tokenizer: ResidualVQTokenizer | None) -> None:
        """Write images with this tokenizer. ValueError if it has other maps or codes."""
        if tokenizer is not None and tuple(tokenizer.shapes) != self.config.shapes:
            raise ValueError(
                f"the transformer was trained on maps of {_sides(self.config.shapes)}, "
                f"the tokenizer has {_sides(tokenizer.shapes)}"
            )
        super().join(tokenizer)

    def positions(self, shapes: Shapes) -> Tensor:
        """[1, L, D]: position and level of every slot. Other maps than those of training: ValueError."""
        if tuple(shapes) != self.config.shapes:
            raise ValueError(
                f"this model was trained on maps of {_sides(self.config.shapes)} and has no positions "
                f"for {_sides(shapes)}"
            )
        return self.pos_1LC + self.lvl_embed(levels(shapes).to(self.pos_1LC.device))

    def image(self, codes: Sequence[Tensor]) -> Tensor:
        """Codes [B, n] of all maps -> images [B, 3, H, W] in [0, 1]."""
        vectors = [self.vectors(ids) for ids in codes]
        return self.decode(finished(self, vectors, self.config.shapes))

    def decode(self, total: Tensor) -> Tensor:
        """The finished sum [B, C, H, W] -> images in [0, 1]."""
        return (self.needed_tokenizer().decode_vectors(total).float() + 1) / 2


def levels(shapes: Shapes) -> Tensor:
    """[1, L]: the index of the map each slot belongs to."""
    return torch.cat([torch.full((area((shape,)),), level) for level, shape in enumerate(shapes)])[None]


def _sides(shapes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(str(rows) if rows == columns else f"{rows}x{columns}" for rows, columns in shapes)


def load(
    options: Mapping[str, Any], state_dict: Mapping[str, Any], tokenizer: ResidualVQTokenizer | None = None
) -> VAR:
    """A published transformer from its constructor's options and its state dict (wrappers are followed), in
    eval mode.

    ValueError with a short reason if options, weights or tokenizer do not fit.
    """
    found = unwrap(state_dict, "transformer")
    codes, code_width = sizes_of(found)
    config = config_from(options, codes=codes, code_width=code_width)
    if "lvl_1L" in found and not torch.equal(found["lvl_1L"], levels(config.shapes)):
        length = found["lvl_1L"].numel()
        raise ValueError(
            f"weights do not fit: expected the levels of maps of {_sides(config.shapes)}, "
            f"found others ({length} codes)"
        )
    with torch.device("meta"):
        model = VAR(config)
    load_weights(model, found)
    model.join(tokenizer)
    return model.eval()
