"""A job that has a row: how far its turn has come, and what it wants next.

The rules of a turn are those of `apps.answering.Turn`, for one row: text until the model ends the turn or
starts an image, the image, and again.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from unified.apps.intent import ASKED_FOR, information
from unified.decoding.session import Session
from unified.orders.shapes import area
from unified.server.job import Drew, Ended, Failed, Job, Said, Scored
from unified.server.row_sampler import RowSampler
from unified.server.speech import Speech
from unified.stream.processor import Processor

TEXT, IMAGE, AGAIN, DONE = "text", "image", "again", "done"
HELD = 40  # letters that are held until it is known whether they introduce an image that nobody asked for


class Running:
    """`session` and `row`: where its conversation is. `wants`: what comes next: text, an image, text without
    images (`again`), or nothing (done)."""

    def __init__(self, job: Job, session: Session, processor: Processor, room: int | None) -> None:
        self.job, self.session, self.row, self.processor = job, session, 0, processor
        self.prompt = len(session.rows[0].stream)
        self.room = room  # positions of the model's context
        self.left, self.images = job.settings.max_tokens, 0
        self.speech = Speech(processor.stream.text.decode, job.extras.stop)
        self.held: list[Said] | None = [] if job.extras.asked else None  # None: everything is told at once
        self.checks, self.blocked = job.extras.asked, False  # whether an image is asked for; it is not
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
        allowed = settings.allow_images and not self.blocked and self.images < settings.max_images
        return allowed and self._fits(positions)

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
            self._start_image()
            return
        self.left -= 1
        is_text = words.is_text(token)
        self._say(self.speech.hear(token) if is_text else self.speech.flush(), scored)
        if token == words.end or self.speech.stopped:
            self._end("stop")
        elif not self.left or not self._fits(1):
            self._spent()

    def _start_image(self) -> None:
        """The model starts an image: it is written, unless it must be asked for and is not."""
        if self.checks and self._information() < ASKED_FOR:
            self.blocked, self.wants = True, AGAIN
            return
        self.checks = False
        self._release()
        self.wants = IMAGE

    def _information(self) -> float:
        """How much likelier what was said is after the message than after an empty one, in nats."""
        asked, prompt = self.session.rows[self.row].stream, self.job.prompt
        null = prompt.null_ids(self.processor)
        return information(self.session.model, asked[: self.prompt], null, asked[self.prompt :])

    def again(self) -> None:
        """Go on without images: from the prompt on where nothing was told yet, else from here."""
        self.wants = TEXT
        if self.held is None:
            return
        self.held, self.left = [], self.job.settings.max_tokens
        self.speech = Speech(self.processor.stream.text.decode, self.job.extras.stop)
        prompt, model = self.session.rows[self.row].stream[: self.prompt], self.session.model
        self.session, self.row = Session(model, seed=[self.job.seed]), 0
        self.session.feed(prompt)

    def _spent(self) -> None:
        """There is no room for more text: the image that is owed, or the end."""
        if self.owes:
            self._say(self.speech.flush(), ())
            self._release()
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
        self._release()
        self.wants = DONE
        said = len(self.session.rows[self.row].stream) - self.prompt
        self.job.tell(Ended(reason, self.prompt, said))

    def _say(self, text: str, scored: tuple[Scored, ...]) -> None:
        if not text and not scored:
            return
        if self.held is None:
            self.job.tell(Said(text, scored))
            return
        self.held.append(Said(text, scored))
        if sum(len(said.text) for said in self.held) > HELD:
            self._release()

    def _release(self) -> None:
        """Tell what was held, and from now on everything at once."""
        held, self.held = self.held or [], None
        for said in held:
            self.job.tell(said)

    def _scored(self, token: int, sampler: RowSampler) -> tuple[Scored, ...]:
        found = sampler.scores.get(self.row)
        if found is None:
            return ()
        top = tuple((self._name(other), score) for other, score in found[1])
        return (Scored(self._name(token), found[0], top),)

    def _name(self, token: int) -> str:
        words = self.session.vocabulary
        return self.processor.stream.text.decode([token]) if words.is_text(token) else words.name(token)
