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
from unified.orders.masked_schedule import first_masked, masked_steps

SETTINGS = MaskedDecoding(steps=256, scale=3.1, temperature=0.96)


@torch.no_grad()
def sample(
    model: TokenBridge, labels: Tensor, orders: Tensor, noise: Noise, settings: MaskedDecoding = SETTINGS
) -> Tensor:
    """Codes [B, L, C] of new images. labels [B]; orders [B, L]: permutations of which the last entries are
    written first. Temperature 0 takes the most probable codes."""
    backbone, (rows, count) = model.backbone, orders.shape
    codes = torch.zeros(rows, count, model.head.channels, dtype=torch.long, device=orders.device)
    mask = torch.ones(rows, count, dtype=torch.bool, device=orders.device)
    told, null = backbone.classes(labels, rows), backbone.classes(None, rows)
    for step in masked_steps(count, settings.steps):
        left = first_masked(orders, 0 if step.last else step.left)
        chosen = mask & ~left
        if step.written:
            hidden = model(codes, mask, told)
            if settings.scale != 1:
                scale = step.scale(settings.scale, count) if settings.linear else settings.scale
                away = model(codes, mask, null)
                hidden = away + scale * (hidden - away)
            places = chosen.nonzero()[:, 1].view(rows, -1)
            uniform = noise.uniform(places, model.head.channels, device=hidden.device).float()
            drawn, _ = model.head.sample(
                hidden[chosen], uniform.flatten(0, 1), settings.temperature, shifted=True
            )
            codes = codes.masked_scatter(chosen[..., None], model.unordered(drawn))
        mask = left
    return codes
