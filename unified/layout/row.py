"""The layout of one row of ids, built segment by segment."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from unified.layout.attention import PADDING
from unified.layout.features import text_line
from unified.layout.patch_merging import Blocks, blocks_of
from unified.orders import Plan, plan_for
from unified.orders.plan import spread
from unified.orders.shapes import Shape
from unified.stream.segments import Kind, Segment, segments
from unified.stream.vocabulary import Vocabulary


@dataclass(frozen=True)
class Cursor:
    """Where a row stands: the next label, position on the time axis, segment and sample numbers."""

    label: int = 0
    position: float = 0.0
    segment: int = 0
    sample: int = 0


class RowLayout:
    """What `Layout` holds, of one row [T]. `places` [N, 5]: of the image features in it (`features`)."""

    def __init__(
        self, ids: np.ndarray, vocabulary: Vocabulary, cursor: Cursor, places: Tensor | None = None
    ) -> None:
        length = len(ids)
        self.ids, self.vocabulary, self.cursor = ids, vocabulary, cursor
        self.places = None if places is None else places.double().numpy()
        self.sample = np.full(length, PADDING)
        self.segment, self.kind, self.label = (np.zeros(length, dtype=np.int64) for _ in range(3))
        self.position = np.zeros((3, length), dtype=np.float32)
        self.source = np.maximum(np.arange(length) - 1, 0)
        self.predicted = np.zeros(length, dtype=bool)
        self.step = np.full(length, -1)
        self.writes: list[tuple[Segment, Plan, int, list[int], list[int]]] = []
        self.first = np.arange(length)
        self.blocks = [np.zeros((0, 4), dtype=np.int64)]
        self.latest: tuple[int, Shape] | None = None  # where the latest image's last map begins, and its size
        self.actions: list[int] = []  # where the action ids since then are
        self.words: list[int] = []  # and the text ids since then, of the turn that is open
        for segment in segments(ids, vocabulary):
            self._add(segment)
        self.answers = self.predicted & self._assistant()
        if vocabulary.marks:
            self._pass_over_marks()

    def _pass_over_marks(self) -> None:
        """What follows a mark is predicted from what the backbone read before it; the first id of a sample is
        not."""
        read = ~np.isin(self.ids, list(self.vocabulary.marks))
        latest = np.maximum.accumulate(np.where(read, np.arange(len(self.ids)), 0))
        self.source = latest[self.source]
        known = read[self.source] & (self.sample[self.source] == self.sample)
        self.predicted &= known
        self.answers &= known

    def _add(self, segment: Segment) -> None:
        if self.ids[segment.start] == self.vocabulary.begin:
            self.cursor = Cursor(sample=self.cursor.sample + 1, segment=self.cursor.segment)
            self.latest, self.actions, self.words = None, [], []
        span = slice(segment.start, segment.stop)
        self.sample[span] = self.cursor.sample
        self.segment[span] = self.cursor.segment
        self.kind[span] = segment.kind
        if segment.kind == Kind.READ:
            self._read(segment)
        elif segment.kind == Kind.WRITE:
            self._write(segment)
        elif segment.kind == Kind.TEXT and self.vocabulary.base:
            self._text(segment)
        else:
            self._line(segment.start, segment.stop)
            self.predicted[span] = self.ids[span] != self.vocabulary.begin
        if segment.kind == Kind.ACTION:
            self.actions += range(segment.start, segment.stop)
        elif segment.kind == Kind.TEXT:
            self._say(segment)
        self.cursor = replace(self.cursor, segment=self.cursor.segment + 1)

    def _say(self, segment: Segment) -> None:
        """Note where the text is that stands after the last border of a turn."""
        span, vocabulary = self.ids[segment.start : segment.stop], self.vocabulary
        borders = np.isin(span, list(vocabulary.turn_borders)).nonzero()[0]
        first = int(borders[-1]) + 1 if len(borders) else 0
        if first:
            self.words = []
        told = (span < vocabulary.text) & ~np.isin(span, list(vocabulary.named_ids))
        told[:first] = False
        self.words += (segment.start + told.nonzero()[0]).tolist()

    def _line(self, start: int, stop: int) -> None:
        """Positions in a line, one step each: text, actions, the headers and ends of images."""
        count = stop - start
        self.label[start:stop] = self.cursor.label + np.arange(count)
        self.position[:, start:stop] = self.cursor.position + np.arange(count)
        self.cursor = replace(
            self.cursor, label=self.cursor.label + count, position=self.cursor.position + count
        )

    def _text(self, segment: Segment) -> None:
        """Text of a pretrained model's stream, with its marks and the features of its vision tower."""
        span = slice(segment.start, segment.stop)
        ids, words = self.ids[span], self.vocabulary
        count = int((ids == words.image).sum())
        places = None if self.places is None else self.places[:count]
        self.places = None if self.places is None else self.places[count:]
        line = text_line(ids, words, places)
        self.label[span] = self.cursor.label + line.label
        self.position[:, span] = self.cursor.position + line.position
        self.segment[span] += line.segment
        self.kind[span] = line.kind
        self.predicted[span] = line.predicted
        cursor = self.cursor
        self.cursor = replace(
            cursor,
            label=cursor.label + line.labels,
            position=cursor.position + line.moved,
            segment=cursor.segment + int(line.segment[-1]),
        )

    def _grid(self, segment: Segment, labels: np.ndarray, blocks: Blocks) -> None:
        """An image's codes: one point in time, their places spread over the last map. A block stands in its
        middle."""
        span = slice(segment.codes, segment.stop - 1)
        self.label[span] = self.cursor.label + labels
        self.position[0, span] = self.cursor.position
        places = spread(segment.shapes).numpy() + blocks.shift
        self.position[1:, span] = self.cursor.position + places.T
        self.first[span] = segment.codes + blocks.first
        self.blocks.append(segment.codes + blocks.members)
        steps = int(labels.max()) + 1
        extent = max(segment.shapes[-1])
        self.cursor = replace(
            self.cursor, label=self.cursor.label + steps, position=self.cursor.position + extent
        )

    def _read(self, segment: Segment) -> None:
        self._line(segment.start, segment.codes)
        blocks = blocks_of(segment.shapes, self.vocabulary.merge)
        self._grid(segment, np.zeros(segment.stop - 1 - segment.codes, dtype=np.int64), blocks)
        self._line(segment.stop - 1, segment.stop)
        if segment.is_image:
            height, width = segment.shapes[-1]
            first = segment.stop - 1 - height * width
            self.latest = None if segment.placeholder else (first, (height, width))
            self.actions, self.words = [], []

    def _write(self, segment: Segment) -> None:
        """Written once: what follows stands where it would stand had there been no WRITE segment."""
        plan = self._plan(segment)
        position = self.cursor.position
        self._line(segment.start, segment.codes)
        self._grid(segment, plan.labels.numpy(), blocks_of(plan.shapes, self.vocabulary.merge, plan))
        self._line(segment.stop - 1, segment.stop)
        self.cursor = replace(self.cursor, position=position)
        span = slice(segment.codes, segment.stop - 1)
        self.source[span] = np.arange(segment.codes, segment.stop - 1)
        self.step[span] = plan.labels.numpy()
        self.predicted[segment.start] = True  # `write` itself is the choice to draw
        self.predicted[span] = not segment.placeholder  # continuous values are no ids
        fits = self.latest is not None and self.latest[1] == plan.shapes[-1]
        reference = self.latest[0] if fits and self.latest else -1
        actions, words = (list(self.actions), list(self.words)) if fits else ([], [])
        self.writes.append((segment, plan, reference, actions, words))

    def _plan(self, segment: Segment) -> Plan:
        try:
            return plan_for(segment.order, segment.shapes, segment.data)
        except ValueError as error:
            raise ValueError(f"the image at position {segment.start}: {error}") from None

    def _assistant(self) -> np.ndarray:
        """[T] bool: inside an assistant turn, its role token excluded and its `end` included."""
        roles = np.isin(self.ids, [self.vocabulary.system, self.vocabulary.user, self.vocabulary.assistant])
        borders = roles | (self.ids == self.vocabulary.begin) | (self.ids == self.vocabulary.end)
        latest = np.maximum.accumulate(np.where(borders, np.arange(len(self.ids)), -1))
        before = np.append([-1], latest)[: len(self.ids)]  # the last border before each position
        opened = np.where(before >= 0, self.ids[before], -1) == self.vocabulary.assistant
        return opened & ~roles
