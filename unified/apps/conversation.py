"""A multi-turn conversation with streamed answers: text as it comes, every decoding step of an image, images.

Its state is a list of ids, from which the session with its KV cache can be rebuilt at any time. So an answer
that is interrupted (Ctrl-C, an error) is closed where it is and the conversation continues, and a
conversation longer than the model's context drops its oldest turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from unified.apps.answering import (
    NUCLEUS,
    WARM,
    Content,
    GenerationSettings,
    ImageDone,
    ImageStep,
    TextIds,
    Turn,
)
from unified.apps.intent import ASKED_FOR, information
from unified.decoding.drawing import Choice, Generator
from unified.decoding.session import Session
from unified.orders.shapes import Shapes
from unified.readers.values import collate_values, latest_values
from unified.stream.items import Encoded
from unified.stream.messages import Message
from unified.stream.processor import Processor
from unified.tokenizers.images import Picture

UNBOUNDED = 16384  # ids of a conversation with a model that does not say how many positions it has
UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what an incomplete UTF-8 character decodes to


@dataclass(frozen=True)
class Text:
    """The next piece of the answer's text."""

    text: str


@dataclass(frozen=True)
class Scale:
    """A finished decoding step of an image: number `step` (from 1) of `steps`, and the decoding of its map,
    uint8 [H, W, 3], where the order writes one map a step."""

    step: int
    steps: int
    image: np.ndarray | None


@dataclass(frozen=True)
class Painted:
    """A finished image, uint8 [H, W, 3]."""

    image: np.ndarray


Event = Text | Scale | Painted


class Unasked(Exception):
    """What the model says or draws is no answer to the message (`intent`)."""


