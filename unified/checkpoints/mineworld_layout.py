"""Where the ids of a stream stand in MineWorld's sequence, which has codes and actions and nothing else.

Turns, headers and text take no position. Each code stands *after* what it is predicted from, so an image
that is written takes the positions of the end marker of its action and of all its codes but the last: the
end marker waits until an image follows, the last code of a written image until something is read after it.
So written frames stay in the cache as they are, and nothing is run twice. Labels are positions: the attention
rule is then plain causality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from unified.layout.attention import PADDING, Index
from unified.layout.layout import Cursor, Layout
from unified.layout.patch_merging import MergedLayout
from unified.stream.segments import Kind, Segment, segments
from unified.stream.vocabulary import Vocabulary


@dataclass(frozen=True)
class FrameCursor(Cursor):
    """`ended`: the end marker of the latest action waits for an image. `written`: so does the last code of
    the latest image for what is read next."""

    ended: bool = False
    written: bool = False

    @staticmethod
    def of(cursor: Cursor) -> FrameCursor:
        return cursor if isinstance(cursor, FrameCursor) else FrameCursor()


def lay_out(ids: Tensor, vocabulary: Vocabulary, cursors: Sequence[Cursor]) -> Layout:
    """The layout of rows of ids [B, T] that follow what the cursors say. `merging` holds the ids that take a
    position: codes and ids of actions, and `read` for the end marker before the image it opens; None if no
    row has any. ValueError for an image that is written before any action."""
    rows = [_Row(row, vocabulary, FrameCursor.of(c)) for row, c in zip(ids.numpy(), cursors, strict=True)]
    sample, segment, label = (
        torch.from_numpy(np.stack([getattr(row, name) for row in rows]))
        for name in ("sample", "segment", "label")
    )
    zero, no = torch.zeros_like(label), torch.zeros(label.shape, dtype=torch.bool)
    first = np.stack([row.first for row in rows])
    none = (first != np.arange(first.shape[1])).all()
    blocks = [np.zeros((0, 4), dtype=np.int64)] * len(rows)
    return Layout(
        index=Index(sample, segment, zero, label),
        positions=label.float().expand(3, -1, -1),
        source=zero,
        predicted=no,
        answers=no,
        step=zero - 1,
        writes=(),
        cursors=tuple(row.cursor for row in rows),
        merging=None if none else MergedLayout.of(first, blocks),
    )


class _Row:
    """One row, segment by segment. `first` [T]: its own number for an id that takes a position, another for
    one that does not."""

    def __init__(self, ids: np.ndarray, vocabulary: Vocabulary, cursor: FrameCursor) -> None:
        count = len(ids)
        self.cursor = cursor
        self.sample = np.full(count, PADDING)
        self.segment, self.label = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        self.first = np.arange(1, count + 1) % max(count, 2)
        for segment in segments(ids, vocabulary):
            if segment.kind != Kind.TEXT:
                self._add(segment)

    def _add(self, segment: Segment) -> None:
        state, codes = self.cursor, np.arange(segment.codes, segment.stop - 1)
        if segment.kind == Kind.ACTION:
            self._place(np.arange(segment.start, segment.stop - 1))
            state = replace(self.cursor, ended=True)
        elif segment.kind == Kind.WRITE:
            if not state.ended:
                raise ValueError("a MineWorld model writes frames after actions only: feed an action first")
            self._place(codes, positions=False)
            state = replace(self.cursor, ended=False, written=True)
        else:
            before = [segment.start] if state.ended else []
            self._place(codes[-1:] if state.written else np.array([*before, *codes]))
            state = replace(self.cursor, ended=False, written=False)
        self.cursor = replace(state, segment=state.segment + 1)

    def _place(self, places: np.ndarray, positions: bool = True) -> None:
        """Give ids, which are numbered `places`, the next positions of the sequence. Without `positions` they
        are not run from here: the steps of an image are."""
        start = int(self.cursor.position)
        self.label[places] = start + np.arange(len(places))
        self.sample[places], self.segment[places] = self.cursor.sample, self.cursor.segment
        if positions:
            self.first[places] = places
        self.cursor = replace(self.cursor, label=start + len(places), position=float(start + len(places)))
