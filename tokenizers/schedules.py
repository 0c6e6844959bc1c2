"""Lists of map sizes for an image: from one cell to its grid."""

from __future__ import annotations

from collections.abc import Sequence

Shape = tuple[int, int]  # height, width

LADDER = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64)  # about sqrt(2) from step to step


def ladder(grid: Shape, sides: Sequence[int] = LADDER) -> tuple[Shape, ...]:
    """Maps whose longer sides are `sides` and whose aspect is the grid's, ending with the grid itself:
    (4, 8) -> (1, 1), (1, 2), (2, 3), (2, 4), (3, 6), (4, 8)."""
    height, width = grid
    if min(grid) < 1:
        raise ValueError(f"a grid needs positive sides, got {grid}")
    longest = max(grid)
    scales = [side / longest for side in sides if side < longest]
    maps = [(max(1, round(height * scale)), max(1, round(width * scale))) for scale in scales]
    return (*dict.fromkeys(maps), (height, width))
