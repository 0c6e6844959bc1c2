"""Which jobs run: a bounded queue, a fair order, and rows that are free again as soon as a job is over.

The scheduler is driven by `tick`, on one thread; `submit` may be called on any. Text of all jobs comes from
one pass; images that start in the same tick and are of one kind share theirs; passes of text and of each
batch of images alternate, so none waits for another to finish.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from unified.command import told
from unified.decoding.session import Session
from unified.server.batches import BROKEN, Counts, ImageBatch, TextBatch
from unified.server.job import Failed, Job
from unified.server.limits import Limits
from unified.server.running import AGAIN, DONE, IMAGE, TEXT, Running
from unified.stream.processor import Processor

log = logging.getLogger("unified.server")


class Busy(Exception):
    """The queue is full: try again in `seconds`."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many requests are waiting: try again in {seconds} seconds")
        self.seconds = seconds


class Scheduler:
    """Jobs for one model. `counts`: passes, tokens and images since the start."""

    def __init__(self, model: Any, processor: Processor, limits: Limits) -> None:
        self.model, self.processor, self.limits = model, processor, limits
        self.counts = Counts()
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Job]] = {}  # by client, who came first in front
        self._texts = TextBatch(self.counts, self._failed)
        self._images: list[ImageBatch] = []
        self._between: list[Running] = []  # prefilled, or back from another batch

    @property
    def waiting(self) -> int:
        return sum(map(len, list(self._waiting.values())))

    @property
    def running(self) -> list[Running]:
        """The jobs that have a row."""
        images = [one for batch in self._images for one in batch.members]
        return [one for one in [*self._texts.members, *images, *self._between] if one.wants != DONE]

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take the jobs of one request, all or none. `Busy` where the queue has no room for them."""
        with self._lock:
            free = max(0, self.limits.rows - len(self.running))
            if self.waiting + len(jobs) > self.limits.queue + free:
                raise Busy(1 + self.waiting // self.limits.rows)
            for job in jobs:
                self._waiting.setdefault(job.client, deque()).append(job)

    def tick(self) -> bool:
        """One pass of every batch, after jobs have come and gone. False if there was nothing to do."""
        for one in self.running:
            one.check()
        self._between += self._texts.change([])
        self._admit()
        self._place()
        busy = bool(self._texts.members or self._images)
        self._texts.step()
        batches, self._images = self._images, []
        for batch in batches:
            self._images += batch.step()
            self._between += [] if batch in self._images else _finished(batch, self._images)
        return busy

    def stop(self) -> None:
        """Tell everybody that there is no answer any more."""
        with self._lock:
            jobs = [job for queue in self._waiting.values() for job in queue]
            self._waiting = {}
        jobs += [one.job for one in self.running]
        self._texts, self._images, self._between = TextBatch(self.counts, self._failed), [], []
        for job in jobs:
            job.tell(Failed(503, "the server is stopping"))
            job.cancel()

    # Inside ------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Give the free rows to those who wait."""
        free = self.limits.rows - len(self.running)
        while free > 0 and (job := self._next()) is not None:
            if (one := self._prefilled(job)) is not None:
                self._between.append(one)
                free -= 1

    def _next(self) -> Job | None:
        """The next job: of the client that has the fewest rows, of several the one that waits longest."""
        rows = Counter(one.job.client for one in self.running)
        with self._lock:
            for client, queue in list(self._waiting.items()):
                while queue and queue[0].cancelled:
                    queue.popleft()
                if not queue:
                    del self._waiting[client]
            if not self._waiting:
                return None
            client = min(self._waiting, key=lambda name: rows[name])
            queue = self._waiting.pop(client)
            job = queue.popleft()
            if queue:
                self._waiting[client] = queue  # behind the others
            return job

    def _prefilled(self, job: Job) -> Running | None:
        """A job whose prompt has been read; None if it cannot be."""
        job.begin()
        try:
            session, ids = Session(self.model, seed=[job.seed]), job.prompt.ids(self.processor)
            if len(ids) > self.limits.prompt:
                raise ValueError(f"the prompt has {len(ids)} ids, at most {self.limits.prompt}: shorten it")
            session.feed(ids)
            self.counts.prefills += 1
            return Running(job, session, self.processor, self.model.context_length)
        except ValueError as error:
            job.tell(Failed(400, told(error)))
        except Exception as error:
            self._report(error)
            job.tell(Failed(500, BROKEN))
        return None

    def _place(self) -> None:
        """Put jobs that are in no batch into one for what they want."""
        between, self._between = self._between, []
        for one in between:
            if one.wants == AGAIN:
                self._again(one)
        self._texts.change([one for one in between if one.wants == TEXT])
        drawing = sorted((one for one in between if one.wants == IMAGE), key=lambda one: hash(one.kind))
        for _, members in groupby(drawing, key=lambda one: one.kind):
            self._images.append(ImageBatch(list(members), self.processor, self.counts, self._failed))

    def _again(self, one: Running) -> None:
        try:
            one.again()
        except Exception as error:
            self._failed(one, error)

    def _failed(self, one: Running, error: Exception) -> None:
        self._report(error)
        one.fail(500, BROKEN)

    def _report(self, error: Exception) -> None:
        log.error("a pass failed: %s at %s", type(error).__name__, place_of(error))


def place_of(error: BaseException) -> str:
    """Where an error was raised, for the log: its text may hold what was sent."""
    trace, where = error.__traceback__, ""
    while trace is not None:
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return where


def _finished(batch: ImageBatch, going: Sequence[ImageBatch]) -> list[Running]:
    """The jobs of a batch that is over, without those that began anew in batches of their own."""
    again = {id(one) for other in going for one in other.members}
    return [one for one in batch.members if id(one) not in again]
