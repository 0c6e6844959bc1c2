"""Slots are fed the reference image at their places.

An edit, a sketch or a frame is mostly a copy; that a code stands where another image has one is hard to learn
from relative positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unified.extras.extra import Extra


@dataclass(frozen=True, kw_only=True)
class ReferenceImageConfig:
    """No options."""


class ReferenceImage(nn.Module, Extra):
    """Adds to a slot's input a linear map of the latest image of the conversation at its place, if that has
    the size of the image that is written."""

    reads_reference = True

    def __init__(self, config: ReferenceImageConfig, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, width, bias=False)

    @torch.no_grad()
    def initialise(self, std: float) -> None:
        """First weights: codes stand for themselves, at half their length."""
        nn.init.eye_(self.projection.weight)
        self.projection.weight.mul_(0.5)

    def slot_inputs(self, inputs: Tensor, reference: Tensor) -> Tensor:
        projected: Tensor = self.projection(reference)
        return inputs + projected
