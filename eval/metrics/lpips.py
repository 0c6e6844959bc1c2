"""LPIPS: the distance between two images in the activations of a network trained to name what they show.

Zhang et al. 2018, arXiv 1801.03924 (`unified.checkpoints.lpips` has the networks). Nothing is downloaded:
weights are read from files, by the names that torchvision (`features.0.weight`) and LPIPS
(`lin0.model.1.weight`) give them. AlexNet is the usual one for evaluation; values of AlexNet and VGG16 must
not stand in one column, so the network is part of the name. Test: tests/eval/test_lpips.py compares with
another implementation on random weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unified.checkpoints.lpips import ALEXNET, VGG16, Activations, Architecture, Distance
from unified.checkpoints.lpips import load as load_distance

PORTION = 16  # images at once

__all__ = ["ALEXNET", "LPIPS", "VGG16", "Activations", "Architecture", "load"]


class LPIPS:
    """Distances between pairs of uint8 images, of weights as `Distance` takes them, or of a `Distance`."""

    def __init__(
        self, backbone: Mapping[str, Tensor] | Distance, linear: Mapping[str, Tensor] | None = None
    ) -> None:
        self.distance = backbone if isinstance(backbone, Distance) else Distance(backbone, linear or {})
        self.name, self.network = self.distance.name, self.distance.network

    @torch.no_grad()
    def __call__(self, images: np.ndarray, truths: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, 3] both -> float64 [N]; 0 for equal images. ValueError for other images, or images
        too small for the network."""
        for side in (images, truths):
            if side.ndim != 4 or side.shape[3] != 3 or side.dtype != np.uint8:
                raise ValueError(f"images must be uint8 [N, H, W, 3], got {side.dtype} {list(side.shape)}")
        if images.shape != truths.shape:
            raise ValueError(f"images of different sizes: {list(images.shape)} and {list(truths.shape)}")
        starts = range(0, len(images), PORTION)
        parts = [self.distance.each(*(_floats(x[n : n + PORTION]) for x in (images, truths))) for n in starts]
        return torch.cat([torch.zeros(0), *parts]).double().numpy()


def load(backbone: Path, linear: Path) -> LPIPS:
    """From files that torch or safetensors wrote. ValueError, in one line, for what cannot be read or does
    not fit."""
    return LPIPS(load_distance(backbone, linear))


def _floats(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
