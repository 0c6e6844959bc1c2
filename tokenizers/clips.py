"""Clips: frames uint8 [T, H, W, 3] <-> the float tensors that tokenizers of clips read.

A clip is an array of frames, or a file: an animation (GIF, WebP, PNG) by its own frames; videos are read by
`unified.envs.recordings` and given as arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageSequence, UnidentifiedImageError
from torch import Tensor

from .images import resized, to_uint8
from .picture_files import to_pixels

MOST_FRAMES = 2**14  # of one animation


def clip_of(frames: Any, count: int, side: int) -> Tensor:
    """`count` frames uint8 [T, H, W, 3], as an array or a list of arrays -> float32 [1, 3, T, side, side] in
    [-1, 1]. ValueError for another number of frames."""
    if not isinstance(frames, np.ndarray | list | tuple) or len(frames) != count:
        found = len(frames) if isinstance(frames, np.ndarray | list | tuple) else type(frames).__name__
        raise ValueError(f"a clip is {count} frames [T, H, W, 3], got {found}")
    return as_clips([[resized(frame, lambda height, width: (side, side)) for frame in frames]])


def as_clips(clips: Sequence[Sequence[Tensor]]) -> Tensor:
    """Frames float [1, 3, H, W] of each clip -> [B, 3, T, H, W]."""
    return torch.stack([torch.cat(list(frames)).transpose(0, 1) for frames in clips])


def clip_pixels(clips: Tensor) -> np.ndarray:
    """Float [B, 3, T, H, W], clamped to [-1, 1] -> uint8 [B, T, H, W, 3]."""
    batch, _, count = clips.shape[:3]
    flat = to_uint8(clips.transpose(1, 2).flatten(0, 1))
    return flat.reshape(batch, count, *flat.shape[1:])


def animation(path: Path) -> list[np.ndarray]:
    """The frames uint8 [H, W, 3] of an animated picture. ValueError, in one line, for what cannot be read."""
    try:
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) > MOST_FRAMES:
                raise ValueError(f"{path}: more than {MOST_FRAMES} frames")
            return [to_pixels(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path}: not a readable animation ({str(error).splitlines()[0]})") from None
