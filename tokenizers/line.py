"""Tokenizers whose images are lines of codes without a grid: what they have in common, and their checks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


class LineTokenizer(nn.Module):
    """Images, or clips, of one size <-> ids [B, line] of the only map. A tokenizer sets these numbers and has
    `codebook`, `encode`, `training_pass` and `_decoded`: code vectors [B, line, dim] -> images."""

    table = None
    codes: int
    dim: int
    line: int
    side: int

    def codebook(self) -> Tensor:
        """The rows [codes, dim]."""
        raise NotImplementedError

    def _decoded(self, vectors: Tensor) -> Tensor:
        raise NotImplementedError

    def vectors(self, ids: Tensor) -> Tensor:
        """Ids [...] -> code vectors [..., dim]. ValueError for ids out of range."""
        check_ids(ids, self.codes)
        return F.embedding(ids, self.codebook())

    def decode_maps(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Ids [B, line] of the only map -> images."""
        return self._decoded(self.vectors(line_ids(ids, shapes, self.line, self.codes)))

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """A map of code vectors [B, dim, 1, line] -> images."""
        return self._decoded(line_of_vectors(vectors, self.line))

    def transformer_inputs(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """What next-scale prediction is fed of one map: nothing, [B, 0, dim]."""
        found = line_ids(ids, shapes, self.line, self.codes)
        return torch.zeros(len(found), 0, self.dim, device=found.device)

    def read_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """The only map. ValueError for any other."""
        check_line(shapes, self.line)
        return [(1, self.line)]

    def training_shapes(self, images: Tensor, count: int, generator: torch.Generator) -> list[Shape]:
        """The maps that training looks at."""
        return [(1, self.line)]
