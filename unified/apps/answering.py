"""Generation of one assistant turn of interleaved text and images, for a batch of conversations.

The loop behind every verb: `Session.text` until a row ends its turn or starts an image, `Session.image` for
the rows that started one, and again. A row whose turn has ended keeps running with its batch; ids generated
after its end are not part of its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from unified.apps.answer import Token, tokens_of
from unified.apps.sketching import SketchLimits, Watch, by_shapes
from unified.decoding.drawing import Choice, Drawing, Generator, Hook
from unified.decoding.grounding import Contrast, as_contrast
from unified.decoding.guidance import Guidance
from unified.decoding.minimum_risk import minimum_risk_decoding
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import Strategy
from unified.finite import check_count, check_number
from unified.orders.shapes import Shapes
from unified.stream.messages import Message
from unified.stream.processor import Processor
from unified.stream.segments import well_formed

Content = list[dict[str, Any]]
Given = Callable[[int, int], Sequence[int] | None]  # codes in slot order of a row's image of this number
GREEDY = Sampler(temperature=0)
NUCLEUS = Sampler(temperature=0.3, top_p=0.7)
WARM = Sampler(temperature=0.7, top_p=0.9)
SEED_STRIDE = 1_000_003  # difference between the seeds of two runs, so that no two rows share one


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """Generation settings of one assistant turn. All limits are per turn and row.

    `max_tokens`, `max_images`: at least 1 and 0. `allow_images`: the model may start an image whenever it
    chooses to. `image_only`: the turn is one image without text. `require_image`: the turn cannot end before
    an image was written. `image_after`: text after which an image is written whether the model asks for one
    or not (Latent Sketchpad, arXiv 2510.24514). `visual_contrast`: weight of visual contrastive decoding of
    text (`guidance.contrasted`), 0 is off, or another contrast (`decoding.grounding`). `guidance`:
    classifier-free guidance of images, None is off. `minimum_risk_width`: kernel width of minimum-risk
    decoding of image codes (`decoding.minimum_risk`), 0 is off; only with a greedy `image_sampler`, and
    without effect on heads of several symbols.
    `sketches`: the model decides what it draws, and a turn that goes over one of these limits is cut, in
    place of `max_images`, from which on it may open no image. `strategy`: of decoding; None is one pass a
    step. `hook`: may overwrite the codes of each step of an image (in-painting, `decoding.editing`).
    ValueError for a limit or a weight out of range."""

    text_sampler: Sampler = GREEDY
    visual_contrast: float | Contrast = 0.0
    image_sampler: Sampler = NUCLEUS
    guidance: Guidance | None = None
    minimum_risk_width: float = 0.0
    max_tokens: int = 256
    max_images: int = 4
    allow_images: bool = True
    image_only: bool = False
    require_image: bool = False
    image_after: str = ""
    sketches: SketchLimits | None = None
    strategy: Strategy | None = None
    hook: Hook | None = None

    def __post_init__(self) -> None:
        check_count("max_tokens", self.max_tokens, 1)
        check_count("max_images", self.max_images)
        check_number("minimum_risk_width", self.minimum_risk_width, 0)
        as_contrast(self.visual_contrast)  # what is out of range is refused here


@dataclass(frozen=True)
class TextIds:
    """One new id of text per row, None for a row whose turn has ended or that generates an image."""

    ids: list[int | None]


@dataclass(frozen=True)
class ImageStep:
    """One decoding step of the images being generated in `rows`."""

    choice: Choice
    rows: list[bool]


@dataclass(frozen=True)
class ImageDone:
    """The images of `rows` are finished."""

    drawing: Drawing
    rows: list[bool]


class Turn:
    """One assistant turn in every row of a session: run `events` to the end, then call `content`. `shapes`:
    the maps of generated images. `given`: codes that take the place of those of a row's image 0, 1, ...,
    None for its own. `cuts`: why each row's turn was cut, "" where the model ended it; `full`: whether
    because it wanted another image than it may have."""

    def __init__(
        self,
        session: Session,
        processor: Processor,
        shapes: Shapes,
        settings: GenerationSettings,
        given: Given | None = None,
    ) -> None:
        self.given = given
        self.session, self.processor, self.shapes, self.settings = session, processor, shapes, settings
        self.starts = [len(row.stream) for row in session.rows]
        self.stops = [0] * len(session.rows)  # length of the stream at the end of the turn; 0: not ended
        self.images = [0] * len(session.rows)
        self.text_ids: list[list[int]] = [[] for _ in session.rows]  # ids of text since the last image
        self.left = [settings.max_tokens] * len(session.rows)
        self.cuts, self.full = [""] * len(session.rows), [False] * len(session.rows)
        self.watch = Watch(settings.sketches) if settings.sketches else None
        self.minimum_risk = minimum_risk_decoding(
            session.model, processor, settings.image_sampler, settings.minimum_risk_width
        )

    def events(self) -> Iterator[TextIds | ImageStep | ImageDone]:
        """Generate the turn, yielding ids and steps as they come."""
        if self.settings.image_only:
            yield from self._image(self.shapes, [True] * len(self.stops))
        else:
            while not all(self.stops):
                yield from self._text()
                for shapes, rows in by_shapes(self._wants()):
                    yield from self._image(shapes, rows)
                self._cut()
        self._close([True] * len(self.stops))

    def content(self, number: int) -> Content:
        """The items of row `number`'s turn (text, images with pixels, actions). What is not well formed is
        cut off it."""
        words = self.session.vocabulary
        ids = self.session.rows[number].stream[self.starts[number] : self.stops[number] or None]
        kept, why = well_formed([words.begin, words.assistant, *ids], words)
        self.cuts[number] = why or self.cuts[number]
        return self.processor.decode(kept)[0]["content"]

    def tokens(self, number: int) -> list[Token]:
        """The ids of row `number`'s turn and, if the session records them, their log-probabilities."""
        row, words = self.session.rows[number], self.session.vocabulary
        span = slice(self.starts[number], self.stops[number] or None)

        def text(token: int) -> str:
            is_text = words.is_text(token)
            return self.processor.stream.text.decode([token]) if is_text else words.name(token)

        return tokens_of(row.stream[span], row.log_probs()[span], text)

    def _missing(self) -> list[bool]:
        """Rows whose turn needs an image and has none."""
        return [self.settings.require_image and not count for count in self.images]

    def _wants(self) -> list[Shapes | None]:
        """The maps of the image that each row generates next: it started one, or has no tokens left and needs
        one. None for the others."""
        waiting = zip(self.stops, self.session.stopped(), self.left, self._missing(), strict=True)
        wants = [not stop and (why == "write" or (not left and owes)) for stop, why, left, owes in waiting]
        return [self._shapes(row) if want else None for row, want in enumerate(wants)]

    def _shapes(self, row: int) -> Shapes | None:
        """The maps of the image that a row wants; None if that would go over a limit, which cuts its turn."""
        if self.watch is None:
            return self.shapes
        text: str = self.processor.stream.text.decode(self.text_ids[row])
        shapes = self.watch.limits.shapes(self.shapes, text)
        self.full[row] = self.images[row] >= self.watch.limits.images
        self.cuts[row] = self.watch.late() or self.watch.refused(
            self.images[row], len(self.session.rows[row].stream) - self.starts[row], shapes
        )
        return None if self.cuts[row] else shapes

    def _cut(self) -> None:
        """End the turns that have gone over a limit."""
        late = self.watch.late() if self.watch else ""
        for row, stop in enumerate(self.stops):
            if stop or self.cuts[row]:
                continue
            ids = len(self.session.rows[row].stream) - self.starts[row]
            spent = (
                "" if self.left[row] else f"it never ended: {self.settings.max_tokens} ids of text, the limit"
            )
            self.cuts[row] = spent or late or (self.watch.long(ids) if self.watch else "")
        over = [bool(why) and not stop for why, stop in zip(self.cuts, self.stops, strict=True)]
        if any(over):
            self._close(over)

    def _text(self) -> Iterator[TextIds]:
        limits = self.settings
        free = self.watch is not None  # over its limit a turn is cut
        draw = [limits.allow_images and (free or count < limits.max_images) for count in self.images]
        end = [not missing for missing in self._missing()]
        most = max(left for left, stop in zip(self.left, self.stops, strict=True) if not stop)
        tokens = self.session.text(
            sampler=self.settings.text_sampler,
            max_tokens=most,
            draw=draw,
            end=end,
            visual_contrast=self.settings.visual_contrast,
        )
        for ids in tokens:
            new = [None if self.stops[row] else token for row, token in enumerate(ids)]
            for row, token in enumerate(new):
                self._count(row, token)
            if any(token is not None for token in new):
                yield TextIds(new)
            if self._over():
                return
            if all(stop or why for stop, why in zip(self.stops, self.session.stopped(), strict=True)):
                return

    def _count(self, row: int, token: int | None) -> None:
        """Update limits and stops of a row after a new id."""
        if token is None:
            return
        self.left[row] -= 1
        if not self.left[row]:
            self.session.rows[row].stopped = "length"
        if token == self.session.vocabulary.end:
            self.stops[row] = len(self.session.rows[row].stream)
        elif self.session.vocabulary.is_text(token):
            self.text_ids[row].append(token)
            if self._calls_image(row):
                self.session.rows[row].stopped = "write"

    def _over(self) -> bool:
        """Whether the time is over, or a row that still goes on has too many ids."""
        if self.watch is None:
            return False
        going = zip(self.stops, self.session.rows, self.starts, strict=True)
        longest = max((len(row.stream) - start for stop, row, start in going if not stop), default=0)
        return bool(self.watch.late() or self.watch.long(longest))

    def _calls_image(self, row: int) -> bool:
        """Whether the row's text ends with `image_after` and it may have another image."""
        after = self.settings.image_after
        if not after or (self.watch is None and self.images[row] >= self.settings.max_images):
            return False
        text: str = self.processor.stream.text.decode(self.text_ids[row][-len(after.encode()) :])
        return text.endswith(after)

    def _image(self, shapes: Shapes, rows: list[bool]) -> Iterator[ImageStep | ImageDone]:
        """An image in these rows; if the time is over in the middle of it, it is as if it had not begun."""
        settings = self.settings
        steps = self.session.image(
            shapes,
            order=self.processor.order,
            sampler=settings.image_sampler,
            guidance=settings.guidance,
            minimum_risk=self.minimum_risk,
            hook=self._replaced(rows) if self.given else settings.hook,
            rows=rows,
        )
        for choice in steps:
            yield ImageStep(choice, rows)
            if self.watch and self.watch.late():
                steps.close()  # type: ignore[attr-defined]
                return
        for row, drawn in enumerate(rows):
            self.images[row] += drawn
            self.text_ids[row] = [] if drawn else self.text_ids[row]
        yield ImageDone(self.session.drawing, rows)

    def _replaced(self, rows: list[bool]) -> Hook:
        """A hook that puts the codes that are given in the place of those that were chosen."""
        assert self.given is not None
        found = {row: self.given(row, self.images[row]) for row, drawn in enumerate(rows) if drawn}
        codes = {row: torch.as_tensor(some) for row, some in found.items() if some is not None}

        def hook(choice: Choice) -> Choice:
            chosen = choice.codes.clone()
            for row, some in codes.items():
                chosen[row] = some.to(chosen)[choice.slots]
            return replace(choice, codes=chosen)

        return hook

    def _close(self, rows: list[bool]) -> None:
        """Append `end` to those of these rows whose turn has not ended."""
        end = self.session.vocabulary.end
        open_rows = [close and not stop for close, stop in zip(rows, self.stops, strict=True)]
        self.session.feed([[end] if found else [] for found in open_rows])
        for row, found in enumerate(open_rows):
            self.stops[row] = len(self.session.rows[row].stream) if found else self.stops[row]


