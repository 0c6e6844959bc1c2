"""Batches of running jobs: one whose rows say text, and those whose rows write images of one kind.

A step is one pass of the model for all rows of a batch. If it raises, its rows take the step one by one, and
those that raise alone have failed: no job harms another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unified.apps.answering import SEED_STRIDE
from unified.apps.conversation import map_so_far
from unified.decoding.drawing import Choice, Hook
from unified.decoding.gather import gathered
from unified.decoding.minimum_risk import minimum_risk_decoding
from unified.decoding.session import Session
from unified.orders import plan_for
from unified.server.job import Wrote
from unified.server.row_sampler import RowSampler
from unified.server.running import IMAGE, TEXT, Running
from unified.stream.processor import Processor

BROKEN = "the model failed on this request"


@dataclass
class Counts:
    """Passes and what came of them, since the start."""

    text_passes: int = 0
    image_passes: int = 0
    prefills: int = 0
    tokens: int = 0
    images: int = 0


def session_of(members: Sequence[Running]) -> Session:
    """A session of the rows of these jobs, which are told their places in it."""
    session = gathered([one.member for one in members], [one.job.seed for one in members])
    for row, one in enumerate(members):
        one.session, one.row = session, row
    return session


class TextBatch:
    """The jobs that say text. Members come and go between steps; `counts` and `failed` (called with a job
    that raised) are the scheduler's."""

    def __init__(self, counts: Counts, failed: Callable[[Running, Exception], None]) -> None:
        self.counts, self.failed = counts, failed
        self.members: list[Running] = []
        self._steps: Iterator[list[int | None]] | None = None
        self._sampler: RowSampler

    def change(self, new: Sequence[Running]) -> list[Running]:
        """Let jobs in, and those out that want no more text: the latter."""
        gone = [one for one in self.members if one.wants != TEXT]
        if new or gone:
            self._steps = None  # the session that it goes on with is left as it is
            self.members = [one for one in self.members if one.wants == TEXT] + list(new)
        return gone

    def step(self) -> None:
        """One more id in every row."""
        if not self.members:
            return
        try:
            self._step()
        except Exception as error:
            self._steps = None
            if len(self.members) == 1:
                self.failed(self.members[0], error)
                return
            for one in self.members:
                alone = TextBatch(self.counts, self.failed)
                alone.change([one])
                alone.step()

    def _step(self) -> None:
        if self._steps is None:
            self._steps = self._begin()
        ids = next(self._steps, [None] * len(self.members))  # it is over when all rows start images
        self.counts.text_passes += 1
        self.counts.tokens += sum(token is not None for token in ids)
        for one, token in zip(self.members, ids, strict=True):
            self._tell(one, token)

    def _tell(self, one: Running, token: int | None) -> None:
        try:
            one.hear(token, self._sampler)
        except Exception as error:  # the others have their ids and go on
            self.failed(one, error)

    def _begin(self) -> Iterator[list[int | None]]:
        session, members = session_of(self.members), self.members
        self._sampler = RowSampler(
            [one.job.settings.text_sampler for one in members], [one.job.extras.top for one in members]
        )
        sampler: Any = self._sampler  # draws by rows what a `Sampler` draws for all
        return session.text(
            sampler=sampler,
            max_tokens=max(one.left for one in members) + 1,
            draw=[one.may_draw for one in members],
            end=[not one.owes for one in members],
        )


class ImageBatch:
    """Jobs that write images of one kind, from the first step to the last together. A job that is cancelled
    meanwhile is written along, and nobody is told."""

    def __init__(
        self,
        members: Sequence[Running],
        processor: Processor,
        counts: Counts,
        failed: Callable[[Running, Exception], None],
    ) -> None:
        self.members, self.processor, self.counts, self.failed = list(members), processor, counts, failed
        self._origins = [one.member for one in members]
        self._steps: Iterator[Choice] | None = None

    @property
    def waited_for(self) -> list[Running]:
        return [one for one in self.members if one.wants == IMAGE]

    def step(self) -> list[ImageBatch]:
        """One more step of the images: the batches that go on, none when they are finished."""
        if not self.waited_for:
            return []
        try:
            return [self] if self._step() else []
        except Exception as error:
            if len(self.members) == 1:
                self.failed(self.members[0], error)
                return []
            for one, origin in zip(self.members, self._origins, strict=True):
                one.session, one.row = origin
            return [self._of([one]) for one in self.waited_for]

    def _of(self, members: Sequence[Running]) -> ImageBatch:
        return ImageBatch(members, self.processor, self.counts, self.failed)

    def _step(self) -> bool:
        if self._steps is None:
            self._steps = self._begin()
        choice = next(self._steps)
        self.counts.image_passes += 1
        for one in self.waited_for:
            if one.job.extras.maps:
                seen = map_so_far(self.processor, choice, one.row)
                one.job.tell(Wrote(choice.step + 1, len(choice.plan.steps), seen))
        if choice.step + 1 < len(choice.plan.steps):
            return True
        next(self._steps, None)  # appends the images to the conversations
        self._finish()
        return False

    def _begin(self) -> Iterator[Choice]:
        session, job = session_of(self.members), self.members[0].job
        settings, order = job.settings, self.processor.order
        return session.image(
            job.shapes,
            order=order,
            sampler=settings.image_sampler,
            guidance=settings.guidance,
            minimum_risk=minimum_risk_decoding(
                session.model, self.processor, settings.image_sampler, settings.minimum_risk_width
            ),
            hook=self._hook(order),
        )

    def _hook(self, order: str) -> Hook | None:
        """The hooks of the jobs, each for its own row."""
        plan = plan_for(order, self.members[0].job.shapes)
        made = {row: one.job.extras.hook for row, one in enumerate(self.members)}
        hooks = {row: make(plan) for row, make in made.items() if make is not None}
        if not hooks:
            return None

        def every(choice: Choice) -> Choice:
            codes, log_probs = choice.codes.clone(), choice.log_probs.clone()
            for row, hook in hooks.items():
                changed = hook(choice)
                codes[row], log_probs[row] = changed.codes[row], changed.log_probs[row]
            return replace(choice, codes=codes, log_probs=log_probs)

        return every

    def _finish(self) -> None:
        session = self.members[0].session
        session.read_pending()
        drawing = session.drawing
        shapes, codes = drawing.plan.read_shapes, drawing.read().tolist()
        images = [self.processor.picture({"codes": each, "shapes": shapes}) for each in codes]
        for one in self.waited_for:
            self.counts.images += 1
            one.drew(images[one.row])


def seed_of(seed: int, number: int) -> int:
    """The seed of answer `number` to a request, as `apps.answering.answers` has it."""
    return seed * SEED_STRIDE + number
