"""Long traces, a page at a time, for a batch of pictures.

Where every sketch follows from the one before it, the latest sketch is all that has to be remembered. After a
page of so many sketches the conversation begins anew with the latest one as its picture: the context stays
short however long the trace is, and never longer than in training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from unified.apps.answering import Content, GenerationSettings, Turn, images_of
from unified.apps.sketching import SketchLimits
from unified.decoding.drawing import Generator
from unified.decoding.session import Session
from unified.finite import check_count
from unified.orders.shapes import Shapes
from unified.stream.messages import Message
from unified.stream.processor import Processor


@dataclass(frozen=True)
class Answer:
    """The items of an answer, all pages one after another; `cut`: why it was cut, "" where the model ended
    it."""

    content: Content
    cut: str


@dataclass
class _Open:
    """A picture that is being answered."""

    number: int
    picture: np.ndarray
    content: Content
    images: int = 0


def answers_by_pages(
    model: Generator,
    processor: Processor,
    pictures: Sequence[np.ndarray],
    ask: Callable[[np.ndarray], list[Message]],
    settings: GenerationSettings,
    *,
    page: int,
    seed: int = 0,
    given: Callable[[int, int], Sequence[int] | None] | None = None,
) -> list[Answer]:
    """Answers to pictures of one size, uint8 [H, W, 3]. `ask`: the messages that ask about a picture, or a
    sketch in its place. `settings.sketches` limits an answer; its `images` are those of all pages, which are
    counted by whole pages. `given`: codes that take the place of sketch 0, 1, ... of picture n."""
    check_count("page", page, 1)
    limits = settings.sketches or SketchLimits()
    paged = replace(settings, sketches=replace(limits, images=page))
    found = [Answer([], "")] * len(pictures)
    going = [_Open(number, picture, []) for number, picture in enumerate(pictures)]
    while going:
        session = Session(model, rows=len(going), seed=[seed + one.number for one in going])
        session.feed([processor.encode(ask(one.picture), prompt=True) for one in going])
        shapes = _shapes(processor, going[0].picture)
        turn = Turn(session, processor, shapes, paged, _shifted(given, going) if given else None)
        for _ in turn.events():
            pass
        going = _turned(turn, going, found, limits.images)
    return found


def _turned(turn: Turn, going: list[_Open], found: list[Answer], most: int) -> list[_Open]:
    """Note a page, and the answers that are finished with it; returns the others."""
    left = []
    for row, one in enumerate(going):
        page = turn.content(row)
        one.content += page
        one.images += turn.images[row]
        if turn.full[row] and one.images < most:
            one.picture = images_of(page)[-1]
            left.append(one)
        else:
            found[one.number] = Answer(one.content, turn.cuts[row])
    return left


def _shifted(
    given: Callable[[int, int], Sequence[int] | None], going: Sequence[_Open]
) -> Callable[[int, int], Sequence[int] | None]:
    """By row and image of a page instead of by picture and image of the answer."""
    places = [(one.number, one.images) for one in going]
    return lambda row, image: given(places[row][0], places[row][1] + image)


def _shapes(processor: Processor, picture: np.ndarray) -> Shapes:
    """The maps of a drawn image of this size."""
    shapes = processor.image_item(picture, drawn=True)["shapes"]
    return tuple((height, width) for height, width in shapes)
