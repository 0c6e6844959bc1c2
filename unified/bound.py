"""Scores of heads that have no likelihood: minus the loss of denoising, a bound up to weights and constants,
at given times and noise.

The numbers are a function of a seed of the row and of a place, so that a score can be had again: `fixed` does
not depend on how samples are packed, `fresh` is new in every pass, and `paired` gives two replies, and all
models that score them, the same times and noise (Diffusion-DPO, arXiv 2311.12908). Tests:
tests/unified/test_latent_models.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from unified.counter_noise import float_of, fractions, hashed, mixed, named, row_keys
from unified.layout.layout import Layout

PURPOSE = "bound"
MOST_CODES = 2**20  # written codes of one sample
SEEDS = 2**31


@dataclass(frozen=True)
class BoundNoise:
    """`seeds` [B] int64 of rows and `places` [B, T] int64."""

    seeds: Tensor
    places: Tensor

    def uniform(self, rows: Tensor, places: Tensor, count: int) -> Tensor:
        """[N, count] in [0, 1) for ids at `rows` and `places` [N]."""
        device = rows.device
        keys = mixed(row_keys(self.seeds.to(device)[rows]) + named(PURPOSE))[:, None, None]
        at = self.places.to(device)[rows, places][:, None]
        return fractions(hashed(keys, at, torch.arange(count, device=device)), float_of(device))[:, 0]


def fixed(layout: Layout) -> BoundNoise:
    """The same for a sample wherever it is packed: places are numbers of its written codes."""
    return BoundNoise(torch.zeros(len(layout.step), dtype=torch.long), written_numbers(layout))


def fresh(layout: Layout) -> BoundNoise:
    """Of a seed that torch's own generator of the processor draws, another for every row."""
    rows, length = layout.step.shape
    seeds = torch.randint(SEEDS, (1,)) * SEEDS + torch.arange(rows)
    return BoundNoise(seeds, torch.arange(length).expand(rows, -1))


def paired(layout: Layout, pairs: Tensor, seed: int) -> BoundNoise:
    """Rows of one number in `pairs` [B] have the same numbers at the n-th written code of their m-th
    sample."""
    sample = layout.index.sample.clamp(min=0)
    return BoundNoise(seed * SEEDS + pairs, written_numbers(layout) + MOST_CODES * sample)


def written_numbers(layout: Layout) -> Tensor:
    """[B, T]: how many codes of its sample were written before each code."""
    written = (layout.step >= 0).long()
    before = written.cumsum(dim=1) - written
    sample = layout.index.sample
    first = torch.ones_like(sample, dtype=torch.bool)
    first[:, 1:] = sample[:, 1:] != sample[:, :-1]
    return before - before.masked_fill(~first, 0).cummax(dim=1).values


def step_groups(layout: Layout) -> Tensor:
    """[B, T] int64: a number for each step of each image; codes of one step have the same."""
    rows = torch.arange(len(layout.step), device=layout.step.device)[:, None]
    return (rows * 2**20 + layout.index.segment) * 2**20 + layout.step.clamp(min=0)


@dataclass(frozen=True, eq=False)
class Bounded:
    """What stands for the distribution of a head without a likelihood where tokens are scored: `hidden`
    [N, D], uniform numbers `draws` [N, K] and the `groups` [N] that are written together."""

    head: Any
    hidden: Tensor
    draws: Tensor
    groups: Tensor

    def log_prob(self, values: Tensor) -> Tensor:
        """[N]: minus the head's denoising loss of values [N, C]."""
        found: Tensor = -self.head.bound(self.hidden, values, self.draws, self.groups)
        return found

    def sample(self, *_: object) -> NoReturn:
        raise ValueError("a bound cannot be sampled from: use the head's distribution")

    guided = combined = sample


def is_exact(head: Any) -> bool:
    """Whether a head has log-probabilities; otherwise scores are bounds."""
    return bool(getattr(head, "exact", True))


def need_exact(model: Any, what: str) -> None:
    """ValueError, which says why, if a model's head has no exact likelihood."""
    head = getattr(model, "head", model)
    if not is_exact(head):
        raise ValueError(
            f"{what} needs exact log-probabilities, and the head of this model has none: its loss is a "
            "denoising error at one drawn time, no likelihood"
        )
