"""The one thread that owns the model."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from unified.server.job import Job
from unified.server.scheduler import Scheduler, place_of

log = logging.getLogger("unified.server")
IDLE = 0.5  # seconds after which a worker without work looks for what has become too old
Result = TypeVar("Result")


class Worker:
    """Runs the ticks of a scheduler and, between them, single calls that need the model. `every`: called when
    nothing was asked for some time, and now and then besides."""

    def __init__(self, scheduler: Scheduler, every: Callable[[], None] | None = None) -> None:
        self.scheduler, self.every = scheduler, every
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._wake, self._stopping = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    @property
    def calls(self) -> int:
        """How many calls wait."""
        return len(self._calls)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After the pass that is running; all that wait are told."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self.scheduler.stop()

    def submit(self, jobs: Sequence[Job]) -> None:
        """`Scheduler.submit`, from any thread."""
        self.scheduler.submit(jobs)
        self._wake.set()

    def call(self, function: Callable[[], Result]) -> Future[Result]:
        """What a function gives that is run on the model's thread, between two passes."""
        future: Future[Result] = Future()
        self._calls.append((function, future))
        self._wake.set()
        return future

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            if not self._turn():
                self._wake.wait(IDLE)
            if self.every is not None:
                self.every()
        for _, future in self._calls:
            future.cancel()

    def _turn(self) -> bool:
        """One tick, and one of the calls. Whether there was anything to do."""
        called = bool(self._calls)
        if called:
            function, future = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except Exception as error:
                    future.set_exception(error)
        try:
            return self.scheduler.tick() or called
        except Exception as error:  # a bug: whoever waits is told, and the server goes on
            log.error("a tick failed: %s at %s", type(error).__name__, place_of(error))
            self.scheduler.stop()
            return called
