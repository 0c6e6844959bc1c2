"""The index of a KV cache: for every row its own number of entries, each with the four integers of the
attention rule (sample, segment, kind, label). In NumPy on the host, where passes are planned; layers with the
same entries share one object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from unified.layout.attention import PADDING, Index
from unified.stream.segments import Kind

FIELDS = 4  # sample, segment, kind, label


class Entries:
    """`table` [4, R, capacity] int64 and `lengths` [R] int64: the entries of row r are
    `table[:, r, :lengths[r]]`."""

    def __init__(self, rows: int, capacity: int = 256) -> None:
        self.table = np.zeros((FIELDS, rows, max(capacity, 1)), dtype=np.int64)
        self.lengths = np.zeros(rows, dtype=np.int64)

    @property
    def rows(self) -> int:
        return self.table.shape[1]

    def copy(self) -> Entries:
        other = Entries(0)
        other.table, other.lengths = self.table.copy(), self.lengths.copy()
        return other

    def index(self, rows: slice = slice(None), lengths: np.ndarray | None = None) -> Index:
        """The index [r, K] of some rows, K the largest of their lengths, padded. `lengths` [r]: in place of
        the committed ones."""
        lengths = self.lengths[rows] if lengths is None else lengths
        most = int(lengths.max(initial=0))
        view = self.table[:, rows, :most]
        if len(lengths) and lengths.min() < most:
            view = view.copy()
            view[0][np.arange(most) >= lengths[:, None]] = PADDING
        return Index(*(torch.from_numpy(field) for field in view))

    def write(self, index: Index, counts: np.ndarray, rows: slice) -> None:
        """Write the first `counts` [r] of `index` [r, n] after each row's entries, without committing
        them."""
        fields = np.stack([field.numpy() for field in index.fields()])
        starts, (count, most) = self.lengths[rows], fields.shape[1:]
        self._reserve(int((starts + counts).max(initial=0)))
        if not count or not most:
            return
        if starts.min() == starts.max() and counts.min() == most:
            self.table[:, rows, starts[0] : starts[0] + most] = fields
            return
        real = np.arange(most) < counts[:, None]
        row, place = real.nonzero()
        numbers = np.arange(self.rows)[rows]
        self.table[:, numbers[row], starts[row] + place] = fields[:, row, place]

    def keep(self, stays: np.ndarray) -> np.ndarray:
        """Keep the entries marked in `stays`, [R, K] or, by head, [R, K, G] bool. Returns their former
        numbers [R, k] or [R, k, G] in ascending order, undefined beyond a row's new length. ValueError unless
        all heads of a row keep equally many entries, with those of WRITE segments at the same new numbers."""
        lengths = self.lengths
        inside = np.arange(stays.shape[1]) < lengths[:, None]
        stays = stays & (inside if stays.ndim == 2 else inside[..., None])
        counts = stays.sum(axis=1)  # [R] or [R, G]
        if counts.ndim == 2 and (counts != counts[:, :1]).any():
            raise ValueError("a cache policy must keep equally many entries in every head of a row")
        source = np.argsort(~stays, axis=1, kind="stable")
        self.lengths = counts if counts.ndim == 1 else counts[:, 0]
        source = source[:, : int(self.lengths.max(initial=0))]
        hidden = self.table[2] == Kind.WRITE
        if source.ndim == 3:
            by_head = np.take_along_axis(hidden[..., None], source, axis=1)
            if (by_head != by_head[..., :1]).any():
                raise ValueError("a cache policy must keep the same WRITE entries in every head of a row")
        taken = source if source.ndim == 2 else source[..., 0]
        self.table = np.take_along_axis(self.table, taken[None], axis=2)
        return source

    def move(self, places: np.ndarray, source: np.ndarray) -> None:
        """The entries at `places` [R, k] become those at `source` [R, k]."""
        rows, last = np.arange(self.rows)[:, None], self.table.shape[2] - 1
        self.table[:, rows, places.clip(max=last)] = self.table[:, rows, source.clip(max=last)]

    def truncate(self, lengths: np.ndarray) -> None:
        """Drop every entry of a row from `lengths` [R] on."""
        self.lengths = np.minimum(self.lengths, lengths)

    def take(self, rows: np.ndarray) -> Entries:
        """A copy of the rows of these numbers, repeats allowed."""
        other = Entries(0)
        other.table, other.lengths = self.table[:, rows].copy(), self.lengths[rows].copy()
        return other

    @staticmethod
    def joined(parts: Sequence[Entries]) -> Entries:
        """A copy of the rows of several, one after the other."""
        most = max(part.table.shape[2] for part in parts)
        tables = [np.pad(part.table, ((0, 0), (0, 0), (0, most - part.table.shape[2]))) for part in parts]
        other = Entries(0)
        other.table = np.concatenate(tables, axis=1)
        other.lengths = np.concatenate([part.lengths for part in parts])
        return other

    def add_rows(self, count: int) -> None:
        """Append empty rows."""
        empty = np.zeros((FIELDS, count, self.table.shape[2]), dtype=np.int64)
        self.table = np.concatenate([self.table, empty], axis=1)
        self.lengths = np.concatenate([self.lengths, np.zeros(count, dtype=np.int64)])

    def _reserve(self, length: int) -> None:
        missing = length - self.table.shape[2]
        if missing > 0:
            more = max(missing, self.table.shape[2] // 2)
            self.table = np.pad(self.table, ((0, 0), (0, 0), (0, more)))
