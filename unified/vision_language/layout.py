"""Where the ids of a pretrained image-text model stand, and who sees whom.

Text is causal. Image features are so too, or, where the model says so (Gemma 3, arXiv 2503.19786), those of
one image see one another: they then share a label, as a READ segment does. Positions are consecutive numbers,
or, for multimodal rotary embeddings (Qwen2-VL, arXiv 2409.12191), those that the model itself gives an image:
they travel beside its features as `places` (`images.places_of`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from unified.layout.attention import PADDING, Index
from unified.layout.layout import Cursor, Layout
from unified.stream.segments import Kind
from unified.vision_language.vocabulary import PretrainedVocabulary

FIRST, ADVANCE = 3, 4  # columns of `places` after time, row and column


def lay_out(
    ids: Tensor,
    cursors: Sequence[Cursor],
    words: PretrainedVocabulary,
    places: Tensor | None = None,
    together: bool = False,
    written: Tensor | None = None,
) -> Layout:
    """The layout of ids [B, T], padded at their ends, after what the cursors say. `places` [N, 5], for the
    placeholders of all rows in their order: time, row and column from the position at which their image
    begins, 1 for the first of an image, and by how much the image moves on what follows it. Without them
    every id moves by 1. `together`: the features of one image see one another, except those that
    are `written` [N] (1 or 0): each of these is a step of its own."""
    table = ids.cpu().numpy()
    counts = (table != words.pad).sum(axis=1)
    image = table == words.image
    if not image.any():
        return Layout.tokens(cursors, counts.tolist())
    found = None if places is None else places.cpu().double().numpy()
    alone = None if written is None else written.cpu().bool().numpy()
    rows, taken = [], 0
    for marks, count, cursor in zip(image, counts, cursors, strict=True):
        part = slice(taken, taken + int(marks.sum()))
        here = None if found is None else found[part]
        group = marks.copy() if together else np.zeros_like(marks)
        if alone is not None:
            group[marks] &= ~alone[part]
        rows.append(_Row(marks, int(count), cursor, here, group))
        taken = part.stop
    return _stack(rows)


class _Row:
    """One row: `image` [T] bool, the first `count` ids real; `group` [T] bool: those that see all of their
    image."""

    def __init__(
        self, image: np.ndarray, count: int, cursor: Cursor, places: np.ndarray | None, group: np.ndarray
    ) -> None:
        real = np.arange(len(image)) < count
        first = image & ~np.append([False], image[:-1])
        if places is not None:
            first[image] |= places[:, FIRST] > 0
        inside = image & ~first  # goes on with the image before it
        begins = real & ~inside
        self.sample = np.where(real, cursor.sample, PADDING)
        self.segment = cursor.segment + np.cumsum(begins) - 1
        self.kind = np.where(image, int(Kind.READ), int(Kind.TEXT))
        steps = begins | (real & ~group)
        self.label = cursor.label + np.cumsum(steps) - 1
        self.position, moved = self._positions(image, first, real, places)
        self.position = self.position + cursor.position
        self.cursor = Cursor(
            label=cursor.label + int(steps.sum()),
            position=cursor.position + moved,
            segment=cursor.segment + int(begins.sum()),
            sample=cursor.sample,
        )

    @staticmethod
    def _positions(
        image: np.ndarray, first: np.ndarray, real: np.ndarray, places: np.ndarray | None
    ) -> tuple[np.ndarray, float]:
        """[3, T] counted from 0, and by how much they move on what follows the row."""
        if places is None:
            return np.broadcast_to(np.arange(len(image)), (3, len(image))), float(real.sum())
        move = np.where(real & ~image, 1.0, 0.0)
        move[first] = places[first[image], ADVANCE]
        before = np.cumsum(move) - move  # where an id stands, or its image begins
        starts = before[first][np.cumsum(first)[image] - 1]
        position = np.tile(before, (3, 1))
        position[:, image] = starts + places[:, :FIRST].T
        return position, float(move.sum())


def _stack(rows: list[_Row]) -> Layout:
    def stacked(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(row, name) for row in rows]).astype(np.int64))

    index = Index(*(stacked(name) for name in ("sample", "segment", "kind", "label")))
    zero, no = torch.zeros_like(index.label), torch.zeros(index.label.shape, dtype=torch.bool)
    positions = np.stack([row.position for row in rows], axis=1).astype(np.float32)
    return Layout(
        index=index,
        positions=torch.from_numpy(positions),
        source=zero,
        predicted=no,
        answers=no,
        step=zero - 1,
        writes=(),
        cursors=tuple(row.cursor for row in rows),
    )
