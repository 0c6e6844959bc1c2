"""Selftok's time: which prefix of the codes a diffusion decoder sees at which time, and times shifted for
large images.

Time runs from 0 (clean) to 1 (noise). At index k the codes 0 to k are visible: pure noise sees all, a clean
image still code 0. Codes are written coarse to fine, from the last to the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

STEPS = 1000  # of time, in which schedules are given
NORMAL = (0.3, 0.8)  # mean and deviation of the logit of time in the logit-normal schedule
SHIFT, SMALL = 1.878, 2048  # times of latents with that many cells or more are shifted


@dataclass(frozen=True)
class Schedule:
    """`ends`: the last time of each stage, of 1000; `counts`: the codes that it adds."""

    ends: Sequence[int]
    counts: Sequence[int]

    def __post_init__(self) -> None:
        rising = list(self.ends) == sorted(set(self.ends)) and min(self.ends, default=0) > 0
        if not rising or len(self.ends) != len(self.counts) or min(self.counts) < 1:
            raise ValueError(f"stages need rising ends and a count each, got {self.ends} and {self.counts}")

    @staticmethod
    def parse(ends: str, counts: str) -> Schedule:
        """Of the published options, numbers with commas between them."""
        first, second = ([int(part) for part in text.split(",")] for text in (ends, counts))
        return Schedule(first, second)

    @property
    def codes(self) -> int:
        return sum(self.counts)

    def index(self, times: Tensor) -> Tensor:
        """The last visible code [...] at times [...] from 0 to 1000."""
        starts = [0, *self.ends[:-1]]
        before = [0, *accumulate(self.counts)]
        found = torch.zeros_like(times)
        for start, end, count, earlier in zip(starts, self.ends, self.counts, before, strict=False):
            here = count / (end - start) * (times - start) + earlier
            found = torch.where(times >= start, here, found)
        return found.long().clamp(max=self.codes - 1)


UNIFORM = Schedule((1000,), (512,))
STAGED = Schedule((200, 400, 600, 800, 1000), (64, 160, 160, 64, 64))


def normal_index(times: Tensor, codes: int = 512) -> Tensor:
    """The logit-normal variant at times [...] in (0, 1)."""
    mean, deviation = NORMAL
    cumulated = torch.distributions.Normal(mean, deviation).cdf(times.logit())
    return (codes * cumulated).ceil().long().clamp(0, codes - 1)


def table_index(longest: Tensor, steps: int = STEPS) -> Tensor:
    """The discrete variant: for each of `steps` times the first entry of `longest` (rising) that is not
    before it."""
    return torch.searchsorted(longest, torch.arange(steps, dtype=longest.dtype))


def visible(index: Tensor, codes: int) -> Tensor:
    """[B, K] bool of indices [B]."""
    return torch.arange(codes, device=index.device) <= index[:, None]


def shifted(times: Tensor, shift: float) -> Tensor:
    """Times in [0, 1] moved towards noise; 1 leaves them."""
    return shift * times / (1 + (shift - 1) * times)


def shift_of(cells: int) -> float:
    """The published shift for a latent of that many cells."""
    return 1.0 if cells < SMALL else SHIFT


def noised(latent: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """The latent [B, C, h, w] at times [B]; the decoder's target is noise - latent."""
    times = times.view(-1, *[1] * (latent.dim() - 1))
    return times * noise + (1 - times) * latent
