"""Bitwise self-correction: in training some bits of what a map is fed are wrong, and the labels of later maps
repair them (Infinity, arXiv 2412.04431).

Without it the transformer sees no error before it makes one itself. Every bit of the first maps is flipped
with a rate drawn once a map for the whole batch; the running sum holds the flipped codes, so what is left to
be quantised holds their errors. Labels of a map itself stay true. Source: FoundationVision/Infinity (MIT),
infinity/models/bitwise_self_correction.py, whose default is to quantise again after a flip; without that its
flips have no effect. Tests: tests/unified/checkpoints/test_infinity_tokenizer.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unified.checkpoints.infinity_bits import BitGrid
from unified.orders.shapes import Shapes


@dataclass(frozen=True, kw_only=True)
class SelfCorrection:
    """Bits of the first `maps` maps are flipped at rates of 0, 1, ... per cent, at most `strength`. The
    defaults are those of training at one megapixel."""

    maps: int = 13
    strength: float = 0.3

    def __post_init__(self) -> None:
        if self.maps < 0 or not 0 <= self.strength <= 1:
            raise ValueError(
                f"maps must be at least 0, and strength in [0, 1], got {self.maps} and {self.strength}"
            )

    @property
    def choices(self) -> int:
        """How many rates there are."""
        return int(100 * self.strength + 1)

    def flips(self, grid: BitGrid, shapes: Shapes, rows: int, generator: torch.Generator) -> Tensor:
        """Which bits [rows, T, S] are flipped, on the generator's device."""
        count, device = min(self.maps, len(shapes)), generator.device
        percents = torch.randint(self.choices, (count,), generator=generator, device=device).tolist()
        return drawn(grid, shapes, percents, rows, generator)


def drawn(
    grid: BitGrid, shapes: Shapes, percents: list[int], rows: int, generator: torch.Generator
) -> Tensor:
    """Which bits [rows, T, S] are flipped, if those of the first maps are at these rates and no others."""
    found = []
    for number, shape in enumerate(shapes):
        height, width = grid.cells(shape)
        flipped = torch.zeros(rows, height, width, grid.bits, device=generator.device)
        if number < len(percents):
            uniform = torch.rand(flipped.shape, generator=generator, device=generator.device)
            flipped = (uniform < 0.01 * percents[number]).float()
        found.append(grid.to_tokens(flipped.permute(0, 3, 1, 2)))
    return torch.cat(found, dim=1) > 0


@dataclass(frozen=True)
class Example:
    """What the transformer is trained on: `labels` [B, T, S], the bits to be predicted, and `vectors` [B, T -
    first, S] that the second map on is fed."""

    labels: Tensor
    vectors: Tensor


def example(
    grid: BitGrid,
    latent: Tensor,
    shapes: Shapes,
    flips: Tensor | None = None,
    given: Sequence[Tensor] = (),
) -> Example:
    """Of a latent [B, d, H, W], with bits [B, T, S] flipped (`SelfCorrection.flips`) and the first maps
    `given` (see `BitGrid.labels`)."""
    flips = None if flips is None else flips.to(latent.device)
    labels = grid.labels(latent, shapes, flips, given)
    fed = labels if flips is None else labels ^ flips
    return Example(labels, grid.transformer_inputs(fed, shapes))
