"""PSNR and SSIM of uint8 images.

`psnr` is per image, 100 for equal ones, as MineWorld's evaluation has it (arXiv 2504.08388); its mean over
images is dominated by those that are nearly equal, such as frames on which nothing moves. `pooled_psnr` takes
the logarithm of the mean squared error over all images. `ssim`: 11 x 11 Gaussian window of standard deviation
1.5, K1 0.01, K2 0.03, 5-pixel border cut, mean of the channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from unified.tasks.worlds.scoring import BEST_PSNR, psnr, ssim


def squared_error(image: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared error of values in [0, 1]. uint8 [H, W, 3] both; ValueError for different sizes."""
    if image.shape != truth.shape:
        raise ValueError(f"images of different sizes: {list(image.shape)} and {list(truth.shape)}")
    return float(np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2)) / 255.0**2


def decibel(error: float) -> float:
    """PSNR of a mean squared error of values in [0, 1]; 100 below 1e-10."""
    return BEST_PSNR if error < 1e-10 else -10.0 * math.log10(error)


def pooled_psnr(images: Iterable[np.ndarray], truths: Iterable[np.ndarray]) -> float:
    """PSNR of the mean squared error over all pairs. ValueError without any."""
    errors = [squared_error(*pair) for pair in zip(images, truths, strict=True)]
    if not errors:
        raise ValueError("no images to compare")
    return decibel(math.fsum(errors) / len(errors))


__all__ = ["BEST_PSNR", "decibel", "pooled_psnr", "psnr", "squared_error", "ssim"]
