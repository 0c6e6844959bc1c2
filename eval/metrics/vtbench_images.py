"""Images as VTBench feeds them to a tokenizer and takes them back, and its PSNR and SSIM (arXiv 2505.13439).

Fed: the shorter side to the tokenizer's size by Lanczos, the centre cut out (or the rest padded), values to
[-1, 1]. Taken back: clamped and truncated, not rounded, to eight bits. PSNR is pooled over all images; SSIM
takes the range of values from each batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d, pad

WINDOW, DEVIATION = 11, 1.5  # of the Gaussian window
K1, K2 = 0.01, 0.03


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """`lock_ratio`: keep the ratio of the sides, then cut out the centre (`center_crop`) or, without that,
    pad with black (`padding`); with neither the image keeps its size. Without `lock_ratio` it is squashed.
    `standardize`: values in [-1, 1] instead of [0, 1]."""

    lock_ratio: bool = True
    center_crop: bool = True
    padding: bool = False
    standardize: bool = True


def fitted(image: np.ndarray, target: int | tuple[int, int], fitting: Fitting) -> Tensor:
    """An image uint8 [H, W, 3] as a float tensor [3, h, w] of a target size: a side, (width, height), or
    negative for the image's own."""
    picture = Image.fromarray(image)
    wide, high = (target, target) if isinstance(target, int) else target
    if wide >= 0 and high >= 0:
        picture = _resized(picture, (wide, high), fitting)
    values = np.asarray(picture, dtype=np.float64) / 255
    values = values * 2 - 1 if fitting.standardize else values
    return torch.from_numpy(values).permute(2, 0, 1).float()


def _resized(picture: Image.Image, target: tuple[int, int], fitting: Fitting) -> Image.Image:
    if not fitting.lock_ratio:
        return picture.resize(target, Image.Resampling.LANCZOS)
    if not (fitting.center_crop or fitting.padding):
        return picture
    ratios = [want / side for want, side in zip(target, picture.size, strict=True)]
    scale = max(ratios) if fitting.center_crop else min(ratios)
    size = (round(picture.width * scale), round(picture.height * scale))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    left, top = ((side - want) // 2 for side, want in zip(size, target, strict=True))
    if fitting.center_crop:
        return picture.crop((left, top, left + target[0], top + target[1]))
    ground = Image.new("RGB", target)
    ground.paste(picture, ((target[0] - size[0]) // 2, (target[1] - size[1]) // 2))
    return ground


def taken_back(values: Tensor, standardize: bool = True) -> Tensor:
    """A decoder's output [3, H, W] as uint8 [H, W, 3]; truncated, so that 0.999 of a step is lost."""
    values = (values.clamp(-1, 1) + 1) / 2 if standardize else values.clamp(0, 1)
    return (values * 255).to(torch.uint8).permute(1, 2, 0)


def pooled_psnr(made: Tensor, truth: Tensor) -> Tensor:
    """Of values in [0, 1], [N, 3, H, W]: the logarithm of the error over all images."""
    return -10 * torch.log10((made - truth).square().mean())


def similarity(batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """SSIM, mean over images, of batches of made and true ones [n, C, H, W] of at least 6 pixels a side,
    mirrored at their edges. The range is the larger one of the values of both in a batch."""
    found = [_similarity(made, truth) for made, truth in batches]
    return torch.cat(found).mean()


def _similarity(made: Tensor, truth: Tensor) -> Tensor:
    """[n]. ValueError for images that are too small to be mirrored."""
    if min(made.shape[-2:]) <= WINDOW // 2:
        raise ValueError(
            f"images of more than {WINDOW // 2} pixels a side are needed, got {list(made.shape[-2:])}"
        )
    extent = torch.stack([made.max() - made.min(), truth.max() - truth.min()]).max()
    places = torch.arange(WINDOW, dtype=made.dtype) - (WINDOW - 1) / 2
    line = torch.exp(-((places / DEVIATION) ** 2) / 2)
    line = line / line.sum()
    channels = made.shape[1]
    window = (line[:, None] * line).expand(channels, 1, WINDOW, WINDOW)

    def smooth(values: Tensor) -> Tensor:
        edges = [WINDOW // 2] * 4
        return conv2d(pad(values, edges, mode="reflect"), window, groups=channels)

    mean_made, mean_truth = smooth(made), smooth(truth)
    spread_made = (smooth(made * made) - mean_made**2).clamp(min=0)
    spread_truth = (smooth(truth * truth) - mean_truth**2).clamp(min=0)
    shared = smooth(made * truth) - mean_made * mean_truth
    c1, c2 = (K1 * extent) ** 2, (K2 * extent) ** 2
    upper = (2 * mean_made * mean_truth + c1) * (2 * shared + c2)
    lower = (mean_made**2 + mean_truth**2 + c1) * (spread_made + spread_truth + c2)
    return (upper / lower).flatten(1).mean(dim=1)
