"""Infinity as some published forks run it: NSARM (arXiv 2510.00820) in inference, and ARBooth (arXiv
2504.02612) where the frozen model draws what the tuned one is held to.

Their layers are not told which map they run, so that the rotary positions of every map begin at the first row
of the table; and a map is fed the running sum averaged over areas, not interpolated.
"""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from unified.checkpoints.infinity import Infinity
from unified.orders.shapes import Shapes, area
from unified.tokenizers.feeds import MapFeed


class AsReleased(Infinity):
    """Infinity as released forks run it map by map, with the same weights."""

    def feed(self, shapes: Shapes) -> MapFeed:
        return self.grid.feed(shapes, by_area=True)

    def rotation(self, shapes: Shapes) -> tuple[Tensor, Tensor]:
        return from_first_row(super().rotation(shapes), shapes)

    @staticmethod
    def of(model: Infinity) -> AsReleased:
        """The same model, with the same weights."""
        other = copy(model)
        other.__class__ = AsReleased
        assert isinstance(other, AsReleased)
        return other


def from_first_row(table: tuple[Tensor, Tensor], shapes: Shapes) -> tuple[Tensor, Tensor]:
    """cos and sin [L, C / 2] of maps that all begin at the first row of a table."""
    cos, sin = (torch.cat([rows[: area((shape,))] for shape in shapes]) for rows in table)
    return cos, sin
