"""A long call of the assistant that the model's thread runs piece by piece.

The verbs of the assistant and the chat tell what they do through a callback. So that such a call does not
keep the model from everybody else until its end, it has a thread of its own that runs only while the model's
thread waits for it: from one event to the next.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from unified.server.service import Service

Tell = Callable[[Any], None]


class Errand:
    """`work(tell)` is the call; each `tell` is an event. `advance` and `stop` are called on the model's
    thread."""

    def __init__(self, work: Callable[[Tell], None]) -> None:
        self._work = work
        self._go, self._told = threading.Semaphore(0), threading.Semaphore(0)
        self._event: Any = None
        self._error: BaseException | None = None
        self._stopping = self.over = False
        self._thread = threading.Thread(target=self._run, name="errand", daemon=True)

    def advance(self) -> Any:
        """The next event; None when the call is over. What the call raises is raised here."""
        if self.over:
            return None
        if self._thread.ident is None:
            self._thread.start()
        self._event = None
        self._go.release()
        self._told.acquire()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._event

    def stop(self) -> None:
        """End the call where it is: KeyboardInterrupt is raised at its event, as Ctrl-C does."""
        self._stopping = True
        if self._thread.ident is None:
            self.over = True
        if not self.over:
            self._go.release()
            self._told.acquire()

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._work(self._tell)
        except KeyboardInterrupt:
            pass
        except BaseException as error:
            self._error = error
        self.over = True
        self._told.release()

    def _tell(self, event: Any) -> None:
        if self._stopping:
            return  # what is still said of the end
        self._event = event
        self._told.release()
        self._go.acquire()
        if self._stopping:
            raise KeyboardInterrupt


async def events(service: Service, errand: Errand) -> AsyncIterator[Any]:
    """The events of an errand as they come; if nobody waits for them any more, it is stopped. `ApiError` 429
    where too many calls wait."""
    try:
        while (event := await service.call(errand.advance)) is not None:
            yield event
    finally:
        if not errand.over:
            service.worker.call(errand.stop)
