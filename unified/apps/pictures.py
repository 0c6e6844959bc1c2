"""Images from files, and resizing to the size that a model reads."""

from __future__ import annotations

import math

import numpy as np

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
