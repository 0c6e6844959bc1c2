"""Where the ids of VARGPT stand. The language model sees a drawing's slots one after another, causally within
a map too; in the null branch each map is seen alone, by itself (`samples` of their own, positions from 0).

Headers of drawings take one position, that of the start token. What follows a drawing stands where it would
stand without it, and a drawing is not read by the language model: one that is to be seen is given back as a
picture, which the vision tower reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from unified.layout.attention import PADDING, Index
from unified.layout.layout import Cursor, Layout
from unified.orders.shapes import area
from unified.stream.base_words import FEATURES, NONE
from unified.stream.segments import Kind, segments
from unified.stream.vocabulary import Vocabulary

NULL = "continuous:null"  # the id that is all that the null branch is told
NULL_SAMPLE = 1  # of rows of the null branch; of their maps, the numbers after it


@dataclass(frozen=True, kw_only=True)
class DrawingVocabulary(Vocabulary):
    """The tokenizer's ids, of which the start token of a drawing is the control word `write`; codes, sizes
    and the order of a drawing stand after them."""

    action: int = 0
    appended: tuple[str, ...] | None = ("order:residual", NULL)

    @cached_property
    def placeholders(self) -> dict[int, str]:
        return {} if self.image == NONE else {self.image: FEATURES}


def spoken(ids: Tensor, words: DrawingVocabulary) -> Tensor:
    """Ids [B, T], padded at their ends, without the READ segments of drawings: [B, P]."""
    if not bool((ids == words.read).any()):
        return ids
    kept = []
    for row in ids.tolist():
        row = [token for token in row if token != words.pad]
        parts = [part for part in segments(row, words) if part.kind != Kind.READ]
        kept.append([token for part in parts for token in row[part.start : part.stop]])
    width = max(map(len, kept))
    return torch.tensor([[*row, *[words.pad] * (width - len(row))] for row in kept], device=ids.device).long()


def nothing(ids: Tensor, cursors: Sequence[Cursor], null: Tensor) -> Layout:
    """The layout of ids [B, T] without a position; `null` [B] bool: rows that are now of the null branch."""
    after = [
        replace(cursor, sample=NULL_SAMPLE) if flag else cursor
        for cursor, flag in zip(cursors, null.tolist(), strict=True)
    ]
    table = np.zeros(ids.shape, dtype=np.int64)
    return _layout([np.full_like(table, PADDING), table, table, table], table, after)


def lay_out_drawing(ids: Tensor, cursors: Sequence[Cursor], words: DrawingVocabulary) -> Layout:
    """The layout of ids [B, T] of which each row is a whole WRITE segment, or padding."""
    rows = [_drawing(row, cursor, words) for row, cursor in zip(ids.cpu().numpy(), cursors, strict=True)]
    fields = [np.stack([row[number] for row in rows]) for number in range(4)]
    positions = np.stack([row[4] for row in rows])
    after = [replace(cursor, segment=cursor.segment + 1) for cursor in cursors]
    return _layout(fields, positions, after)


def _drawing(row: np.ndarray, cursor: Cursor, words: DrawingVocabulary) -> list[np.ndarray]:
    """Sample, segment, kind, label and position of one row."""
    found = [np.zeros(len(row), dtype=np.int64) for _ in range(5)]
    sample, segment, kind, label, position = found
    sample[:] = PADDING
    if (row == words.pad).all():
        return found
    (image,) = segments(row[row != words.pad], words)
    slots = slice(image.codes, image.codes + area(image.shapes))
    segment[:], kind[:] = cursor.segment, int(Kind.WRITE)
    counts = [height * width for height, width in image.shapes]
    if cursor.sample >= NULL_SAMPLE:
        sample[slots] = NULL_SAMPLE + 1 + np.repeat(np.arange(len(counts)), counts)
        label[slots] = position[slots] = np.concatenate([np.arange(count) for count in counts])
        return found
    places = np.append([0], np.arange(slots.start, slots.stop))
    sample[places] = cursor.sample
    label[places] = cursor.label + np.arange(len(places))
    position[places] = int(cursor.position) + np.arange(len(places))
    return found


def _layout(fields: Sequence[np.ndarray], positions: np.ndarray, cursors: Sequence[Cursor]) -> Layout:
    index = Index(*(torch.from_numpy(field) for field in fields))
    zero, no = torch.zeros_like(index.label), torch.zeros(index.label.shape, dtype=torch.bool)
    return Layout(
        index=index,
        positions=torch.from_numpy(positions).float().expand(3, -1, -1),
        source=zero,
        predicted=no,
        answers=no,
        step=zero - 1,
        writes=(),
        cursors=tuple(cursors),
    )
