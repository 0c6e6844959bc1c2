"""The small convolutions that residual VQ applies to each upsampled code map, and which scale uses which.

VAR (Tian et al. 2024, arXiv 2404.02905): phi(h) = (1 - r) h + r conv3x3(h).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class PhiConfig:
    """`count` phis; scale s uses the one whose tick is closest to s / (S - 1). `blend` is r; near 0 there is
    no phi."""

    count: int = 4
    blend: float = 0.5

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"at least one phi is needed, got {self.count}: set blend to 0 for none")

    @property
    def active(self) -> bool:
        return abs(self.blend) > 1e-6


class Phi(nn.Conv2d):
    """Blend of identity and convolution on maps [B, C, h, w], in float32 whatever the dtype of the
    weights."""

    def __init__(self, channels: int, blend: float) -> None:
        super().__init__(channels, channels, 3, padding=1)
        self.blend = abs(blend)

    def forward(self, h: Tensor) -> Tensor:
        # The running sum must not lose small residuals, so autocast is off too.
        with torch.autocast(h.device.type, enabled=False):
            convolved = F.conv2d(h.float(), self.weight.float(), self.bias.float(), padding=1)  # type: ignore[union-attr]
        return h.float() * (1 - self.blend) + convolved * self.blend


def phi_index(step: int, steps: int, count: int) -> int:
    """Which of `count` phis scale `step` of `steps` uses, decided in float64 as numpy rounds (real schedules
    have ties).

    With a single scale the published code divides by zero; here it counts as the last one.
    """
    margin = 1 / 3 / count if count == 4 else 1 / 2 / count  # the published code treats four apart
    ticks = np.linspace(margin, 1 - margin, count)
    ratio = step / (steps - 1) if steps > 1 else 1.0
    return int(np.argmin(np.abs(ticks - ratio)))
