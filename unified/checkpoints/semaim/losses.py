"""What SemAIM's queries predict: pixels of the blurred image, or features of a teacher.

Source: SemAIM, arXiv 2312.10457; skyoux/SemAIM (MIT).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian(size: int, sigma: float) -> Tensor:
    """[size, size], of sum 1, around the cell (size - 1) // 2 on both axes."""
    if size < 1 or not sigma > 0:
        raise ValueError(f"a kernel needs a size of at least 1 and a positive sigma, got {size} and {sigma}")
    places = torch.arange(size) - (size - 1) // 2
    squares = (places[:, None] ** 2 + places[None] ** 2).float()
    kernel = (-squares / (2 * sigma**2)).exp()
    return kernel / kernel.sum()


def blurred(images: Tensor, kernel: Tensor) -> Tensor:
    """Images [B, C, H, W], each channel convolved with a kernel, zeros outside."""
    channels = images.shape[1]
    weight = kernel.expand(channels, 1, -1, -1).to(images)
    return F.conv2d(images, weight, padding=(len(kernel) - 1) // 2, groups=channels)


def patches(images: Tensor, side: int) -> Tensor:
    """Images [B, C, H, W] -> [B, L, side * side * C]: the pixels of a patch by row, column, colour."""
    rows = images.unfold(2, side, side).unfold(3, side, side)  # [B, C, h, w, side, side]
    return rows.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)


def normalised(targets: Tensor) -> Tensor:
    """Each patch [..., n] with mean 0 and (unbiased) variance 1."""
    mean, variance = targets.mean(dim=-1, keepdim=True), targets.var(dim=-1, keepdim=True)
    return (targets - mean) / (variance + 1e-6).sqrt()


def pixel_loss(predicted: Tensor, targets: Tensor, *, absolute: bool = False) -> Tensor:
    """[B, L]: the mean squared (or absolute) error of each patch [B, L, n]."""
    error = predicted - targets
    return (error.abs() if absolute else error.square()).mean(dim=-1)


def feature_loss(predicted: Tensor, targets: Tensor) -> Tensor:
    """[B, L]: the squared distance of features [B, L, D], both of unit length."""
    return (F.normalize(predicted, dim=-1) - F.normalize(targets, dim=-1)).square().sum(dim=-1)


def average_decay(epoch: float) -> float:
    """The decay of the averaged network whose features give the map: from 0.999 to 0.9999 over a hundred
    epochs."""
    return 0.999 + epoch / 100 * 0.0009 if epoch < 100 else 0.9999
