"""The layout of a batch: everything that follows from the ids alone.

Nothing outside this module computes an offset by hand: who sees whom (`index`), where a position is
(`positions`), what a WRITE slot is fed (`writes`), which positions are predicted and from where (`predicted`,
`source`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unified.layout.attention import PADDING, Index
from unified.layout.patch_merging import Blocks, MergedLayout, blocks_of
from unified.orders import Plan, plan_for
from unified.orders.plan import spread
from unified.orders.shapes import Shape
from unified.stream.segments import Kind, Segment, as_ids, segments
from unified.stream.vocabulary import Vocabulary

IGNORED = -100  # the label of a position that is not a target, as in `transformers`


@dataclass(frozen=True)
class WriteGroup:
    """WRITE segments that share a plan: segment n fills slots `starts[n]`, `starts[n]` + 1, ... of row
    `rows[n]`. `reference[n]`: where the last map of its reference image begins, which is the latest image of
    its sample, if that has the size of the plan's last map; otherwise -1. `actions[n]`: the places of the
    action ids since that image, `words[n]` those of the text that its turn says since then, padded with
    -1."""

    plan: Plan
    rows: Tensor
    starts: Tensor
    reference: Tensor
    actions: Tensor
    words: Tensor

    def to(self, device: torch.device | str) -> WriteGroup:
        fields = (self.rows, self.starts, self.reference, self.actions, self.words)
        return WriteGroup(self.plan, *(field.to(device) for field in fields))

    def slots(self) -> Tensor:
        """[N, T] positions of the slots."""
        return self.starts[:, None] + torch.arange(self.plan.length, device=self.starts.device)


@dataclass(frozen=True)
class Cursor:
    """Where a row stands: the next label, position on the time axis, segment and sample numbers."""

    label: int = 0
    position: float = 0.0
    segment: int = 0
    sample: int = 0


@dataclass(frozen=True)
class Layout:
    """`positions` [3, B, T] float: time, row, column, for multimodal rotary embeddings (M-RoPE, arXiv
    2409.12191). `source` [B, T]: the position whose hidden state predicts a token (the one before; for WRITE
    codes their own). `predicted` [B, T] bool: tokens that may be targets at all. `answers` [B, T] bool: the
    predicted tokens of assistant turns. `step` [B, T]: the step of a WRITE code in its plan, -1 elsewhere.
    `cursors`: where each row stands after its last id. `merging`: the positions of the backbone, if not one
    for each id."""

    index: Index
    positions: Tensor
    source: Tensor
    predicted: Tensor
    answers: Tensor
    step: Tensor
    writes: tuple[WriteGroup, ...]
    cursors: tuple[Cursor, ...] = field(default=())
    merging: MergedLayout | None = None

    @staticmethod
    def of(
        ids: Tensor | Sequence[Sequence[int]], vocabulary: Vocabulary, cursors: Sequence[Cursor] | None = None
    ) -> Layout:
        """Layout of rows of ids [B, T]. Given cursors, the rows go on where an earlier layout ended."""
        table = as_ids(ids, 2)
        cursors = cursors or [Cursor()] * len(table)
        rows = [_Row(row, vocabulary, cursor) for row, cursor in zip(table, cursors, strict=True)]
        device = ids.device if isinstance(ids, Tensor) else torch.device("cpu")
        return _stack(rows).to(device)

    @staticmethod
    def tokens(cursors: Sequence[Cursor], counts: Sequence[int]) -> Layout:
        """Layout [B, n] of `counts[b]` more ids of text in row b, each a segment as if it came alone, and
        padding up to the largest count (at least 1), without a walk over the ids."""
        ahead = torch.arange(max(1, *counts))
        rows = torch.tensor([(c.sample, c.segment, c.label) for c in cursors])
        sample, segment, label = rows.T.contiguous()[..., None]
        sample = torch.where(ahead < torch.tensor(counts)[:, None], sample, PADDING)
        segment, label = segment + ahead, label + ahead
        zero, no = torch.zeros_like(label), torch.zeros(label.shape, dtype=torch.bool)
        places = (torch.tensor([c.position for c in cursors])[:, None] + ahead).expand(3, -1, -1)
        after = [
            Cursor(c.label + n, c.position + n, c.segment + n, c.sample)
            for c, n in zip(cursors, counts, strict=True)
        ]
        return Layout(
            index=Index(sample, segment, zero, label),
            positions=places,
            source=zero,
            predicted=no,
            answers=no,
            step=zero - 1,
            writes=(),
            cursors=tuple(after),
        )

    def to(self, device: torch.device | str) -> Layout:
        writes = tuple(g.to(device) for g in self.writes)
        names = ("positions", "source", "predicted", "answers", "step")
        tensors = {name: getattr(self, name).to(device) for name in names}
        merging = self.merging.to(device) if self.merging else None
        return replace(self, index=self.index.to(device), writes=writes, merging=merging, **tensors)

    def labels(self, ids: Tensor) -> Tensor:
        """The target rule: ids of the assistant's text, actions and WRITE codes, IGNORED elsewhere."""
        return ids.masked_fill(~self.answers, IGNORED)

    def merged(self) -> tuple[Index, Tensor]:
        """Index [B, P] and positions [3, B, P] of what the backbone runs over."""
        if self.merging is None:
            return self.index, self.positions
        return self.merging.index(self.index), self.merging.positions(self.positions)

    def at_positions(self, values: Tensor) -> Tensor:
        """Values of ids [B, T] -> of the backbone's positions [B, P]."""
        return values if self.merging is None else values.gather(1, self.merging.kept)

    def part(self, places: slice | Tensor) -> Layout:
        """The layout of some of the ids, to be run on their own, a position each, after what came before."""
        return replace(
            self,
            index=self.index.map(lambda field: field[:, places]),
            positions=self.positions[:, :, places],
            source=self.source[:, places],
            predicted=self.predicted[:, places],
            answers=self.answers[:, places],
            step=self.step[:, places],
            writes=(),
            merging=None,
        )


