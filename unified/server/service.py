"""What the routes share: the assistant, the worker, and how jobs of a request are made and heard."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from unified.apps.answering import GenerationSettings
from unified.command import told
from unified.orders.shapes import Shapes
from unified.server.batches import seed_of
from unified.server.errors import ApiError
from unified.server.job import Ended, Event, Extras, Failed, Job, Prompt
from unified.server.limits import Limits
from unified.server.scheduler import Busy
from unified.server.schema import MOST_SEED
from unified.server.worker import Worker

Result = TypeVar("Result")
GONE = 499  # of a client that has left: nobody reads it


class Answers:
    """The events of the jobs of one request, in order of arrival."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self.jobs: list[Job] = []

    def listener(self, number: int) -> Callable[[Event], None]:
        """What job `number` tells its events; called on the worker's thread."""

        def tell(event: Event) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._queue.put_nowait, (number, event))

        return tell

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Until all jobs are over. `ApiError` for one that failed, and the others are cancelled."""
        left = len(self.jobs)
        try:
            while left:
                number, event = await self._queue.get()
                if isinstance(event, Failed):
                    raise ApiError(event.status, event.message)
                yield number, event
                left -= isinstance(event, Ended)
        finally:
            self.cancel()

    def cancel(self) -> None:
        for job in self.jobs:
            job.cancel()


class Service:
    """`name`: of the model, as clients call it."""

    def __init__(self, assistant: Any, worker: Worker, limits: Limits, name: str) -> None:
        self.assistant, self.worker, self.limits, self.name = assistant, worker, limits, name
        self.created = int(time.time())

    def check_model(self, name: str | None) -> None:
        """`ApiError` for another model than this one."""
        if name is not None and name != self.name:
            raise ApiError(
                404, f"there is no such model here: the only one is {self.name!r}",
                param="model", code="model_not_found",
            )  # fmt: skip

    def check_most(self, param: str, value: int, most: int) -> int:
        if value > most:
            raise ApiError(400, f"{param} is at most {most} on this server, got {value}", param=param)
        return value

    def shapes(self, size: tuple[int, int], param: str | None = None) -> Shapes:
        """The maps of an image of (height, width) pixels. `ApiError` for a size that the model has not."""
        try:
            found: Shapes = self.assistant.shapes(size)
            return found
        except ValueError as error:
            raise ApiError(400, told(error), param=param) from None

    def ask(
        self,
        prompt: Prompt,
        settings: Sequence[GenerationSettings],
        shapes: Shapes,
        seed: int | None,
        client: str,
        extras: Extras,
    ) -> Answers:
        """Submit a job for each of the settings. `ApiError` 429 where the queue is full."""
        answers = Answers()
        own = secrets.randbelow(MOST_SEED) if seed is None else seed % MOST_SEED
        seconds = self.limits.request.seconds
        answers.jobs = [
            Job(prompt, each, shapes, seed_of(own, number), answers.listener(number), client, seconds, extras)
            for number, each in enumerate(settings)
        ]
        try:
            self.worker.submit(answers.jobs)
        except Busy as busy:
            headers = {"retry-after": str(busy.seconds)}
            raise ApiError(429, str(busy), code="queue_full", headers=headers) from None
        return answers

    async def call(self, function: Callable[[], Result]) -> Result:
        """What a function gives that runs on the model's thread. `ApiError` 429 where too many wait."""
        if self.worker.calls > self.limits.queue:
            raise ApiError(429, "too many requests are waiting", headers={"retry-after": "1"})
        future: Future[Result] = self.worker.call(function)
        return await asyncio.wrap_future(future)


async def until_left(request: Request, work: Awaitable[Response], cancel: Callable[[], None]) -> Response:
    """The response, or none any more when the client has left; `cancel` is then called at once."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            cancel()
            return Response(status_code=GONE)
        return await task
    finally:
        cancel()
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _left(request: Request) -> None:
    """Until the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Stream(Response):
    """Server-sent events. When the client leaves, at whatever moment, `cancel` is called at once."""

    def __init__(self, request: Request, lines: AsyncIterator[str], cancel: Callable[[], None]) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self.request, self.lines, self.cancel = request, lines, cancel

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await until_left(self.request, self._send(send), self.cancel)

    async def _send(self, send: Any) -> Response:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for line in self.lines:
            await send({"type": "http.response.body", "body": line.encode("ascii"), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return self
