"""Images from files, and resizing to the size that a model reads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

from unified.tokenizers.images import Picture, Size, bounded, resized, to_uint8
from unified.tokenizers.picture_files import Opened, open_picture

__all__ = ["Opened", "fit", "open_picture"]


def fit(picture: Picture, side: int, stride: int, max_pixels: int | None = None) -> np.ndarray:
    """Resize (bicubic) so that the longer side is `side` pixels and both are multiples of `stride`, the
    aspect ratio nearly kept: uint8 [H, W, 3]. `max_pixels`: H * W, at most; the longer side is then shorter.
    An image of this size is returned unchanged. ValueError for a batch of more than one."""

    def size(height: int, width: int) -> Size:
        scale = side / max(height, width)
        sides = [max(stride, round(length * scale / stride) * stride) for length in (height, width)]
        if max_pixels is None or math.prod(sides) <= max_pixels:
            return sides[0], sides[1]
        return bounded(height * scale, width * scale, stride, max_pixels=max_pixels)

    return to_uint8(resized(picture, size))[0]


def given_as(image: np.ndarray, as_pil: bool) -> np.ndarray | Image.Image:
    """An image uint8 [H, W, 3] as it is, or as one of Pillow."""
    return Image.fromarray(image) if as_pil else image


def as_codes(source: Any) -> list[np.ndarray] | None:
    """Maps of codes, if that is what is given: int64 [h, w] (no image has this type), or a list of them."""
    maps = source if isinstance(source, list) else [source]
    are = all(isinstance(one, np.ndarray) and one.dtype == np.int64 and one.ndim == 2 for one in maps)
    return maps if maps and are else None


def check_codes(maps: list[np.ndarray], count: int) -> None:
    """ValueError for an empty map, and for codes outside 0 to `count` - 1."""
    for codes in maps:
        if not codes.size or codes.min() < 0 or codes.max() >= count:
            raise ValueError(f"codes are 0 to {count - 1}, in maps [h, w] of at least one, got {codes.shape}")