class _Row:
    """Builds the layout of one row, segment by segment."""

    def __init__(self, ids: np.ndarray, vocabulary: Vocabulary, cursor: Cursor) -> None:
        length = len(ids)
        self.ids, self.vocabulary, self.cursor = ids, vocabulary, cursor
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


def _stack(rows: list[_Row]) -> Layout:
    def stacked(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(row, name) for row in rows]))

    index = Index(*(stacked(name) for name in ("sample", "segment", "kind", "label")))
    merging = None
    if rows[0].vocabulary.merge:
        first = np.stack([row.first for row in rows])
        merging = MergedLayout.of(first, [np.concatenate(row.blocks) for row in rows])
    return Layout(
        index=index,
        positions=stacked("position").transpose(0, 1).contiguous(),
        source=stacked("source"),
        predicted=stacked("predicted"),
        answers=stacked("answers"),
        step=stacked("step"),
        writes=_groups(rows),
        cursors=tuple(row.cursor for row in rows),
        merging=merging,
    )


def _groups(rows: list[_Row]) -> tuple[WriteGroup, ...]:
    plans: dict[int, Plan] = {}
    places: dict[int, list[tuple[int, int, int]]] = {}
    actions: dict[int, list[list[int]]] = {}
    words: dict[int, list[list[int]]] = {}
    for number, row in enumerate(rows):
        for segment, plan, reference, acted, said in row.writes:
            plans[id(plan)] = plan
            places.setdefault(id(plan), []).append((number, segment.codes, reference))
            actions.setdefault(id(plan), []).append(acted)
            words.setdefault(id(plan), []).append(said)
    groups = []
    for key, plan in plans.items():
        numbers, starts, references = torch.tensor(places[key]).unbind(dim=1)
        since = (_padded(actions[key]), _padded(words[key]))
        groups.append(WriteGroup(plan, numbers, starts, references, *since))
    return tuple(groups)


def _padded(lists: Sequence[Sequence[int]]) -> Tensor:
    """[N, longest], padded with -1."""
    rows = [torch.tensor(list(row), dtype=torch.long) for row in lists]
    return pad_sequence(rows, batch_first=True, padding_value=-1)


def pack(samples: Sequence[Sequence[int]], length: int, vocabulary: Vocabulary) -> Tensor:
    """Samples laid one after another into rows of `length` ids, first fit, longest first, padded at the end:
    [B, length]. No sample sees another. A sample longer than a row raises ValueError."""
    rows: list[list[int]] = []
    for sample in sorted(samples, key=len, reverse=True):
        if len(sample) > length:
            raise ValueError(f"a sample of {len(sample)} ids does not fit a row of {length}")
        if not len(sample) or sample[0] != vocabulary.begin:
            raise ValueError("every packed sample must start with <|begin|>")
        row = next((row for row in rows if len(row) + len(sample) <= length), None)
        if row is None:
            rows.append(row := [])
        row.extend(sample)
    padded = [row + [vocabulary.pad] * (length - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.long).view(-1, length)
