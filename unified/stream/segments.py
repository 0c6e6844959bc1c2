"""From ids to segments: the grammar of the stream, read strictly.

    row      := (sample | pad)*
    sample   := begin turn*                     (the last turn may be open: a prompt)
    turn     := role (text | action | image | features)* end
    image    := read sizes content close  |  write order sizes [data] content close
    features := read placeholder+ close         continuous vectors in a line
    sizes    := (height width)+                 one pair per map of codes
    data     := part number+                    what else the order is given, numbers spelled as sizes
    content  := code*  |  placeholder*          one for each cell of the maps; all of one placeholder

A placeholder stands for one continuous vector, which travels beside the ids. Anything else raises a
ValueError that names the position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from unified.orders.shapes import Shapes, area
from unified.stream.vocabulary import ROLES, Vocabulary
from unified.tokenizers.shown import shown


class MalformedIds(ValueError):
    """Ids that the grammar does not allow. `start`: up to there they are well formed."""

    def __init__(self, message: str, start: int) -> None:
        super().__init__(message)
        self.start = start


class Kind(IntEnum):
    """What a position is to the attention rule."""

    TEXT = 0
    ACTION = 1
    READ = 2
    WRITE = 3


@dataclass(frozen=True, slots=True)
class Segment:
    """Positions `start` to `stop` of a row. For an image, `codes` is the position of its first code; the
    sizes and, if it is a WRITE segment, the order and its data are those its header spells. `placeholder`:
    what the placeholder in place of codes is called (`Vocabulary.placeholders`), "" for codes. Features are
    a READ segment of one map, 1 x their number."""

    kind: Kind
    start: int
    stop: int
    codes: int = 0
    shapes: Shapes = ()
    order: str = ""
    placeholder: str = ""
    data: tuple[int, ...] = ()

    @property
    def is_image(self) -> bool:
        """Whether a header spells sizes: text, actions and features have none."""
        return self.kind in (Kind.READ, Kind.WRITE) and self.codes > self.start + 1


def segments(ids: Sequence[int] | np.ndarray, vocabulary: Vocabulary) -> list[Segment]:
    """Split one row of ids into segments. Text segments hold text and control ids; padding belongs to
    none."""
    row = as_ids(ids, 1)
    _check_range(row, vocabulary)
    breaks = _breaks(row, vocabulary)
    images = (vocabulary.read, vocabulary.write)
    found: list[Segment] = []
    position = 0
    while position < len(row):
        token = int(row[position])
        if token == vocabulary.pad:
            position += 1
            continue
        try:
            if token in images:
                segment = _features(row, position, vocabulary) or _image(row, position, vocabulary)
            elif vocabulary.action_start <= token < vocabulary.action_stop:
                segment = _action(row, position, vocabulary)
            else:
                stop = int(breaks[np.searchsorted(breaks, position, side="right")])
                segment = Segment(Kind.TEXT, position, stop)
                _check_text(row, segment, vocabulary)
        except MalformedIds:
            raise
        except ValueError as error:
            raise MalformedIds(str(error), position) from None
        found.append(segment)
        position = segment.stop
    return found


def well_formed(ids: Sequence[int] | np.ndarray, vocabulary: Vocabulary) -> tuple[list[int], str]:
    """The ids up to what the grammar does not allow, such as an image that words interrupt, and in one
    sentence what that is, "" where there is nothing."""
    row: list[int] = as_ids(ids, 1).tolist()
    why = ""
    while True:
        try:
            segments(row, vocabulary)
        except MalformedIds as error:  # an id out of range is found first, wherever it stands
            row, why = row[: error.start], str(error)
        else:
            return row, why


def as_ids(ids: Any, dimensions: int) -> np.ndarray:
    """Ids as int64: a row [T] (`dimensions` 1) or rows [B, T] (2). ValueError for what is no whole numbers of
    64 bits or has another shape."""
    try:
        table = np.asarray(ids.cpu() if hasattr(ids, "cpu") else ids)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # rows of several lengths, too
        table = np.asarray(None)
    if table.ndim != dimensions or (table.size and table.dtype.kind not in "iu"):
        wanted = "one dimension" if dimensions == 1 else "the shape [rows, length]"
        found = f"{table.dtype} {list(table.shape)}" if table.ndim else shown(ids)
        raise ValueError(f"ids must be whole numbers in {wanted}, got {found}")
    return table.astype(np.int64)


def _check_range(row: np.ndarray, vocabulary: Vocabulary) -> None:
    outside = (row < 0) | (row >= vocabulary.size)
    if outside.any():
        position = int(outside.argmax())
        limit = vocabulary.size - 1
        raise MalformedIds(f"id {row[position]} at position {position} is outside 0..{limit}", position)


def _breaks(row: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Where a text segment must stop: images, actions, padding, the next sample and the end of the row."""
    stops = (row == vocabulary.read) | (row == vocabulary.write) | (row == vocabulary.pad)
    stops |= row == vocabulary.begin
    stops |= _actions(row, vocabulary)
    return np.append(stops.nonzero()[0], len(row))


