"""What a sketch is worth to the words after it: another sample's in its place should make them wrong.

A trace may decorate an answer that stands in its words already. Two measurements tell: of a task, whether
its words follow from its sketches at all (`read_sketches`, no model needed); of a model, whether it uses
them. Both compare answers given with a sample's own sketches with answers given with another's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from unified.tasks.sample import Sample

LEAST_DROP = 0.2  # of success, for a task or a model that claims to use its sketches
Content = list[dict[str, Any]]


class SketchTask(Protocol):
    """A task whose words follow from its sketches."""

    name: str

    def sample(self, index: int, split: str = "train") -> Sample: ...

    def score(self, sample: Sample, answer: Content) -> dict[str, float]: ...

    def read_sketches(self, sample: Sample, sketches: Sequence[np.ndarray]) -> Content:
        """The answer to a sample that follows from these sketches alone, whosesoever they are."""
        ...


Answer = Callable[[Sample, Sample], Content]
"""The answer to the first sample with the second's sketches in the place of its own."""


@dataclass(frozen=True)
class SketchEffect:
    """`own` and `other`: mean success with the sample's own sketches and with another sample's."""

    own: float
    other: float
    samples: int

    @property
    def drop(self) -> float:
        return self.own - self.other

    @property
    def causal(self) -> bool:
        return self.drop >= LEAST_DROP


def sketch_effect(task: Any, answer: Answer, count: int = 16, split: str = "test") -> SketchEffect:
    """The effect on `count` samples of a split. ValueError for fewer than two, which are no other's."""
    if count < 2:
        raise ValueError(f"count must be at least 2, got {count}")
    samples = [task.sample(number, split) for number in range(count)]
    others = [other_of(samples, number) for number in range(count)]
    own = [task.score(sample, answer(sample, sample))["success"] for sample in samples]
    other = [
        task.score(sample, answer(sample, shown))["success"]
        for sample, shown in zip(samples, others, strict=True)
    ]
    return SketchEffect(sum(own) / count, sum(other) / count, count)


def task_effect(task: SketchTask, count: int = 16, split: str = "test") -> SketchEffect:
    """How far the words of a task's traces follow from its sketches."""
    return sketch_effect(
        task, lambda sample, shown: task.read_sketches(sample, sketches_of(shown)), count, split
    )


def other_of(samples: Sequence[Sample], number: int) -> Sample:
    """The next sample of the same size or, where they say none, with as many sketches; else simply the
    next."""
    count, wanted = len(samples), _size(samples[number])
    after = [samples[(number + ahead) % count] for ahead in range(1, count)]
    return next((sample for sample in after if _size(sample) == wanted), after[0])


def _size(sample: Sample) -> Any:
    return sample.meta.get("size", len(sketches_of(sample)))


def sketches_of(sample: Sample) -> list[np.ndarray]:
    """The images of all assistant turns in order, uint8 [H, W, 3]."""
    turns = [message["content"] for message in sample.messages if message["role"] == "assistant"]
    return [item["image"] for content in turns for item in content if item["type"] == "image"]
