"""Checks of tokenizers whose images are lines of codes without a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .resize import Shape
from .visual import check_ids


def check_side(images: Tensor, side: int, frames: int = 0) -> None:
    """ValueError unless images are float [B, 3, side, side], or clips [B, 3, frames, side, side]."""
    wanted = (frames, side, side) if frames else (side, side)
    names = f"[B, 3, {', '.join(map(str, wanted))}]"
    if images.ndim != 2 + len(wanted) or images.shape[1] != 3 or tuple(images.shape[2:]) != wanted:
        what = "clips" if frames else "images"
        raise ValueError(f"{what} of this tokenizer must be {names}, got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"images must be float in [-1, 1], got {images.dtype}: convert them with to_images")


def check_line(shapes: Sequence[Shape] | None, line: int) -> None:
    """ValueError unless maps are None or the one map 1 x `line`: there is no grid."""
    if shapes is not None and [tuple(shape) for shape in shapes] != [(1, line)]:
        raise ValueError(f"this tokenizer has no grid: its only map is 1 x {line}, got {list(shapes)}")


def line_ids(ids: Sequence[Tensor], shapes: Sequence[Shape], line: int, codes: int) -> Tensor:
    """The ids [B, line] of the only map. ValueError for other maps or ids out of range."""
    check_line(shapes, line)
    if len(ids) != 1 or ids[0].ndim != 2 or ids[0].shape[1] != line:
        raise ValueError(f"an image is one map of {line} ids, got {[list(item.shape) for item in ids]}")
    check_ids(ids[0], codes)
    return ids[0]


def line_of_vectors(vectors: Tensor, line: int) -> Tensor:
    """A map of vectors [B, C, 1, line] -> [B, line, C]. ValueError for another shape."""
    if vectors.ndim != 4 or tuple(vectors.shape[2:]) != (1, line):
        raise ValueError(f"vectors must be [B, dim, 1, {line}], got {tuple(vectors.shape)}")
    return vectors[:, :, 0].transpose(1, 2)


def no_inputs(ids: Tensor, dim: int) -> Tensor:
    """What next-scale prediction is fed of one map: nothing, [B, 0, dim]."""
    return torch.zeros(len(ids), 0, dim, device=ids.device)
