"""How much the parts of a reply weigh in its score.

The score of a reply is D = sum over columns c of w_c S_c, where S_c sums the log-probabilities of its targets
by column: 0 text (with the choice to draw), 1 actions, 2 + k map k of its images. What the reference gives is
kept as the vector S, so weights may change without scoring anything anew.

| scheme | w_c, with n_c targets in column c, L in all, C columns with targets |
|---|---|
| token | 1: the sum, which the KL-regularised derivation of DPO (arXiv 2305.18290) asks for |
| mean | 1 / L |
| map | 1 / (C n_c): the layout on small maps counts as much as the texture on the last one |
| coarse_first | a_c / n_c with a_c = decay^k on map k and 1 on text and actions, of sum 1 |

Under the last three D is a mean over targets: beta must be larger than for `token` by about L.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unified.layout.layout import Layout
from unified.stream.segments import Kind

SCHEMES = ("token", "mean", "map", "coarse_first")
MEANS = ("ipo", "sigmoid_norm", "sft")  # losses of TRL that divide by the number of targets themselves
MAPS = 2  # the column of the first map


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """`scheme`: one of `SCHEMES`. `decay`: weight of a map by that of the one before, in (0, 1], of
    `coarse_first`."""

    scheme: str = "token"
    decay: float = 0.5

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"unknown weights {self.scheme!r}: choose one of {', '.join(SCHEMES)}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must lie in (0, 1], got {self.decay}")

    def of(self, counts: Tensor) -> Tensor:
        """Weights [B, C] of the columns of replies with `counts` [B, C] targets; 0 where a reply has none."""
        counts = counts.float()
        there = counts > 0
        if self.scheme == "token":
            return there.float()
        if self.scheme == "mean":
            return there / counts.sum(dim=1, keepdim=True).clamp(min=1)
        shares = there.float()
        if self.scheme == "coarse_first":
            rank = (torch.arange(counts.shape[1], device=counts.device) - MAPS).clamp(min=0)
            shares = shares * self.decay**rank
        shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-9)
        return shares / counts.clamp(min=1)


def check_losses(losses: Sequence[str], scheme: str) -> None:
    """ValueError for a loss of TRL whose scores would be divided by the number of targets twice."""
    twice = [name for name in losses if name in MEANS and scheme != "token"]
    if twice:
        raise ValueError(f"loss_type {twice[0]!r} takes means over targets itself: it needs weights='token'")


def columns_of(layout: Layout) -> Tensor:
    """[B, T]: the column that each id would count in as a target."""
    columns = (layout.index.kind == Kind.ACTION).long()
    for group in layout.writes:
        parts = enumerate(group.plan.map_slices)
        maps = torch.cat([torch.full((part.stop - part.start,), n) for n, part in parts])
        columns[group.rows[:, None], group.slots()] = MAPS + maps.to(columns)
    return columns


def by_column(values: Tensor, columns: Tensor, width: int) -> Tensor:
    """Sums of [B, T] by column: [B, width]."""
    sums = torch.zeros(len(values), width, dtype=values.dtype, device=values.device)
    return sums.scatter_add(1, columns, values)


def name_of(column: int) -> str:
    return ("text", "action")[column] if column < MAPS else f"map_{column - MAPS}"
