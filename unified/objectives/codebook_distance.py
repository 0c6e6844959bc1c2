"""The expected distance of predicted codes from the true ones: nearly right is better than quite wrong.

GoViG, arXiv 2508.09547 (there of MVoT's training code): for a true code y and predicted probabilities p the
loss of a token is sum_k p_k d(e_y, e_k), d being the Euclidean distance of code vectors; the paper calls it a
squared error, the release takes the root. It is added to the cross-entropy. Distances are divided by their
mean here, so that a weight means the same for every codebook; the release does not. A term beside another
objective: it needs logits, which `Scores` do not hold. Test:
tests/unified/objectives/test_codebook_distance.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unified.finite import check_number


@dataclass(frozen=True, kw_only=True)
class CodebookDistanceConfig:
    """`weight` of the loss; 0 is off."""

    weight: float = 1.0

    def __post_init__(self) -> None:
        check_number("weight", self.weight, 0)


class CodebookDistance:
    """`codebook` [N, C]: the vectors of the codes, frozen. ValueError for fewer than two codes, or codes that
    are all the same."""

    def __init__(self, codebook: Tensor, config: CodebookDistanceConfig | None = None) -> None:
        self.config = config or CodebookDistanceConfig()
        found = torch.cdist(codebook.detach().double(), codebook.detach().double())
        if codebook.ndim != 2 or len(codebook) < 2 or not found.mean() > 0:
            raise ValueError(f"a codebook needs two different codes at least, got {tuple(codebook.shape)}")
        self.table = (found / found.mean()).float()  # [N, N], 0 on the diagonal

    def __call__(self, logits: Tensor, codes: Tensor) -> Tensor:
        """Logits [M, N] of M slots and their true codes [M], from 0 -> the weighted mean, a scalar; without
        slots 0. ValueError for logits of another codebook."""
        if logits.shape[-1] != len(self.table):
            raise ValueError(f"logits of {logits.shape[-1]} codes, the codebook has {len(self.table)}")
        if not len(codes) or not self.config.weight:
            return logits.sum() * 0
        distances = self.table.to(logits.device)[codes]  # [M, N]
        return self.config.weight * (logits.float().softmax(dim=-1) * distances).sum(dim=-1).mean()
