"""What a suite is given, and what it hands back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from unified.eval.metrics.rates import Estimate
from unified.tasks.sample import Sample

from unified.apps.answering import Content, GenerationSettings, answers
from unified.apps.assistant import Assistant, another
from unified.apps.best_of_n import TRIES, best_of_n
from unified.apps.looking import LOOKING, only_list
from unified.apps.rollout import Rollout
from unified.decoding.sampling import Sampler

Cell = str | float | int | Estimate | None
DATA_SEED = 1  # of the samples that are evaluated; the model's own seed is another


def _same(settings: GenerationSettings) -> GenerationSettings:
    return settings


@dataclass(frozen=True, kw_only=True)
class Switched:
    """How a run differs from the model as it is used: changed `settings` of every answer, a `rollout` changed
    in place, fewer `tries` of best-of-n, no `look` at a picture before an answer."""

    settings: Callable[[GenerationSettings], GenerationSettings] = _same
    rollout: Callable[[Rollout], None] = lambda rollout: None
    tries: int = TRIES
    look: bool = True


@dataclass(frozen=True, kw_only=True)
class Run:
    """`count` samples per measurement from `split`; `batch` conversations at once; `lpips`: the files of a
    backbone and of LPIPS's linear weights; `recordings`: a folder of play whose clips `world` takes in place
    of the voxel world's; `switched`: what is off."""

    assistant: Assistant
    count: int = 200
    batch: int = 16
    split: str = "test"
    inverse: Path | None = None
    lpips: tuple[Path, Path] | None = None
    recordings: Path | None = None
    switched: Switched = field(default_factory=Switched)

    def answers(
        self, samples: Sequence[Sample], settings: GenerationSettings, prompts: Sequence[Any] | None = None
    ) -> list[Content]:
        """The model's answer to each sample (or to other prompts), pictures of the usual size."""
        asked = [sample.messages[:-1] for sample in samples] if prompts is None else prompts
        return self._answers(asked, settings, range(len(asked)))

    def best_of_n_answers(self, samples: Sequence[Sample], settings: GenerationSettings) -> list[Content]:
        """The model's answers with images, best of n as `Assistant.draw` and `edit` do."""
        asked = [sample.messages[:-1] for sample in samples]

        def draw(numbers: Sequence[int], attempt: int) -> list[Content]:
            prompts = [asked[number] for number in numbers]
            return self._answers(prompts, another(settings, attempt), numbers, attempt)

        def look(pictures: Sequence[np.ndarray]) -> list[Content]:
            return self.answers([], LOOKING, [only_list(picture) for picture in pictures])

        return best_of_n(len(samples), draw, look, self.switched.tries)

    def rollout(
        self, first: Sequence[Sequence[np.ndarray]], seeds: Sequence[int], sampler: Sampler | None = None
    ) -> Rollout:
        """A rollout of the model from known frames of each row. `sampler` None: its own greedy decoding."""
        model = self.assistant
        rollout = Rollout(model.model, model.processor, first, seed=seeds, sampler=sampler)
        self.switched.rollout(rollout)
        return rollout

    def _answers(
        self, prompts: Sequence[Any], settings: GenerationSettings, numbers: Sequence[int], attempt: int = 0
    ) -> list[Content]:
        model, side = self.assistant, self.assistant.side
        found = answers(
            model.model,
            model.processor,
            prompts,
            model.shapes((side, side)),
            self.switched.settings(settings),
            seed=model.seed + attempt,
            batch=self.batch,
            numbers=numbers,
        )
        return list(found)


@dataclass(frozen=True)
class Table:
    """A table of a report; estimates are printed in percent with their interval."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Goal:
    """A figure to be reached: `value` at least `bound` (or at most, with `most`)."""

    what: str
    value: float | None
    bound: float
    unit: str = ""
    most: bool = False

    @property
    def reached(self) -> bool:
        if self.value is None:
            return False
        return self.value <= self.bound if self.most else self.value >= self.bound

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "reached": self.reached}


@dataclass(frozen=True)
class Example:
    """Pictures uint8 [H, W, 3] with a line of words."""

    words: str
    pictures: list[np.ndarray]


@dataclass(kw_only=True)
class Result:
    """`numbers`: everything, as plain data; `tables` and `goals`: what is printed; `curves`: title to lines
    (name to values by step)."""

    numbers: dict[str, Any]
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def grouped(pairs: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    """Values by key, keys in order of their names."""
    found: dict[str, list[Any]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return dict(sorted(found.items()))


def plain(value: Any) -> Any:
    """Estimates and what contains them as JSON data."""
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started
