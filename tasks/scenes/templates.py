"""Templates of every shape, fill, radius and blur, drawn from the public definitions in `shapes.py`.

Each is aligned on its own centroid, so that one cut-out around a component's centroid meets them all. Between
the nominal radii lie smaller and larger ones: a drawing that misses the exact size is still read as the
nearest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter
from unified.tasks.scenes.scene import FILLS, SHAPES, SIZES
from unified.tasks.scenes.shapes import coverage

STRETCHES = (0.89, 1.0, 1.12)
BLURS = (0.0, 0.7, 1.2)  # standard deviations in pixels: sharp, slight, that of a coarse tokenizer
STEPS = 4  # sub-pixel positions per pixel
REACH = 1.25  # of the largest radius: half a window


@dataclass(frozen=True, kw_only=True)
class Label:
    """What a template shows; `centroid` is where its mass lies from the shape's centre, x and y in pixels."""

    shape: str
    fill: str
    size: str
    centroid: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Templates at one sub-pixel position: flat float32 [blurs * K, n * n], and the sum of squares of
    each."""

    flat: np.ndarray
    energy: np.ndarray


@dataclass(kw_only=True)
class Bank:
    """Templates for pictures with one working side. `fine` [K, (n+1) steps, (n+1) steps] is cut per shift."""

    side: int
    labels: list[Label]
    fine: np.ndarray
    cut: dict[tuple[int, int], Stack] = field(default_factory=dict)

    def shifted(self, x: float, y: float) -> Stack:
        """All templates with their centroid at (x, y) from the window's middle.

        x and y in pixels, within [-0.5, 0.5]; rounded to a quarter of a pixel."""
        step = (round((0.5 - x) * STEPS), round((0.5 - y) * STEPS))
        if step not in self.cut:
            self.cut[step] = self._cut(*step)
        return self.cut[step]

    def _cut(self, left: int, top: int) -> Stack:
        length = self.side * STEPS
        fine = self.fine[:, top : top + length, left : left + length]
        sharp = fine.reshape(len(fine), self.side, STEPS, self.side, STEPS).mean(axis=(2, 4))
        flat = np.concatenate([gaussian_filter(sharp, (0, blur, blur)) for blur in BLURS]).reshape(
            len(BLURS) * len(fine), -1
        )
        return Stack(flat=flat, energy=(flat**2).sum(axis=1))


@lru_cache(maxsize=4)
def bank(working_side: int) -> Bank:
    """The templates for pictures whose shorter side is `working_side` pixels."""
    side = 2 * int(np.ceil(max(SIZES.values()) * working_side * REACH)) + 3
    labels, fine = [], []
    for size, radius in SIZES.items():
        for stretch in STRETCHES:
            for shape in SHAPES:
                for fill in FILLS:
                    centroid, picture = _aligned(shape, fill, radius * stretch * working_side, side)
                    labels.append(Label(shape=shape, fill=fill, size=size, centroid=centroid))
                    fine.append(picture)
    return Bank(side=side, labels=labels, fine=np.stack(fine))


def _aligned(shape: str, fill: str, radius: float, side: int) -> tuple[tuple[float, float], np.ndarray]:
    """A shape drawn with its centroid in the middle of a fine grid: (centroid, float32 [fine, fine])."""
    length = (side + 1) * STEPS
    middle = length / 2

    def draw(x: float, y: float) -> np.ndarray:
        return coverage(shape, fill, radius * STEPS, (x, y), length, length, supersampling=1)

    places = np.arange(length) + 0.5
    picture = draw(middle, middle)
    x = float(picture.sum(axis=0) @ places / picture.sum()) - middle
    y = float(picture.sum(axis=1) @ places / picture.sum()) - middle
    return (x / STEPS, y / STEPS), draw(middle - x, middle - y).astype(np.float32)
