"""What can be asked of any visual tokenizer, whatever its form: its maps of an image, and images back.

Forms: a grid (maps of any aspect, the last of which is the image's own), a line (`line` codes an image and no
grid, for images of `side` x `side` pixels alone), a clip (a line for `frames` frames), latents (`codes` 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .resize import Shape
from .schedules import ladder


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """`images` like those given, clamped to [-1, 1]; `ids` by map, none where there are latents."""

    images: Tensor
    ids: list[Tensor]
    shapes: list[Shape]


def line_of(tokenizer: Any) -> int:
    """Codes of an image without a grid; 0 for a tokenizer with one."""
    return int(getattr(tokenizer, "line", 0))


def frames_of(tokenizer: Any) -> int:
    """Frames of a clip; 0 for a tokenizer of images."""
    return int(getattr(tokenizer, "frames", 0))


def side_of(tokenizer: Any) -> int:
    """The side in pixels of the only images that it takes; 0 for any multiple of its stride."""
    return int(getattr(tokenizer, "side", 0))


def maps_of(tokenizer: Any, height: int, width: int) -> list[Shape]:
    """The maps of codes of an image of this size: a tokenizer's own schedule where it fits, else one of the
    same sides; empty for latents."""
    if not tokenizer.codes:
        return []
    if line_of(tokenizer):
        return [(1, line_of(tokenizer))]
    grid = (height // tokenizer.stride, width // tokenizer.stride)
    own = list(getattr(tokenizer, "shapes", []))
    if not own or own[-1] == grid:
        return own or [grid]
    return list(ladder(grid, [max(shape) for shape in own]))


def example(tokenizer: Any, count: int = 2, seed: int = 0, side: int = 0) -> Tensor:
    """Random images (or clips) that it takes, float32 [count, 3, (T,) side, side] in [-1, 1]."""
    side = side_of(tokenizer) or side or 4 * tokenizer.stride
    frames = (frames_of(tokenizer),) if frames_of(tokenizer) else ()
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, *frames, side, side, generator=generator) * 2 - 1


@torch.no_grad()
def reconstruct(tokenizer: Any, images: Tensor) -> Reconstruction:
    """Images [B, 3, H, W] (or clips [B, 3, T, H, W]) in [-1, 1], encoded and decoded."""
    shapes = maps_of(tokenizer, images.shape[-2], images.shape[-1])
    if not tokenizer.codes:
        made = tokenizer.decode_vectors(tokenizer.latent(images))
        return Reconstruction(made.float().clamp(-1, 1), [], [])
    ids = tokenizer.encode(images, shapes)
    read = tokenizer.read_shapes(shapes)
    made = tokenizer.decode_maps(ids[-len(read) :], read)
    return Reconstruction(made.float().clamp(-1, 1), ids, shapes)
