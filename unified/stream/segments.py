"""From ids to segments: the grammar of the stream, read strictly.

    row      := (sample | pad)*
    sample   := begin turn*                     (the last turn may be open: a prompt)
    turn     := role (text | action | image)* end
    image    := read sizes codes close  |  write order sizes codes close
    sizes    := (height width)+                 one pair per map of codes

Anything else raises a ValueError that names the position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from unified.orders.shapes import Shapes, area
from unified.stream.vocabulary import ROLES, Vocabulary


class Kind(IntEnum):
    """What a position is to the attention rule."""

    TEXT = 0
    ACTION = 1
    READ = 2
    WRITE = 3


@dataclass(frozen=True, slots=True)
class Segment:
    """Positions `start` to `stop` of a row. For an image, `codes` is the position of its first code; the
    sizes and, if it is a WRITE segment, the order are those its header spells."""

    kind: Kind
    start: int
    stop: int
    codes: int = 0
    shapes: Shapes = ()
    order: str = ""


def segments(ids: Sequence[int] | np.ndarray, vocabulary: Vocabulary) -> list[Segment]:
    """Split one row of ids into segments. Text segments hold text and control ids; padding belongs to
    none."""
    row = np.asarray(ids, dtype=np.int64)
    _check_range(row, vocabulary)
    breaks = _breaks(row, vocabulary)
    found: list[Segment] = []
    position = 0
    while position < len(row):
        token = int(row[position])
        if token in (vocabulary.read, vocabulary.write):
            segment = _image(row, position, vocabulary)
        elif token >= vocabulary.action_start:
            segment = _action(row, position, vocabulary)
        elif token == vocabulary.pad:
            position += 1
            continue
        else:
            stop = int(breaks[np.searchsorted(breaks, position, side="right")])
            segment = Segment(Kind.TEXT, position, stop)
            _check_text(row, segment, vocabulary)
        found.append(segment)
        position = segment.stop
    return found


def _check_range(row: np.ndarray, vocabulary: Vocabulary) -> None:
    if row.ndim != 1:
        raise ValueError(f"a row of ids must have one dimension, got shape {row.shape}")
    outside = (row < 0) | (row >= vocabulary.size)
    if outside.any():
        position = int(outside.argmax())
        raise ValueError(f"id {row[position]} at position {position} is outside 0..{vocabulary.size - 1}")


def _breaks(row: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Where a text segment must stop: images, actions, padding, the next sample and the end of the row."""
    stops = (row == vocabulary.read) | (row == vocabulary.write) | (row == vocabulary.pad)
    stops |= row == vocabulary.begin
    stops |= row >= vocabulary.action_start
    return np.append(stops.nonzero()[0], len(row))


def _check_text(row: np.ndarray, segment: Segment, vocabulary: Vocabulary) -> None:
    """Codes, sizes, orders and `close` may only stand inside an image."""
    text = row[segment.start : segment.stop]
    stray = (text >= vocabulary.close) & (text < vocabulary.action_start)
    if stray.any():
        offset = int(stray.argmax())
        name = vocabulary.name(int(text[offset]))
        raise ValueError(f"{name} at position {segment.start + offset} stands outside an image")


def _action(row: np.ndarray, start: int, vocabulary: Vocabulary) -> Segment:
    stop = start + vocabulary.action_slots
    length = int((row[start:stop] >= vocabulary.action_start).sum())
    if length < vocabulary.action_slots:
        raise ValueError(f"the action at position {start} has {length} of {vocabulary.action_slots} ids")
    return Segment(Kind.ACTION, start, stop)


def _image(row: np.ndarray, start: int, vocabulary: Vocabulary) -> Segment:
    kind = Kind.WRITE if row[start] == vocabulary.write else Kind.READ
    position, order = start + 1, ""
    if kind == Kind.WRITE:
        order = _order(row, position, vocabulary)
        position += 1
    shapes = _shapes(row, position, vocabulary)
    codes = position + 2 * len(shapes)
    stop = codes + area(shapes)
    block = row[codes:stop]
    inside = (block >= vocabulary.visual_start) & (block < vocabulary.action_start)
    if len(block) < stop - codes or not inside.all():
        count = len(block) if inside.all() else int(inside.argmin())
        raise ValueError(
            f"the image at position {start} has {count} codes, its sizes {shapes} need {stop - codes}"
        )
    if stop >= len(row) or row[stop] != vocabulary.close:
        what = "the row ends" if stop >= len(row) else vocabulary.name(int(row[stop]))
        raise ValueError(f"the image at position {start} is not closed at position {stop}: {what}")
    return Segment(kind, start, stop + 1, codes, shapes, order)


def _order(row: np.ndarray, position: int, vocabulary: Vocabulary) -> str:
    first = vocabulary.close + 1
    number = int(row[position]) - first if position < len(row) else -1
    if not 0 <= number < len(vocabulary.orders):
        raise ValueError(f"position {position} must name the order of the image that starts before it")
    return vocabulary.orders[number]


def _shapes(row: np.ndarray, position: int, vocabulary: Vocabulary) -> Shapes:
    first = vocabulary.special["size:1"]
    stop = position
    while stop < len(row) and first <= row[stop] < first + vocabulary.max_side:
        stop += 1
    sides = (row[position:stop] - first + 1).tolist()
    if not sides or len(sides) % 2:
        raise ValueError(
            f"unknown grid at position {position}: {len(sides)} sizes, expected pairs of height and width"
        )
    return tuple(zip(sides[::2], sides[1::2], strict=True))


def role_tokens(vocabulary: Vocabulary) -> dict[int, str]:
    return {vocabulary.special[role]: role for role in ROLES}
