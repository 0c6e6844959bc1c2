"""The conversations of a session: what each holds besides keys and values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.decoding.drawing import Drawing
from unified.extras.references import Image
from unified.layout.patch_merging import positions_of
from unified.orders import Plan
from unified.orders.shapes import area
from unified.stream.segments import Kind, Segment, as_ids, segments
from unified.stream.vocabulary import Vocabulary
from unified.tokenizers.shown import shown


@dataclass
class Row:
    """One conversation. `stream`: its ids so far. `pending`: those whose prefill is deferred. `null_read`:
    number of ids of its null stream that were read. `values`: by name, the continuous values of its
    placeholders [n, C]. `reference`: the latest image of the stream, None if there is none or it has no
    codes. `actions`: the action ids since then, `words`: the text ids of the open turn since then. `stopped`:
    why its text ended, "end", "write" or "length". `offset`: ids that were forgotten before those of
    `stream`. `drawn`: by index in the stream, the log-probabilities of ids that were generated, None if not
    recorded."""

    stream: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    null_read: int = 0
    values: dict[str, Tensor] = field(default_factory=dict)
    reference: Image | None = None
    actions: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list, init=False)
    stopped: str = field(default="", init=False)
    offset: int = 0
    drawn: dict[int, float] | None = None

    @property
    def place(self) -> int:
        """Where the next id stands among all that were ever said, which indexes the noise."""
        return self.offset + len(self.stream)

    def copy(self) -> Row:
        """The same conversation, which goes on by itself; its null branch is to be read anew."""
        other = Row(
            list(self.stream), list(self.pending), 0, dict(self.values), self.reference, list(self.actions),
            self.offset, None if self.drawn is None else dict(self.drawn),
        )  # fmt: skip
        other.words, other.stopped = list(self.words), self.stopped
        return other

    def log_probs(self) -> list[float]:
        """For each id of the stream, NaN where none was recorded."""
        return [(self.drawn or {}).get(number, math.nan) for number in range(len(self.stream))]

    def append(self, ids: Sequence[int], parts: Sequence[Segment], words: Vocabulary) -> None:
        """Add ids, split into segments, whose prefill is to come."""
        self.stream += ids
        self.pending += ids
        for part in parts:
            if part.kind == Kind.READ and part.placeholder:
                self._show(None)
            elif part.kind == Kind.READ:
                (height, width), stop = part.shapes[-1], part.stop - 1
                codes = [token - words.visual_start for token in ids[stop - height * width : stop]]
                self._show(Image((height, width), codes))
            elif part.kind == Kind.ACTION:
                self.actions += ids[part.start : part.stop]
            elif part.kind == Kind.TEXT:
                for token in ids[part.start : part.stop]:
                    self._say(token, words)

    def _show(self, image: Image | None) -> None:
        """The latest image of the stream; nothing was done or said since."""
        self.reference, self.actions, self.words = image, [], []

    def _say(self, token: int, words: Vocabulary) -> None:
        if token in words.turn_borders:
            self.words = []
        elif words.is_text(token):
            self.words.append(token)

    def append_values(self, values: Mapping[str, Tensor]) -> None:
        """Add continuous values [N, C] by name, in the order of their placeholders."""
        for name, vectors in values.items():
            self.values[name] = torch.cat([*([self.values[name]] if name in self.values else []), vectors])

    def append_text(self, token: int, words: Vocabulary, log_prob: float = math.nan) -> int | None:
        """Add one generated id of text: the id, or None where the row has stopped or now starts an image."""
        if self.stopped:
            return None
        self.note([log_prob])
        if token == words.write:
            self.stopped = "write"
            return None
        self.stream.append(token)
        self.pending.append(token)
        self._say(token, words)
        if token == words.end:
            self.stopped = "end"
        return token

    def append_action(self, ids: Sequence[int], log_probs: Sequence[float]) -> None:
        """Add the ids of a generated action, which have been read, and the log-probability of each."""
        self.note(log_probs)
        self.stream += ids
        self.actions += ids

    def note(self, log_probs: Sequence[float], ahead: int = 0) -> None:
        """Record log-probabilities of ids that stand `ahead` ids after the end of the stream and on, if any
        are recorded."""
        if self.drawn is not None:
            start = len(self.stream) + ahead
            self.drawn |= {start + n: value for n, value in enumerate(log_probs)}

    def append_image(self, drawing: Drawing, number: int, vectors: Tensor | None, words: Vocabulary) -> None:
        """Add image `number` of a finished drawing; the prefill of its READ segment is to come. `vectors`:
        carried embeddings [R, D] that the next frame is made from in place of its codes'."""
        written, read = drawing.codes[number].tolist(), drawing.read()[number].tolist()
        segment, header = words.read_segment(read, drawing.plan.read_shapes), open_ids(drawing.plan, words)
        if self.drawn is not None:
            self.note(drawing.log_probs[number].tolist(), len(header))
        self.stream += [*header, *words.visual_ids(written), words.close, *segment]
        self.pending += segment
        height, width = drawing.plan.read_shapes[-1]
        self._show(Image((height, width), read[len(read) - height * width :], vectors))


def open_ids(plan: Plan, words: Vocabulary) -> list[int]:
    """The ids that open the WRITE segment of an image. ValueError for an order without an id."""
    return words.open_write(plan.order, plan.shapes, plan.data)


def per_row(ids: Any, count: int) -> list[list[int]]:
    """Lists of ids, one for each of `count` rows; a single list goes to all. ValueError for another
    number."""
    if not isinstance(ids, Sequence | np.ndarray | Tensor) or isinstance(ids, str | bytes):
        raise ValueError(f"ids must be a list of whole numbers, or one list for each row, got {shown(ids)}")
    flat = not len(ids) or not isinstance(ids[0], Sequence | np.ndarray | Tensor) or np.ndim(ids[0]) == 0
    lists = [as_ids(row, 1).tolist() for row in ([ids] * count if flat else ids)]
    if len(lists) != count:
        raise ValueError(f"{count} rows need {count} lists of ids, got {len(lists)}")
    return lists


def readable(ids: list[int], words: Vocabulary, images: bool = True) -> list[int]:
    """The ids without WRITE segments, which nothing later attends to; with `images` False without READ
    segments and placeholders too."""
    if words.write not in ids and images:
        return ids
    left_out = (Kind.WRITE,) if images else (Kind.WRITE, Kind.READ)
    kept = [t for s in segments(ids, words) if s.kind not in left_out for t in ids[s.start : s.stop]]
    return kept if images else [token for token in kept if token not in words.placeholders]


def check_length(
    most: int | None,
    held: Sequence[int],
    rows: Sequence[Row],
    found: Sequence[Sequence[Segment]],
    words: Vocabulary,
) -> None:
    """ValueError if the segments to be appended to each row, whose cache holds so many positions, make it
    longer than the model's context."""
    for before, row, parts in zip(held, rows, found, strict=True):
        length = before + len(row.pending) + positions_read(parts, words)
        if most is not None and length > most:
            raise ValueError(f"{length} positions, and the model's context has {most}: shorten what is said")


def positions_read(parts: Sequence[Segment], words: Vocabulary) -> int:
    """How many positions these segments take when they are read: none for WRITE segments, one for each block
    of merged codes, one for every other id."""
    count = 0
    for part in parts:
        if part.kind != Kind.WRITE:
            count += part.stop - part.start
        if part.kind == Kind.READ and part.shapes and words.merge:
            count -= area(part.shapes) - positions_of(part.shapes, words.merge)
    return count
