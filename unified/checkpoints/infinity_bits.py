"""Infinity's code vectors: signs of binary spherical quantisation, summed over maps.

A cell of the latent grid has d bits, and its vector is (2 bit - 1) / sqrt(d) at every map. A map is fed the
running sum of the maps before it, resized; each map is quantised from what the sum leaves. With patchify a
token holds 2 x 2 cells: 4 d bits, channel order c * 4 + row * 2 + column.

Source: FoundationVision/Infinity (MIT), infinity/models/bitwise_self_correction.py; arXiv 2412.04431.
Different from the published code: bits of a token are one code, bit 0 the most significant; which bits are
flipped for self-correction is given from outside (`infinity_correction`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.orders.shapes import Shape, Shapes
from unified.tokenizers.feeds import ResidualFeed
from unified.tokenizers.resize import flatten, unflatten


@dataclass(frozen=True)
class BitGrid:
    """`bits` of a latent cell; `side`: a token holds side x side cells (1, or 2 with patchify)."""

    bits: int
    side: int = 1

    @property
    def token_bits(self) -> int:
        return self.bits * self.side**2

    def cells(self, shape: Shape) -> Shape:
        """The latent grid of a map of tokens."""
        return shape[0] * self.side, shape[1] * self.side

    def vectors(self, symbols: Tensor) -> Tensor:
        """Bits [..., S] of 0 and 1 -> signs times 1 / sqrt(bits of a cell), [..., S] float32."""
        return (2.0 * symbols.float() - 1.0) / self.bits**0.5

    def to_map(self, tokens: Tensor, shape: Shape) -> Tensor:
        """Tokens [B, h * w, S] -> latent map [B, d, side * h, side * w]."""
        return F.pixel_shuffle(unflatten(tokens, shape), self.side)

    def to_tokens(self, latent: Tensor) -> Tensor:
        """The inverse."""
        return flatten(F.pixel_unshuffle(latent, self.side))

    def feed(self, shapes: Shapes, *, by_area: bool = False) -> ResidualFeed:
        """What the slots of these maps are fed, of token vectors [B, T, S]. Unlike VAR's it resizes with
        `trilinear` downwards too, unless `by_area`."""
        last, down = self.cells(shapes[-1]), area_resized if by_area else _resized

        def lift(vectors: Tensor, number: int) -> Tensor:
            return flatten(_resized(self.to_map(vectors, shapes[number]), last))  # [B, H * W, d]

        def lower(total: Tensor, source: Shape, target: Shape) -> Tensor:
            return self.to_tokens(down(unflatten(total, self.cells(source)), self.cells(target)))

        return ResidualFeed(shapes, lift, lower)

    def summed(self, vectors: Tensor, shapes: Shapes) -> Tensor:
        """Vectors [B, T, S] of all maps -> the finished latent [B, d, H, W]."""
        return unflatten(self.feed(shapes).image(vectors), self.cells(shapes[-1])).contiguous()

    def labels(
        self, latent: Tensor, shapes: Shapes, flips: Tensor | None = None, given: Sequence[Tensor] = ()
    ) -> Tensor:
        """Bits [B, T, S] int64 of a latent [B, d, H, W] of the last map's cells: the signs of what the maps
        before leave, area-resized. `flips` [B, T, S] bool: bits that are wrong in what the maps before add up
        to, though not in the labels. `given`: latents [B, d, h, w] whose signs are the first maps, so that
        the labels after them repair what they got wrong; the last map is never given. ValueError for
        another size."""
        last = self.cells(shapes[-1])
        if latent.shape[1:] != (self.bits, *last):
            want = (self.bits, *last)
            raise ValueError(f"these maps need a latent [B, {', '.join(map(str, want))}], got {latent.shape}")
        total, found = torch.zeros_like(latent), []
        parts = [None] * len(shapes) if flips is None else flips.split(areas(shapes), dim=1)
        for number, (shape, flipped) in enumerate(zip(shapes, parts, strict=True)):
            rest, cells = latent - total, self.cells(shape)
            if number < min(len(given), len(shapes) - 1):
                rest = self._given(given[number], latent, cells)
            signs = area_resized(rest, cells) > 0
            found.append(self.to_tokens(signs.to(latent.dtype)))
            if flipped is not None:
                signs = signs ^ (self.to_map(flipped.to(latent.dtype), shape) > 0)
            total = total + _resized(self.vectors(signs), last)
        return torch.cat(found, dim=1).long()

    def _given(self, part: Tensor, latent: Tensor, cells: Shape) -> Tensor:
        want = (*latent.shape[:2], *cells)
        if tuple(part.shape) != want:
            raise ValueError(f"a given map must have shape {want}, got {tuple(part.shape)}")
        return part

    def transformer_inputs(self, symbols: Tensor, shapes: Shapes) -> Tensor:
        """Bits [B, T, S] of all maps -> what the second map on is fed [B, T - first, S]."""
        feed = self.feed(shapes)
        return feed.inputs(self.vectors(symbols), feed.later)


def areas(shapes: Shapes) -> list[int]:
    """Tokens of each map."""
    return [height * width for height, width in shapes]


def area_resized(latent: Tensor, shape: Shape) -> Tensor:
    """[B, C, h, w] averaged over the areas of another grid."""
    return latent if latent.shape[2:] == shape else F.adaptive_avg_pool2d(latent, shape)


def _resized(latent: Tensor, shape: Shape) -> Tensor:
    """[B, C, h, w] at another size; the published trilinear resize over a time axis of one."""
    if latent.shape[2:] == shape:
        return latent
    return F.interpolate(latent, size=shape, mode="bilinear", align_corners=False)
