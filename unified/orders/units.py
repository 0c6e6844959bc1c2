"""Units of an image: which tokens are written together, as a permutation and a label for each token.

Source: Ren et al., Beyond Next-Token: Next-X Prediction (xAR), arXiv 2502.20388: cells of k x k tokens (the
released choice), tokens, subsamples on a lattice, the whole image. Its unit "scale" is no permutation: see
the next-scale order. Test: tests/unified/orders/test_units.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("token", "cell", "subsample", "image")


@dataclass(frozen=True, eq=False)
class Units:
    """`places` [L]: the token (row by row) at each index of the sequence; `labels` [L]: the unit of each
    index, which does not fall; `index` [L]: the inverse of `places`. All units have `size` tokens."""

    places: Tensor
    labels: Tensor
    index: Tensor
    size: int

    @property
    def count(self) -> int:
        return len(self.places) // self.size

    def split(self, tokens: Tensor) -> Tensor:
        """Tokens [B, L, C], row by row -> [B, units, size, C]."""
        return tokens[:, self.places].unflatten(1, (-1, self.size))

    def join(self, units: Tensor) -> Tensor:
        """The inverse of `split`."""
        return units.flatten(1, 2)[:, self.index]


def units(kind: str, rows: int, columns: int, side: int = 1) -> Units:
    """Units of a grid. "cell": blocks of `side` x `side` tokens, row by row, and so inside a block;
    "subsample": tokens `side` apart in both directions; "token": one each; "image": all. ValueError for
    another kind, or a side that does not divide rows and columns."""
    if kind not in KINDS:
        raise ValueError(f"unknown unit {kind!r}: choose one of {', '.join(KINDS)}")
    if min(rows, columns, side) < 1 or rows % side or columns % side:
        raise ValueError(f"a grid of {rows} x {columns} has no {kind} units of side {side}")
    grid = torch.arange(rows * columns).view(rows, columns)
    if kind == "cell":
        places = grid.view(rows // side, side, columns // side, side).transpose(1, 2).flatten()
        size = side**2
    elif kind == "subsample":
        places = grid.view(rows // side, side, columns // side, side).permute(1, 3, 0, 2).flatten()
        size = rows * columns // side**2
    else:
        places, size = grid.flatten(), 1 if kind == "token" else rows * columns
    labels = torch.arange(len(places)) // size
    return Units(places, labels, places.argsort(), size)
