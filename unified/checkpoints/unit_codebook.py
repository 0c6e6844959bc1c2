"""LlamaGen's quantiser under its published name: codes and vectors of unit length, three losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from unified.tokenizers.quantise import entropy_loss, nearest

Through = Callable[[Tensor, Tensor], Tensor]  # vectors and codes -> codes with the gradient of the vectors


def straight_through(vectors: Tensor, codes: Tensor) -> Tensor:
    return vectors + (codes - vectors).detach()


@dataclass(frozen=True, eq=False)
class UnitQuantised:
    """`ids` [B, N], `output` like the input, `vq_loss`, `commit_loss`, `entropy_loss` as they are added
    up."""

    ids: Tensor
    output: Tensor
    vq_loss: Tensor
    commit_loss: Tensor
    entropy_loss: Tensor

    @property
    def loss(self) -> Tensor:
        return self.vq_loss + self.commit_loss + self.entropy_loss


class UnitCodebook(nn.Module):
    """`beta`: weight of the commitment; `ratio`: of the entropy."""

    def __init__(self, codes: int, dim: int, *, beta: float = 0.25, ratio: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, dim)
        self.beta, self.ratio = beta, ratio

    def rows(self) -> Tensor:
        return F.normalize(self.embedding.weight, dim=-1)

    def entries(self, ids: Tensor) -> Tensor:
        """[..., D]."""
        return F.embedding(ids, self.rows())

    def forward(self, vectors: Tensor, through: Through = straight_through) -> UnitQuantised:
        """vectors [B, N, D]."""
        vectors, rows = F.normalize(vectors, dim=-1), self.rows()
        ids = nearest(vectors, rows)
        codes = F.embedding(ids, rows)
        vq = (codes - vectors.detach()).square().mean()
        commit = self.beta * (codes.detach() - vectors).square().mean()
        entropy = vq.new_zeros(())
        if self.ratio:
            entropy = self.ratio * entropy_loss(vectors.flatten(0, 1), rows)
        return UnitQuantised(ids, through(vectors, codes), vq, commit, entropy)
