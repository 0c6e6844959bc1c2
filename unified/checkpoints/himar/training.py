"""One training pass of Hi-MAR: the loss of both phases, the second given the hidden states of the first.

Only pivots that the first phase really predicted are handed over; the others, and with a probability that
shrinks in training whole samples, are learned placeholders. Source: Zheng et al., arXiv 2505.20288.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unified.checkpoints.himar.grid_head import grid_loss
from unified.checkpoints.himar.network import DENSE, PIVOTS, HiMAR
from unified.checkpoints.mar.network import masked_loss

SHARES = 64 / 320, 256 / 320  # of the two phases in the loss, whatever the sizes
WEIGHTS = 2.0, 0.75
EPOCHS = 100  # after which hidden states are handed over as often as they ever are


@dataclass(frozen=True, eq=False)
class Masks:
    """`pivots` [B, m] and `dense` [B, N] bool, true where a token is to be predicted; `dropped` [B]:
    samples whose pivots are placeholders in the second phase."""

    pivots: Tensor
    dense: Tensor
    dropped: Tensor


@dataclass(frozen=True, eq=False)
class Draws:
    """Diffusion steps and noise of repetitions of the whole batch: of pivots [r B m] and [r B m, C], of
    images [r B] and [r B, N, C]."""

    pivot_steps: Tensor
    pivot_noise: Tensor
    dense_steps: Tensor
    dense_noise: Tensor


@dataclass(frozen=True, eq=False)
class Losses:
    """Weighted losses of the phases and their `total`; the conditions `pivot_states` [B, m + N, D] and
    `dense_states` [B, N, D]; `per_image` [r B] of the dense head."""

    pivots: Tensor
    dense: Tensor
    total: Tensor
    pivot_states: Tensor
    dense_states: Tensor
    per_image: Tensor


def hand_over_share(rate: float, epoch: float) -> float:
    """The probability that a sample's second phase is given hidden states at all."""
    return rate * min(1.0, epoch / EPOCHS)


def losses(
    model: HiMAR, pivots: Tensor, tokens: Tensor, masks: Masks, told: tuple[Tensor, Tensor], draws: Draws
) -> Losses:
    """pivots [B, m, C], tokens [B, N, C], told: class embeddings [B, D] of the two phases."""
    count = model.config.pivots
    unknown = torch.cat([masks.pivots, torch.ones_like(masks.dense)], dim=1)
    first = model(PIVOTS, model.pivots_of_tokens(pivots), tokens, unknown, told[0])
    states = first[:, :count]
    of_pivots = masked_loss(
        model.diffloss, states, pivots, masks.pivots, draws.pivot_steps, draws.pivot_noise
    )
    placeholder = ~masks.pivots | masks.dropped[:, None]
    inputs = model.pivots_of_states(states.detach(), placeholder)
    unknown = torch.cat([torch.zeros_like(masks.pivots), masks.dense], dim=1)
    second = model(DENSE, inputs, tokens, unknown, told[1])[:, count:]
    repeats = len(draws.dense_steps) // len(tokens)
    per_image = grid_loss(
        model.cond_diffloss,
        second.repeat(repeats, 1, 1),
        tokens.repeat(repeats, 1, 1),
        masks.dense.repeat(repeats, 1),
        draws.dense_steps,
        draws.dense_noise,
    )
    weighted = WEIGHTS[0] * of_pivots, WEIGHTS[1] * per_image.mean()
    total = SHARES[0] * weighted[0] + SHARES[1] * weighted[1]
    return Losses(*weighted, total, first, second, per_image)
