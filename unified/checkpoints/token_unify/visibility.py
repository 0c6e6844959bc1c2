"""Volumes of which some patches are hidden, as TokenUnify trains on them.

Source: arXiv 2405.16847, ydchen0806/TokenUnify; numpy's legacy generator, draws in the published sequence.
Patches are numbered by depth, then rows, then columns. Published quirks: any mask ratio but 0.4 is replaced
by a draw from 0.2 to 0.8; the next patch is cut from the augmented volume, while everything else is to be
predicted of the clean one. Tests: tests/unified/checkpoints/test_token_unify.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

Size = tuple[int, int, int]
RATIO, LEAST, MOST = 0.4, 0.2, 0.8  # the ratio that is used as given, and the range of all others


@dataclass(frozen=True)
class Cut:
    """The first `count` patches of a volume and what else it is filled with, `volume` [D, H, W]; `following`
    [p1, p2, p3], the patch after them."""

    count: int
    volume: np.ndarray
    following: np.ndarray


def cut_volume(volume: np.ndarray, patch: Size, rng: np.random.RandomState, *, noise: bool = False) -> Cut:
    """A volume [D, H, W] cut after a number of patches drawn from 1 to all but one; the rest is zero, or
    with `noise` of a normal distribution."""
    patches = to_patches(volume, patch)
    if len(patches) < 2:
        raise ValueError(f"a cut needs a volume of at least two patches, got {volume.shape} and {patch}")
    count = int(rng.randint(1, len(patches)))
    hidden = (len(patches) - count, *patch)
    rest = rng.normal(size=hidden).astype(np.float32) if noise else np.zeros(hidden, np.float32)
    shown = np.concatenate([patches[:count], rest])
    return Cut(count, to_volume(shown, volume.shape, patch), patches[count])


def mask_volume(
    volume: np.ndarray, patch: Size, ratio: float, rng: np.random.RandomState, *, noise: bool = False
) -> np.ndarray:
    """A volume [D, H, W] with a share of its patches, drawn without replacement, set to zero or, with
    `noise`, to draws from a normal distribution."""
    if ratio != RATIO:
        ratio = rng.uniform(LEAST, MOST)
    patches = to_patches(volume, patch).copy()
    chosen = rng.choice(len(patches), int(len(patches) * ratio), replace=False)
    for number in chosen:
        patches[number] = rng.normal(size=patch) if noise else 0
    return to_volume(patches, volume.shape, patch)


def to_patches(volume: np.ndarray, patch: Size) -> np.ndarray:
    """[D, H, W] -> [K, p1, p2, p3]. ValueError unless the patches fill the volume."""
    if volume.ndim != 3 or any(side % part for side, part in zip(volume.shape, patch, strict=True)):
        raise ValueError(f"patches of {patch} do not fill a volume of {volume.shape}")
    split = volume.reshape([n for pair in _counts(volume.shape, patch) for n in pair])
    return split.transpose(0, 2, 4, 1, 3, 5).reshape(-1, *patch)


def to_volume(patches: np.ndarray, shape: tuple[int, ...], patch: Size) -> np.ndarray:
    """The inverse."""
    counts = [count for count, _ in _counts(shape, patch)]
    assert prod(counts) == len(patches)
    return patches.reshape(*counts, *patch).transpose(0, 3, 1, 4, 2, 5).reshape(shape)


def _counts(shape: tuple[int, ...], patch: Size) -> list[tuple[int, int]]:
    return [(side // part, part) for side, part in zip(shape, patch, strict=True)]