class Conversation:
    """A conversation with one model. `shapes`: the maps of generated images until an image is given, whose
    size they have from then on. `longest`: ids of the conversation, at most; None for as many as the model's
    context has positions. `warm`: settings for another answer to the same message."""

    warm: ClassVar[dict[str, Any]] = {
        "text_sampler": WARM,
        "image_sampler": NUCLEUS,
    }

    def __init__(
        self,
        model: Generator,
        processor: Processor,
        *,
        shapes: Shapes,
        settings: GenerationSettings,
        seed: int = 0,
        longest: int | None = None,
    ) -> None:
        self.model, self.processor, self.settings, self.seed = model, processor, settings, seed
        self.shapes, self.longest = shapes, longest or model.context_length or UNBOUNDED
        self.ids: list[int] = [model.vocabulary.begin]
        self.turns: list[int] = []  # index in `ids` at which each turn starts
        self.values: dict[str, Tensor] = {}  # of placeholders among the ids
        self.forgotten = 0  # number of dropped turns
        self.cut = ""  # why the latest answer was cut, "" where the model ended it
        self.full = False  # whether because it wanted another image than it may have
        self._session: Session | None = None

    def say(
        self, text: str, images: Sequence[Picture] = (), *, draw_unasked: bool = True, **changes: Any
    ) -> Iterator[Event]:
        """Append a user turn of text and images, and stream the answer. `changes`: fields of
        `GenerationSettings` for this turn (`image_only=True`: an image and no text). `draw_unasked` False:
        `Unasked` is raised in place of the first image, or at the end of words alone, that the message has
        not asked for, and the turn is taken back. ValueError, with nothing changed, for a message that is
        empty, malformed, or longer than half of `longest`."""
        if not text.strip() and not len(images):
            raise ValueError("nothing was said: write something or give a picture")
        settings = replace(self.settings, **changes)
        content = [{"type": "image", "image": image} for image in images]
        content += [{"type": "text", "text": text}] if text.strip() else []
        said, most = self._told(content), self.longest // 2
        if len(said.ids) > most:
            raise ValueError(
                f"this message has {len(said.ids)} ids, the model reads {most} at once: shorten it"
            )
        if len(images):
            self.shapes = self._shapes_of(images[-1])
        null = None if draw_unasked else self._told([*content[: len(images)], {"type": "text", "text": ""}])
        return self._answered(said, settings, null)

    def _told(self, content: Content) -> Encoded:
        """Ids of a turn of the user, and the values of its placeholders."""
        return Encoded(self.processor.turn({"role": "user", "content": content}, first=not self.turns), {})

    def saved(self) -> tuple[Any, ...]:
        """What `restore` takes the conversation back to."""
        return list(self.ids), list(self.turns), dict(self.values), self.forgotten, self.shapes

    def restore(self, saved: tuple[Any, ...]) -> None:
        ids, turns, values, self.forgotten, self.shapes = saved
        self.ids, self.turns, self.values, self._session = list(ids), list(turns), dict(values), None

    def messages(self) -> list[Message]:
        """All turns that were not dropped, images with pixels."""
        return self.processor.decode(self.ids)

    # One turn -----------------------------------------------------------------------------------------------

    def _answered(self, said: Encoded, settings: GenerationSettings, null: Encoded | None) -> Iterator[Event]:
        self._make_room(len(said.ids))
        before = self.saved()
        session = self._resumed()
        self.turns.append(len(self.ids))
        self.values = collate_values([self.values, said.values])
        asked = [*said.ids, *session.vocabulary.opening("assistant")]
        try:
            session.feed(asked, values=said.values)
            turn = Turn(session, self.processor, self.shapes, settings)
            yield from self._events(turn, None if null is None else self._gate(asked, null.ids))
            self.cut, self.full = turn.cuts[0], turn.full[0]
        except Unasked:
            self.restore(before)
            raise
        except BaseException:
            self._break_off(session, asked)
            raise
        self.ids = session.streams[0]

    def _gate(self, asked: list[int], null: list[int]) -> Callable[[list[int]], bool]:
        """Whether a turn, which has come to these ids, was asked for the image that it begins."""
        start, opening = len(self.ids) + len(asked), self.model.vocabulary.opening("assistant")
        prompts = [*self.ids, *asked], [*self.ids, *null, *opening]
        return lambda ids: information(self.model, *prompts, ids[start:]) >= ASKED_FOR

    def _events(self, turn: Turn, gate: Callable[[list[int]], bool] | None = None) -> Iterator[Event]:
        speech = _Speech(self.processor)
        for event in turn.events():
            if isinstance(event, ImageStep) and gate is not None:
                if not gate(turn.session.streams[0]):
                    raise Unasked
                gate = None
            if isinstance(event, TextIds):
                piece = speech.hear(event.ids[0])
                if piece:
                    yield Text(piece)
                continue
            if rest := speech.flush():
                yield Text(rest)
            if isinstance(event, ImageStep):
                seen = map_so_far(self.processor, event.choice)
                yield Scale(event.choice.step + 1, len(event.choice.plan.steps), seen)
            elif isinstance(event, ImageDone):
                plan, codes = event.drawing.plan, event.drawing.read()[0].tolist()
                yield Painted(self.processor.picture({"codes": codes, "shapes": plan.read_shapes}))
        if rest := speech.flush():
            yield Text(rest)
        if gate is not None and not gate(turn.session.streams[0]):
            raise Unasked

    def _break_off(self, session: Session, asked: list[int]) -> None:
        """Close an interrupted turn. Its session, which may be inside a step, is discarded."""
        words = self.model.vocabulary
        ids, prompt = session.streams[0], [*self.ids, *asked]
        heard = ids if ids[: len(prompt)] == prompt else prompt
        self.ids = heard if heard[-1] == words.end else [*heard, words.end]
        self._session = None

    # Memory -------------------------------------------------------------------------------------------------

    def _resumed(self) -> Session:
        if self._session is None:
            session = Session(self.model, seed=self.seed, strategy=self.settings.strategy)
            session.feed(self.ids, values=self.values)
            self._session = session  # only now: reading may have been interrupted
        return self._session

    def _make_room(self, coming: int) -> None:
        """Drop the oldest turns until `coming` ids and their answer fit."""
        if len(self.ids) + coming <= self.longest * 3 // 4:
            return
        keep = self.longest // 4
        starts = [start for start in self.turns if len(self.ids) - start <= keep]
        first = starts[0] if starts else len(self.ids)
        self.forgotten += len(self.turns) - len(starts)
        self.ids = [self.model.vocabulary.begin, *self.ids[first:]]
        self.values = latest_values([self.values], [self.ids], self.model.vocabulary)
        self.turns = [start - first + 1 for start in starts]
        self._session = None

    def _shapes_of(self, image: Picture) -> Shapes:
        shapes = self.processor.image_item(image, drawn=True)["shapes"]
        return tuple((height, width) for height, width in shapes)


def map_so_far(processor: Processor, choice: Choice, row: int = 0) -> np.ndarray | None:
    """The decoding of the map that a step finished, uint8 [H, W, 3]; None for orders without such maps."""
    shape = choice.plan.step_shape(choice.step)
    if processor.order != "next_scale" or len(choice.slots) != shape[0] * shape[1]:
        return None
    return processor.picture({"codes": choice.codes[row].tolist(), "shapes": [shape]})


def note(content: Content, event: Event) -> None:
    """Add what an event brings to the items of an answer."""
    if isinstance(event, Painted):
        content.append({"type": "image", "image": event.image})
    elif isinstance(event, Text) and content and content[-1]["type"] == "text":
        content[-1]["text"] += event.text
    elif isinstance(event, Text):
        content.append({"type": "text", "text": event.text})


class _Speech:
    """Incremental decoding of ids to text; bytes of an incomplete character are held until the rest comes."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor
        self.ids: list[int] = []

    def hear(self, token: int | None) -> str:
        words = self.processor.vocabulary
        if token is None or not words.is_text(token):
            return self.flush()
        self.ids.append(token)
        text: str = self.processor.stream.text.decode(self.ids)
        if text.endswith(UNFINISHED) and len(self.ids) < 4:
            return ""
        return self.flush()

    def flush(self) -> str:
        text: str = self.processor.stream.text.decode(self.ids) if self.ids else ""
        self.ids = []
        return text
