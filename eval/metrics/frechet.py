"""The Frechet distance between two sets of images on features of our own. It is never called FID.

|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), covariances with n - 1; the last trace is the sum of the
square roots of the eigenvalues of S1 S2. Sums are float64. It is biased upward for small sets: compare only
sets of equal size. The features are those of an untrained convolution pyramid with fixed weights, whose hash
is part of the metric's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Features(Protocol):
    """Images uint8 [N, H, W, 3] -> float64 [N, D]; `name` says which."""

    name: str

    def __call__(self, images: np.ndarray) -> np.ndarray: ...


class RandomConvFeatures:
    """Means and standard deviations of three levels of random convolutions: crude, but it needs nothing and
    stays the same."""

    def __init__(self, width: int = 16, levels: int = 3, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.layers = []
        for level in range(levels):
            layer = nn.Conv2d(3 if level == 0 else width, width, 3, padding=1)
            nn.init.normal_(layer.weight, std=(2 / (9 * layer.in_channels)) ** 0.5, generator=generator)
            nn.init.normal_(layer.bias, std=0.1, generator=generator)  # type: ignore[arg-type]
            self.layers.append(layer.requires_grad_(False))
        digest = hashlib.sha256()
        for layer in self.layers:
            digest.update(layer.weight.numpy().tobytes() + layer.bias.numpy().tobytes())  # type: ignore[union-attr]
        self.name = f"random-{digest.hexdigest()[:8]}"

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(f"images must be uint8 [N, H, W, 3], got {images.dtype} {list(images.shape)}")
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        parts: list[Tensor] = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            parts += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
            x = F.avg_pool2d(x, 2) if min(x.shape[2:]) > 1 else x
        return torch.cat(parts, dim=1).double().numpy()


class Gaussian:
    """Mean and covariance of features, batch by batch."""

    def __init__(self) -> None:
        self.count, self.total, self.products = 0, np.zeros(0), np.zeros((0, 0))

    def add(self, features: np.ndarray) -> None:
        """features [N, D]."""
        if not self.count:
            self.total = np.zeros(features.shape[1])
            self.products = np.zeros((features.shape[1],) * 2)
        self.count += len(features)
        self.total += features.sum(axis=0)
        self.products += features.T @ features

    @property
    def mean(self) -> np.ndarray:
        return self.total / self.count

    @property
    def covariance(self) -> np.ndarray:
        if self.count < 2:
            raise ValueError("a covariance needs at least two images")
        return (self.products - self.count * np.outer(self.mean, self.mean)) / (self.count - 1)


def frechet(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """Between two Gaussians: means [D], covariances [D, D]."""
    root = np.sqrt(np.maximum(np.linalg.eigvals(cov1 @ cov2).real, 0)).sum()
    return float(((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * root)


def frechet_of(real: Iterable[np.ndarray], made: Iterable[np.ndarray], features: Features) -> float:
    """Between two sets of images uint8 [H, W, 3]."""
    sides = []
    for images in (real, made):
        gaussian = Gaussian()
        gaussian.add(features(np.stack(list(images))))
        sides += [gaussian.mean, gaussian.covariance]
    return frechet(*sides)
