"""Decoding of MAR: tokens are drawn in a random order, more of them at every step; each step runs the whole
network again.

Source: Li et al., arXiv 2406.11838; LTH14/mar (MIT). Different from the published code: noise is a function
of the row and the place of a token (`unified/decoding/noise.py`), so that a row is the same alone and in a
batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unified.checkpoints.mar.network import MAR
from unified.decoding.noise import Noise
from unified.decoding.sampling import Sampler
from unified.finite import check_count, check_number
from unified.heads.denoiser import Denoiser
from unified.heads.diffusion import DiffusionDistribution, Term
from unified.heads.diffusion_schedule import cosine
from unified.orders.masked_schedule import MaskedStep, masked_rounds


@dataclass(frozen=True, kw_only=True)
class MaskedDecoding:
    """`steps`; guidance `scale` (1: no null branch), which grows with the share of known tokens if it is
    `linear`; `temperature` of the head's noise; `sections`: diffusion steps kept of each equal section of
    1000. Released: 256 or 64 steps, scales 2.9, 3.0 and 3.2, sections (100,)."""

    steps: int = 64
    scale: float = 1.0
    linear: bool = True
    temperature: float = 1.0
    sections: tuple[int, ...] = (100,)

    def __post_init__(self) -> None:
        check_count("steps", self.steps, 1)
        check_number("scale", self.scale)
        check_number("temperature", self.temperature, 0)

    def scale_at(self, step: MaskedStep, count: int) -> float:
        """The guidance scale of a step that writes some of `count` values."""
        return step.scale(self.scale, count) if self.linear else self.scale


@dataclass(frozen=True, eq=False)
class Entered:
    """What a step began with: `mask` [B, L] bool, the conditions `hidden` [B or 2B, L, D] that the network
    found, and the guidance `scale`."""

    mask: Tensor
    hidden: Tensor
    scale: float


Watch = Callable[[Entered], None]


def drawn(
    head: Denoiser,
    hidden: Tensor,
    chosen: Tensor,
    noise: Noise,
    settings: MaskedDecoding,
    scale: float,
) -> Tensor:
    """Values [B, n, C] of the places that `chosen` [B, L] bool names, n in every row, given conditions [B
    or 2B, L, D], null ones last."""
    rows = len(chosen)
    places = chosen.nonzero()[:, 1].view(rows, -1)
    schedule = cosine(1000, settings.sections)

    def told(part: Tensor) -> DiffusionDistribution:
        picked = part[chosen].view(rows, -1, part.shape[-1])
        return DiffusionDistribution(head, schedule, (Term(picked, 1.0, 1.0),))

    found = told(hidden[:rows])
    if len(hidden) > rows:
        found = found.guided(told(hidden[rows:]), scale - 1)
    return found.sample(noise, places, Sampler(temperature=settings.temperature)).values


@torch.no_grad()
def sample(
    model: MAR,
    labels: Tensor | None,
    orders: Tensor,
    noise: Noise,
    settings: MaskedDecoding | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Tokens [B, L, C] of new images. labels [B] of classes (None: of none); orders [B, L]: permutations of
    which the last entries are written first. ValueError for guidance without labels."""
    settings = settings or MaskedDecoding()
    if labels is None and settings.scale != 1:
        raise ValueError(f"guidance needs labels, got none and a scale of {settings.scale}")
    rows, count = orders.shape
    doubled = settings.scale != 1
    told = model.classes(labels, rows)
    if doubled:
        told = torch.cat([told, model.classes(None, rows)])
    tokens = model.z_proj.weight.new_zeros(rows, count, model.config.channels)
    for now in masked_rounds(orders, settings.steps):
        both = (torch.cat([x, x]) if doubled else x for x in (tokens, now.mask))
        hidden = model(*both, told)
        scale = settings.scale_at(now.step, count)
        if watch is not None:
            watch(Entered(now.mask, hidden, scale))
        if now.step.written:
            tokens = now.filled(tokens, drawn(model.diffloss, hidden, now.chosen, noise, settings, scale))
    return tokens
