"""One answer that is to be generated, and what is told of it while it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from unified.apps.answering import GenerationSettings
from unified.decoding.drawing import Hook
from unified.orders import Plan
from unified.orders.shapes import Shapes
from unified.stream.messages import Message
from unified.stream.processor import Processor


@dataclass(frozen=True)
class Scored:
    """A token that was said: its text, its log-probability in nats among the ids that might come, before
    temperature and filters, and the likeliest ids there with theirs."""

    text: str
    log_prob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Said:
    """The next piece of text, and the tokens since the last event where they are scored."""

    text: str
    tokens: tuple[Scored, ...] = ()


@dataclass(frozen=True)
class Wrote:
    """A finished decoding step of an image: number `step` (from 1) of `steps`, and the decoding of its map,
    uint8 [H, W, 3], where the order writes one map a step."""

    step: int
    steps: int
    image: np.ndarray | None


@dataclass(frozen=True)
class Drew:
    """A finished image, uint8 [H, W, 3]."""

    image: np.ndarray


@dataclass(frozen=True)
class Ended:
    """The answer is over: `reason` "stop" or "length"; ids of the prompt and of the answer."""

    reason: str
    prompt: int
    said: int


@dataclass(frozen=True)
class Failed:
    """There is no answer, or none to the end: the status that HTTP has for it, and one sentence."""

    status: int
    message: str


Event = Said | Wrote | Drew | Ended | Failed


class Prompt:
    """A conversation that is to be answered, read once for all answers to it. Images are pixels: no path and
    no address is in it."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self._ids: list[int] = []
        self._null: list[int] = []

    def ids(self, processor: Processor) -> list[int]:
        """Its ids. ValueError for what the model cannot read."""
        if not self._ids:
            self._ids = processor.encode(self.messages, prompt=True)
        return self._ids

    def null_ids(self, processor: Processor) -> list[int]:
        """The same with no words in the last message (`apps.intent`)."""
        if not self._null:
            *before, last = self.messages
            content = [] if isinstance(last["content"], str) else last["content"]
            images = [item for item in content if item["type"] == "image"]
            null = {**last, "content": [*images, {"type": "text", "text": ""}]}
            self._null = processor.encode([*before, null], prompt=True)
        return self._null


@dataclass(frozen=True, kw_only=True)
class Extras:
    """`stop`: strings before which the text ends. `top`: how many of the likeliest ids are told with each
    token; None: tokens are not scored. `hook`: made for the plan of an image, it overwrites its codes
    (in-painting). `asked`: images are drawn only where the message asks for them (`apps.intent`). `maps`:
    each decoding step of an image is told, too."""

    stop: tuple[str, ...] = ()
    top: int | None = None
    asked: bool = False
    hook: Callable[[Plan], Hook] | None = None
    maps: bool = False


@dataclass
class Job:
    """One answer. `shapes`: the maps of the images that it draws; `seed`: of its noise; `client`: who asked,
    for a fair order; `tell` is called on the worker's thread."""

    prompt: Prompt
    settings: GenerationSettings
    shapes: Shapes
    seed: int
    tell: Callable[[Event], None]
    client: str = ""
    seconds: float = 120.0
    extras: Extras = Extras()
    cancelled: bool = field(default=False, init=False)
    deadline: float = field(default=float("inf"), init=False)

    def cancel(self) -> None:
        """Nobody waits for it any more: its row becomes free before the next pass. From any thread."""
        self.cancelled = True

    def begin(self) -> None:
        """Its time begins to run."""
        self.deadline = time.monotonic() + self.seconds

    @property
    def late(self) -> bool:
        return time.monotonic() > self.deadline
