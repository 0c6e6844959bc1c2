"""Relaxed acceptance of drafted visual codes: a code is credited with the probability of its neighbours.

Codes whose codebook vectors are close decode to nearly the same patch, and a model of images spreads its
probability over many of them, so exact verification rejects most drafts. Of a drafted x with neighbours n_1,
n_2, ... (nearest first) let m be the largest index with C_m = p(n_1) + ... + p(n_m) within a bound:

    additive:        C_m <= delta                       LANTERN, Jang et al., arXiv 2410.03355
    multiplicative:  C_m <= (delta - 1) p(x)            LANTERN++, Park et al., arXiv 2502.06352
    p_x(x) = p(x) + C_m,   p_x(n_j) = 0 for j <= m,   p_x = p elsewhere
x is accepted with probability min(1, p_x(x) / q(x)), else a code is drawn from norm(max(0, p_x - q)). An
additive delta of 0, and a multiplicative one of 1, are plain speculative sampling. Beyond that sampling is
biased towards the draft: p_x differs from p by C_m at most, but depends on x, so the law of what is drawn may
be further from p than delta. Different from the release (see `unified/checkpoints/lantern`): rejection uses
the residual of p_x. Tests: tests/unified/decoding/test_relaxation.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unified.decoding.noise import Noise
from unified.decoding.strategies.rejection import Verdict, verify
from unified.finite import check_number

BLOCK = 1024  # rows of the table of distances that are held at once


def neighbour_table(codebook: Tensor, count: int | None = None) -> Tensor:
    """[V, count] int64: of every code all others by ascending Euclidean distance between rows of the codebook
    [V, C], or the `count` nearest."""
    size = len(codebook)
    count = size - 1 if count is None else min(count, size - 1)
    vectors, found = codebook.detach().float(), []
    for start in range(0, size, BLOCK):
        part = vectors[start : start + BLOCK]
        distances = torch.cdist(part, vectors, compute_mode="donot_use_mm_for_euclid_dist")
        own = torch.arange(start, start + len(part), device=vectors.device)
        distances.scatter_(1, own[:, None], -1.0)  # itself comes first, and is left out
        found.append(distances.argsort(dim=1, stable=True)[:, 1 : count + 1])
    return torch.cat(found)


@dataclass(frozen=True)
class Credit:
    """`mass` [...]: C_m. `count` [...]: m."""

    mass: Tensor
    count: Tensor


def credit(p: Tensor, tokens: Tensor, near: Tensor, delta: float, *, multiplicative: bool) -> Credit:
    """What codes `tokens` [...] are credited with under p [..., V], of their neighbours `near` [..., k]."""
    sums = p.gather(-1, near).cumsum(dim=-1)  # [..., k]
    own = p.gather(-1, tokens[..., None])
    bound = (delta - 1) * own if multiplicative else torch.full_like(own, delta)
    count = (sums <= bound).sum(dim=-1)
    mass = sums.gather(-1, (count - 1).clamp(min=0)[..., None])[..., 0]
    return Credit(torch.where(count > 0, mass, 0.0), count)


def reshaped(p: Tensor, tokens: Tensor, near: Tensor, found: Credit) -> Tensor:
    """p_x [..., V] of p [..., V] for each of the codes [...]."""
    inside = torch.arange(near.shape[-1], device=near.device) < found.count[..., None]
    kept = p.gather(-1, near).masked_fill(inside, 0.0)
    moved = p.scatter(-1, near, kept)
    raised = p.gather(-1, tokens[..., None]) + found.mass[..., None]
    return moved.scatter(-1, tokens[..., None], raised)


@dataclass(frozen=True, kw_only=True)
class Relaxed:
    """The acceptance rule. `neighbours` [V, k]: see `neighbour_table`; `delta`: the bound, from 0 to 1
    additive, from 1 on `multiplicative`. ValueError for a bound out of range."""

    neighbours: Tensor
    delta: float = 0.1
    multiplicative: bool = False

    def __post_init__(self) -> None:
        if self.neighbours.dim() != 2 or not self.neighbours.numel():
            raise ValueError(f"neighbours must be a table [V, k], got {tuple(self.neighbours.shape)}")
        if self.multiplicative:
            check_number("a multiplicative delta", self.delta, 1)
        else:
            check_number("an additive delta", self.delta, 0, 1)

    def __call__(
        self, p: Tensor, q: Tensor, drafted: Tensor, noise: Noise, places: Tensor, greedy: Tensor | None
    ) -> Verdict:
        """An `AcceptanceRule`. ValueError for codes of several symbols, or of another codebook."""
        if drafted.shape[-1] != 1 or p.shape[-1] != len(self.neighbours):
            raise ValueError(
                f"neighbours of {len(self.neighbours)} codes do not fit codes of {drafted.shape[-1]} symbols "
                f"of {p.shape[-1]} values: relaxed acceptance takes codes of one symbol"
            )
        near = self.neighbours.to(drafted.device)[drafted]  # [B, n, 1, k]
        found = self._credit(p, drafted, near)
        verdict = verify(reshaped(p, drafted, near, found), q, drafted, noise, places)
        if greedy is None:
            return verdict
        soft = greedy.float().softmax(dim=-1)
        best = reshaped(soft, drafted, near, self._credit(soft, drafted, near)).argmax(dim=-1)
        accepted = best == drafted
        return Verdict(torch.where(accepted, drafted, p.argmax(dim=-1)), accepted, p)

    def _credit(self, p: Tensor, drafted: Tensor, near: Tensor) -> Credit:
        return credit(p, drafted, near, self.delta, multiplicative=self.multiplicative)
