"""The maps of Infinity's images: thirteen for each aspect ratio, of which a resolution takes the first few.

Source: FoundationVision/Infinity (MIT), infinity/utils/dynamic_resolution.py; arXiv 2412.04431.
"""

from __future__ import annotations

import math
from functools import lru_cache

from unified.orders.shapes import Shapes

# Height over width -> maps, height x width. Those below 1 are these, transposed.
_MAPS = {
    1.0: "1x1 2x2 4x4 6x6 8x8 12x12 16x16 20x20 24x24 32x32 40x40 48x48 64x64",
    1.25: "1x1 2x2 3x3 5x4 10x8 15x12 20x16 25x20 30x24 35x28 45x36 55x44 70x56",
    1.333: "1x1 2x2 4x3 8x6 12x9 16x12 20x15 24x18 28x21 36x27 48x36 60x45 72x54",
    1.5: "1x1 2x2 3x2 6x4 9x6 15x10 21x14 27x18 33x22 39x26 48x32 63x42 78x52",
    1.75: "1x1 2x2 3x3 7x4 11x6 14x8 21x12 28x16 35x20 42x24 56x32 70x40 84x48",
    2.0: "1x1 2x2 4x2 6x3 10x5 16x8 22x11 30x15 38x19 46x23 60x30 74x37 90x45",
    2.5: "1x1 2x2 5x2 10x4 15x6 20x8 25x10 30x12 40x16 50x20 65x26 80x32 100x40",
    3.0: "1x1 2x2 6x2 9x3 15x5 21x7 27x9 36x12 45x15 54x18 72x24 90x30 111x37",
}
RESOLUTIONS = {"0.06M": 7, "0.25M": 10, "0.60M": 12, "1M": 13}  # pixels -> how many of the maps
LONGEST_SIDE = 111


@lru_cache(maxsize=1)
def schedules() -> dict[float, Shapes]:
    """All thirteen maps by ratio of height to width."""
    found = {ratio: _parsed(text) for ratio, text in _MAPS.items()}
    for ratio, shapes in list(found.items()):
        found.setdefault(math.floor(1000 / ratio) / 1000, tuple((w, h) for h, w in shapes))
    return found


def _parsed(text: str) -> Shapes:
    pairs = (size.split("x") for size in text.split())
    return tuple((int(height), int(width)) for height, width in pairs)


def schedule(ratio: float = 1.0, resolution: str = "1M") -> Shapes:
    """The maps of an image of this height over width (the nearest ratio that has any) at a resolution in
    pixels: "0.06M", "0.25M", "0.60M" or "1M". ValueError for another one."""
    if resolution not in RESOLUTIONS:
        raise ValueError(f"unknown resolution {resolution!r}: use one of {', '.join(RESOLUTIONS)}")
    return schedules()[nearest_ratio(ratio)][: RESOLUTIONS[resolution]]


def nearest_ratio(ratio: float) -> float:
    """The ratio with a schedule that is nearest to this one. ValueError unless it is positive."""
    if not ratio > 0:
        raise ValueError(f"the ratio of height to width must be positive, got {ratio}")
    return min(schedules(), key=lambda known: abs(known - ratio))


def full_grid(shapes: Shapes) -> tuple[int, int]:
    """The last map of the one-megapixel schedule of these maps' aspect ratio."""
    height, width = shapes[-1]
    return schedules()[nearest_ratio(height / width)][-1]