def _actions(row: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    return (row >= vocabulary.action_start) & (row < vocabulary.action_stop)


def _check_text(row: np.ndarray, segment: Segment, vocabulary: Vocabulary) -> None:
    """Codes, placeholders, sizes, orders and `close` may only stand inside an image, reserved ids nowhere."""
    text = row[segment.start : segment.stop]
    stray = (text >= vocabulary.header_start) | (text == vocabulary.close)
    if stray.any():
        offset = int(stray.argmax())
        name = vocabulary.name(int(text[offset]))
        reserved = name.startswith("<|reserved:")
        what = "is reserved: it has no meaning yet" if reserved else "stands outside an image"
        where = segment.start + offset
        raise MalformedIds(f"{name} at position {where} {what}", where)


def _action(row: np.ndarray, start: int, vocabulary: Vocabulary) -> Segment:
    stop = start + vocabulary.action_slots
    length = int(_actions(row[start:stop], vocabulary).sum())
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
    data = _data(row, codes, vocabulary) if kind == Kind.WRITE else ()
    codes += len(data) + bool(data)
    stop = codes + area(shapes)
    block = row[codes:stop]
    placeholder = vocabulary.placeholders.get(int(block[0]), "") if len(block) else ""
    if placeholder:
        inside = block == block[0]
    else:
        inside = (block >= vocabulary.visual_start) & (block < vocabulary.action_start)
    if len(block) < stop - codes or not inside.all():
        count = len(block) if inside.all() else int(inside.argmin())
        what = vocabulary.name(int(block[0])) if placeholder else "codes"
        raise ValueError(
            f"the image at position {start} has {count} {what}, its sizes {shapes} need {stop - codes}"
        )
    _check_closed(row, start, stop, "image", vocabulary)
    return Segment(kind, start, stop + 1, codes, shapes, order, placeholder, data)


def _features(row: np.ndarray, start: int, vocabulary: Vocabulary) -> Segment | None:
    """A line of placeholders right after `read`; None if none stands there."""
    first = int(row[start + 1]) if start + 1 < len(row) else -1
    if row[start] != vocabulary.read or first not in vocabulary.placeholders:
        return None
    others = (row[start + 1 :] != first).nonzero()[0]
    stop = start + 1 + int(others[0]) if len(others) else len(row)
    _check_closed(row, start, stop, "line of features", vocabulary)
    shapes = ((1, stop - start - 1),)
    return Segment(Kind.READ, start, stop + 1, start + 1, shapes, placeholder=vocabulary.placeholders[first])


def _check_closed(row: np.ndarray, start: int, stop: int, what: str, vocabulary: Vocabulary) -> None:
    if stop >= len(row) or row[stop] != vocabulary.close:
        found = "the row ends" if stop >= len(row) else vocabulary.name(int(row[stop]))
        raise ValueError(f"the {what} at position {start} is not closed at position {stop}: {found}")


def _order(row: np.ndarray, position: int, vocabulary: Vocabulary) -> str:
    order = vocabulary.order_of_id.get(int(row[position])) if position < len(row) else None
    if order is None:
        raise ValueError(f"position {position} must name the order of the image that starts before it")
    return order


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


def _data(row: np.ndarray, position: int, vocabulary: Vocabulary) -> tuple[int, ...]:
    """What else an order is given: the numbers after `part`, none without it."""
    if position >= len(row) or row[position] != vocabulary.part:
        return ()
    first, stop = vocabulary.special["size:1"], position + 1
    while stop < len(row) and first <= row[stop] < first + vocabulary.max_side:
        stop += 1
    if stop == position + 1:
        raise ValueError(f"position {stop} must be a number for the order of the image that is written")
    return tuple((row[position + 1 : stop] - first + 1).tolist())


def role_tokens(vocabulary: Vocabulary) -> dict[int, str]:
    return {vocabulary.special[role]: role for role in ROLES}