def text_of(content: Content) -> str:
    """The text of an answer, stripped."""
    return "".join(item["text"] for item in content if item["type"] == "text").strip()


def images_of(content: Content) -> list[np.ndarray]:
    """The images of an answer in order, each uint8 [H, W, 3]."""
    return [item["image"] for item in content if item["type"] == "image"]


def answers(
    model: Generator,
    processor: Processor,
    prompts: Sequence[Sequence[Message]],
    shapes: Shapes,
    settings: GenerationSettings,
    *,
    seed: int = 0,
    batch: int = 16,
    numbers: Sequence[int] | None = None,
) -> Iterator[Content]:
    """The answer to each conversation, generated `batch` at a time. Each depends on `seed` and its number
    alone, not on the batch; `numbers`: 0, 1, 2, ... if not given. `shapes`: the maps of generated images."""
    for turn in turns(model, processor, prompts, shapes, settings, seed=seed, batch=batch, numbers=numbers):
        yield from (turn.content(number) for number in range(len(turn.stops)))


def turns(
    model: Generator,
    processor: Processor,
    prompts: Sequence[Sequence[Message]],
    shapes: Shapes,
    settings: GenerationSettings,
    *,
    seed: int = 0,
    batch: int = 16,
    numbers: Sequence[int] | None = None,
    log_probs: bool = False,
) -> Iterator[Turn]:
    """The finished turns of `answers`, one of up to `batch` rows at a time; `log_probs`: recorded."""
    numbers = range(len(prompts)) if numbers is None else numbers
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        seeds = [seed * SEED_STRIDE + number for number in numbers[start : start + batch]]
        session = Session(model, rows=len(part), seed=seeds, strategy=settings.strategy)
        if log_probs:
            session.record_log_probs()
        session.feed([processor.encode(messages, prompt=True) for messages in part])
        turn = Turn(session, processor, shapes, settings)
        for _ in turn.events():
            pass
        yield turn
