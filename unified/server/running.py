"""A job that has a row: how far its turn has come, and what it wants next.

The rules of a turn are those of `apps.answering.Turn`, for one row: text until the model ends the turn or
starts an image, the image, and again.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from unified.decoding.session import Session
from unified.orders.shapes import area
from unified.server.job import Drew, Ended, Failed, Job, Said, Scored
from unified.server.row_sampler import RowSampler
from unified.server.speech import Speech
from unified.stream.processor import Processor

TEXT, IMAGE, DONE = "text", "image", "done"


class Running:
    """`session` and `row`: where its conversation is. `wants`: what comes next, text, an image, or nothing
    (done)."""

    def __init__(self, job: Job, session: Session, processor: Processor, room: int | None) -> None:
        self.job, self.session, self.row, self.processor = job, session, 0, processor
        self.prompt = len(session.rows[0].stream)
        self.room = room  # positions of the model's context
        self.left, self.images = job.settings.max_tokens, 0
        self.speech = Speech(processor.stream.text.decode, job.extras.stop)
        self.wants = IMAGE if job.settings.image_only else TEXT

    # What the next pass is told ----------------------------------------------------------------------------

    @property
    def member(self) -> tuple[Session, int]:
        return self.session, self.row

    @property
    def owes(self) -> bool:
        """Whether the turn needs an image and has none."""
        return self.job.settings.require_image and not self.images

    @property
    def may_draw(self) -> bool:
        settings, positions = self.job.settings, area(self.job.shapes[-1:])
        return settings.allow_images and self.images < settings.max_images and self._fits(positions)

    @property
    def kind(self) -> Hashable:
        """Images of one kind are written in one batch."""
        settings = self.job.settings
        return self.job.shapes, settings.image_sampler, settings.guidance, settings.minimum_risk_width

    def _fits(self, positions: int) -> bool:
        held = int(self.session.context.cache.lengths[self.row]) + len(self.session.rows[self.row].pending)
        return self.room is None or held + positions <= self.room

    # What came of it ---------------------------------------------------------------------------------------

    def hear(self, token: int | None, sampler: RowSampler) -> None:
        """One step of text: an id, or None for the start of an image."""
        words = self.session.vocabulary
        scored = self._scored(token if token is not None else words.write, sampler)
        if token is None:
            self._say(self.speech.flush(), scored)
            self.wants = IMAGE
            return
        self.left -= 1
        is_text = words.is_text(token)
        self._say(self.speech.hear(token) if is_text else self.speech.flush(), scored)
        if token == words.end or self.speech.stopped:
            self._end("stop")
        elif not self.left or not self._fits(1):
            self._spent()

    def _spent(self) -> None:
        """There is no room for more text: the image that is owed, or the end."""
        if self.owes:
            self._say(self.speech.flush(), ())
            self.wants = IMAGE
        else:
            self._end("length")

    def drew(self, image: np.ndarray) -> None:
        """An image is finished, and part of the conversation."""
        self.images += 1
        self.job.tell(Drew(image))
        if self.job.settings.image_only:
            self._end("stop")
        elif not self.left or not self._fits(1):
            self._end("length")
        else:
            self.wants = TEXT

    def check(self) -> None:
        """End what nobody waits for, and what takes too long."""
        if self.job.cancelled:
            self.wants = DONE
        elif self.wants != DONE and self.job.late:
            if self.owes:
                self.fail(504, f"the request ran longer than {self.job.seconds:g} seconds, the limit")
            else:
                self._end("length")

    def fail(self, status: int, message: str) -> None:
        self.wants = DONE
        self.job.tell(Failed(status, message))

    def _end(self, reason: str) -> None:
        self._say(self.speech.flush(), ())
        self.wants = DONE
        said = len(self.session.rows[self.row].stream) - self.prompt
        self.job.tell(Ended(reason, self.prompt, said))

    def _say(self, text: str, scored: tuple[Scored, ...]) -> None:
        if text or scored:
            self.job.tell(Said(text, scored))

    def _scored(self, token: int, sampler: RowSampler) -> tuple[Scored, ...]:
        found = sampler.scores.get(self.row)
        if found is None:
            return ()
        top = tuple((self._name(other), score) for other, score in found[1])
        return (Scored(self._name(token), found[0], top),)

    def _name(self, token: int) -> str:
        words = self.session.vocabulary
        return self.processor.stream.text.decode([token]) if words.is_text(token) else words.name(token)
