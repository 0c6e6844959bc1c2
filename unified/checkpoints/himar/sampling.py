"""Decoding of Hi-MAR: pivots in a random order by a head for single tokens, then the dense grid in a few
steps, each of which draws all that is unknown and keeps a part of it.

The hidden states of the pivots are kept from the step at which each was drawn; the drawn pivots themselves
are a preview. Source: Zheng et al., arXiv 2505.20288. Noise is a function of row, place and, in the second
phase, step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from unified.checkpoints.himar.grid_head import denoise_grid
from unified.checkpoints.himar.network import DENSE, PIVOTS, HiMAR
from unified.checkpoints.mar.sampling import MaskedDecoding, drawn
from unified.decoding.noise import Noise
from unified.heads.diffusion_schedule import cosine
from unified.orders.masked_schedule import masked_rounds


@dataclass(frozen=True, kw_only=True)
class TwoPhaseDecoding:
    """Settings of both phases. Released: four pivot steps for each row of their grid (`pivot_steps`), dense
    steps 4 (huge: 12), scales 2.7, 3.5, 5.5 of pivots and 2.5, 3.5, 3.2 of the grid, 100 and 250 diffusion
    steps."""

    pivots: MaskedDecoding = field(default_factory=lambda: MaskedDecoding(steps=32))
    dense: MaskedDecoding = field(default_factory=lambda: MaskedDecoding(steps=4, sections=(250,)))


class Entered(NamedTuple):
    """What a step began with: `phase`, `mask` [B, L] bool and `tokens` [B, L, C] of its grid, `hidden`
    conditions [B or 2B, L, D] and the guidance `scale`."""

    phase: int
    mask: Tensor
    tokens: Tensor
    hidden: Tensor
    scale: float


Watch = Callable[[Entered], None]


class Drawing(NamedTuple):
    """`pivots` [B, m, C], a preview; `states` [B, m, D] that the second phase was given; `tokens` [B, N,
    C]."""

    pivots: Tensor
    states: Tensor
    tokens: Tensor


def pivot_steps(pivots: int) -> int:
    """Steps in which a square grid of so many pivots is written: four for each row."""
    return 4 * math.isqrt(pivots)


@torch.no_grad()
def sample(
    model: HiMAR,
    labels: Tensor,
    orders: Tensor,
    noise: Noise,
    settings: TwoPhaseDecoding | None = None,
    watch: Watch | None = None,
) -> Drawing:
    """New images. labels [B]; orders [B, m + N]: permutations of the pivots and then of m .. m + N - 1."""
    settings = settings or TwoPhaseDecoding()
    pivots, states = _pivots(model, labels, orders, noise, settings.pivots, watch)
    tokens = _dense(model, labels, orders, noise, settings.dense, states, watch)
    return Drawing(pivots, states, tokens)


def _told(model: HiMAR, labels: Tensor, doubled: bool) -> Tensor:
    told = model.classes(labels, len(labels))
    return torch.cat([told, model.classes(None, len(labels))]) if doubled else told


def _pivots(
    model: HiMAR,
    labels: Tensor,
    orders: Tensor,
    noise: Noise,
    settings: MaskedDecoding,
    watch: Watch | None,
) -> tuple[Tensor, Tensor]:
    """Pivots [B, m, C], and of each the hidden state [B, m, D] from the step at which it was drawn."""
    config, rows = model.config, len(labels)
    count, repeats = config.pivots, 1 + (settings.scale != 1)
    told = _told(model, labels, repeats == 2)
    pivots = told.new_zeros(rows, count, config.channels)
    states = told.new_zeros(rows, count, config.width)
    empty = told.new_zeros(repeats * rows, config.tokens, config.channels)
    unknown = torch.ones(empty.shape[:2], dtype=torch.bool, device=told.device)
    for now in masked_rounds(orders[:, :count], settings.steps):
        both = torch.cat([now.mask.repeat(repeats, 1), unknown], dim=1)
        inputs = model.pivots_of_tokens(pivots).repeat(repeats, 1, 1)
        hidden = model(PIVOTS, inputs, empty, both, told)[:, :count]
        scale = settings.scale_at(now.step, count)
        if watch is not None:
            watch(Entered(PIVOTS, now.mask, pivots, hidden, scale))
        if now.step.written:
            pivots = now.filled(pivots, drawn(model.diffloss, hidden, now.chosen, noise, settings, scale))
            states = torch.where(now.chosen[..., None], hidden[:rows], states)
    return pivots, states


def _dense(
    model: HiMAR,
    labels: Tensor,
    orders: Tensor,
    noise: Noise,
    settings: MaskedDecoding,
    states: Tensor,
    watch: Watch | None,
) -> Tensor:
    """Tokens [B, N, C], given the conditional hidden states of the pivots in both branches."""
    config, rows, schedule = model.config, len(labels), cosine(1000, settings.sections)
    count, repeats = config.tokens, 1 + (settings.scale != 1)
    told = _told(model, labels, repeats == 2)
    inputs = model.pivots_of_states(states).repeat(repeats, 1, 1)
    known = torch.zeros(repeats * rows, config.pivots, dtype=torch.bool, device=told.device)
    order = orders[:, config.pivots :] - config.pivots
    places = torch.arange(config.pivots, config.pivots + count, device=told.device).expand(rows, -1)
    tokens = told.new_zeros(rows, count, config.channels)
    for now in masked_rounds(order, settings.steps):
        both = torch.cat([known, now.mask.repeat(repeats, 1)], dim=1)
        hidden = model(DENSE, inputs, tokens.repeat(repeats, 1, 1), both, told)[:, config.pivots :]
        scale = settings.scale_at(now.step, count)
        if watch is not None:
            watch(Entered(DENSE, now.mask, tokens, hidden, scale))
        purpose = f"grid {now.number}"
        normal = noise.normal(places, len(schedule.steps) * config.channels, purpose, told.device)
        normal = normal.float().unflatten(-1, (-1, config.channels))
        head, temperature = model.cond_diffloss, settings.temperature
        values = denoise_grid(head, hidden, tokens, now.mask, normal, schedule, scale, temperature)
        tokens = torch.where(now.mask[..., None], values, tokens)
    return tokens
