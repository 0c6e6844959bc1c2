"""Images from files, and resizing to the size that a model reads."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError

from unified.tokenizers.images import Picture, to_images, to_uint8

MOST_PIXELS = 100_000_000


@dataclass(frozen=True)
class Opened:
    """An image uint8 [H, W, 3], and a note for the user ("" if there is none)."""

    image: np.ndarray
    note: str = ""


def open_picture(path: str | Path) -> Opened:
    """Read any image file that Pillow can; of an animation the first frame. ValueError, in one line, for a
    file that is missing, no image, truncated or larger than 100 million pixels."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures; the limit here is our own
            with Image.open(path) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise ValueError(f"{picture.width} x {picture.height} pixels are too many")
                frames = getattr(picture, "n_frames", 1)
                image = to_uint8(to_images(picture))[0]
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not a picture") from None
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(f"{path}: {reason}") from None
    return Opened(image, f"{path.name}: the first of {frames} frames" if frames > 1 else "")


def fit(picture: Picture, side: int, stride: int) -> np.ndarray:
    """Resize (bicubic) so that the longer side is `side` pixels and both are multiples of `stride`, the
    aspect ratio nearly kept: uint8 [H, W, 3]. An image of this size is returned unchanged. ValueError for a
    batch of more than one."""
    images = to_images(picture)
    if len(images) != 1:
        raise ValueError(f"one image at a time, got a batch of {len(images)}")
    height, width = images.shape[2:]
    scale = side / max(height, width)
    size = [max(stride, round(length * scale / stride) * stride) for length in (height, width)]
    if size != [height, width]:
        images = F.interpolate(images, size=size, mode="bicubic", antialias=True)
    return to_uint8(images)[0]
