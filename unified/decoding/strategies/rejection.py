"""The rejection rule of speculative sampling (Leviathan et al., arXiv 2211.17192, algorithm 1; Chen et al.,
arXiv 2302.01318, algorithm 2): values drawn from a draft's q become values drawn from the model's p.

A drafted x is accepted with probability min(1, p(x) / q(x)); otherwise a new one is drawn from
norm(max(0, p - q)). Either way the value follows p, whatever q is: a bad draft costs passes, never quality.
At temperature 0 both are one likeliest value, and x is accepted if it is p's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from unified.decoding.noise import SAMPLE, Noise
from unified.decoding.sampling import Sampler
from unified.finite import check_logits
from unified.heads.distribution import Distribution

DRAFT, ACCEPT, RESAMPLE = "draft", "accept", "resample"  # purposes of noise, independent of one another


@dataclass(frozen=True)
class Verdict:
    """`symbols` [B, n, S] that follow p, and which of them are those drafted (`accepted` [B, n, S] bool).
    `rest` [B, n, S, V]: what those are drawn from that were not accepted; draft trees need it of a rule."""

    symbols: Tensor
    accepted: Tensor
    rest: Tensor | None = None


def probabilities(sampler: Sampler, logits: Tensor) -> Tensor:
    """What a sampler draws from logits [..., V]: after temperature and filters [..., V], sums 1."""
    check_logits(logits)  # what is drafted is compared on the host anyway
    if sampler.temperature == 0:
        return torch.zeros_like(logits, dtype=torch.float32).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    return sampler.probabilities(logits)


def draw(law: Tensor, noise: Noise, places: Tensor, purpose: str = SAMPLE) -> Tensor:
    """Symbols [B, n, S] of probabilities [B, n, S, V], never one of probability 0, which the rounding of a
    uniform number to 1 would give."""
    drawn = noise.draw(law, places, purpose)
    possible = law.gather(-1, drawn[..., None])[..., 0] > 0
    return torch.where(possible, drawn, law.argmax(dim=-1))


def logits_of(predicted: Distribution) -> Tensor:
    """[B, n, S, V]. ValueError for continuous values."""
    logits: Tensor | None = getattr(predicted, "logits", None)
    if logits is None:
        raise ValueError("speculative decoding verifies codes, this head predicts vectors: use OnePass")
    return logits


def verify(p: Tensor, q: Tensor, drafted: Tensor, noise: Noise, places: Tensor) -> Verdict:
    """Of values `drafted` [B, n, S] from q, with p and q [B, n, S, V]; `places` [B, n] index the noise."""
    chance, proposed = (law.gather(-1, drafted[..., None])[..., 0] for law in (p, q))
    uniform = noise.uniform(places, drafted.shape[-1], ACCEPT, p.device)
    accepted = uniform * proposed < chance  # with probability min(1, p / q)
    rest = (p - q).clamp(min=0)
    total = rest.sum(dim=-1, keepdim=True)
    rest = torch.where(total > 0, rest / total, p)  # p = q but for rounding: nothing is left
    return Verdict(torch.where(accepted, drafted, draw(rest, noise, places, RESAMPLE)), accepted, rest)


class AcceptanceRule(Protocol):
    """Which drafted symbols of an image are accepted."""

    def __call__(
        self, p: Tensor, q: Tensor, drafted: Tensor, noise: Noise, places: Tensor, greedy: Tensor | None
    ) -> Verdict:
        """As `verify`. `greedy` [B, n, S, V]: the logits before the likeliest value was taken, at temperature
        0 alone."""
        ...


def exact(
    p: Tensor, q: Tensor, drafted: Tensor, noise: Noise, places: Tensor, greedy: Tensor | None
) -> Verdict:
    """The rule of speculative sampling."""
    return verify(p, q, drafted, noise, places)
