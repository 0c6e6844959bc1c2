"""Sizes of the maps of codes that make up an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unified.tokenizers.shown import shown

Shape = tuple[int, int]  # height, width
Shapes = tuple[Shape, ...]


def as_shapes(shapes: Sequence[int | Sequence[int]]) -> Shapes:
    """Map sizes from ints (squares) or (height, width) pairs."""
    try:
        pairs = tuple((s, s) if isinstance(s, int) else tuple(int(side) for side in s) for s in shapes)
    except (TypeError, OverflowError):
        raise ValueError(f"map sizes must be positive ints or pairs of them, got {shown(shapes)}") from None
    if not pairs:
        raise ValueError("an image needs at least one map size")
    if any(len(pair) != 2 or min(pair) < 1 for pair in pairs):
        raise ValueError(f"map sizes must be positive ints or (height, width) pairs, got {shown(shapes)}")
    return pairs  # type: ignore[return-value]


def area(shapes: Sequence[Shape]) -> int:
    """Number of codes of all maps together."""
    return sum(height * width for height, width in shapes)


def last_map(shapes: Sequence[Shape]) -> Tensor:
    """[h * w]: the slots of the last map."""
    return torch.arange(area(shapes[:-1]), area(shapes))
