"""Decoding of TokenBridge: MAR's loop, with guidance on the backbone's features and codes drawn channel by
channel.

Source: Wang et al., arXiv 2503.16430. As published, the head's sequence starts with the condition of its
first position in sampling, though not in training. Noise is a function of row and place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.checkpoints.tokenbridge.network import TokenBridge
from unified.decoding.noise import Noise
from unified.orders.masked_schedule import masked_rounds

SETTINGS = MaskedDecoding(steps=256, scale=3.1, temperature=0.96)


@torch.no_grad()
def sample(
    model: TokenBridge, labels: Tensor, orders: Tensor, noise: Noise, settings: MaskedDecoding = SETTINGS
) -> Tensor:
    """Codes [B, L, C] of new images. labels [B]; orders [B, L]: permutations of which the last entries are
    written first. Temperature 0 takes the most probable codes."""
    backbone, (rows, count) = model.backbone, orders.shape
    codes = torch.zeros(rows, count, model.head.channels, dtype=torch.long, device=orders.device)
    told, null = backbone.classes(labels, rows), backbone.classes(None, rows)
    for now in masked_rounds(orders, settings.steps):
        if not now.step.written:
            continue
        hidden = model(codes, now.mask, told)
        if settings.scale != 1:
            away = model(codes, now.mask, null)
            hidden = away + settings.scale_at(now.step, count) * (hidden - away)
        uniform = noise.uniform(now.places(), model.head.channels, device=hidden.device).float()
        picked = hidden[now.chosen]
        drawn, _ = model.head.sample(picked, uniform.flatten(0, 1), settings.temperature, shifted=True)
        codes = now.filled(codes, model.unordered(drawn))
    return codes
