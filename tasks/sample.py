"""What every task hands out: a conversation with its exact answer, reproducible from (seed, split, index).

Images are uint8 arrays [H, W, 3]; actions are dicts of an environment. Nothing here knows a model.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

SPLITS = ("train", "validation", "test", "compositional")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One conversation. `messages` follow the chat-template convention of Hugging Face:
    `[{"role": ..., "content": [{"type": "text" | "image" | "action", ...}]}]`; the last assistant turn is the
    answer. `meta` is plain JSON data: what a scorer needs, never shown to the model."""

    task: str
    messages: list[dict[str, Any]]
    meta: dict[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """Where samples come from and how an answer is scored."""

    name: str

    def sample(self, index: int, split: str = "train") -> Sample: ...

    def score(self, sample: Sample, answer: list[dict[str, Any]]) -> dict[str, float]: ...


def generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The random generator of one sample: independent of every other sample and of the number of workers."""
    check_split(split)
    check_index(index)
    return np.random.default_rng([seed, SPLITS.index(split), index])


def check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")


def check_index(index: int) -> None:
    if isinstance(index, bool) or not isinstance(index, int | np.integer) or index < 0:
        raise ValueError(f"index must be a whole number of at least 0, got {index!r}")


def split_of(content: str, validation: float = 0.05, test: float = 0.05) -> str:
    """The one split that may contain this content (a canonical string): by hash, so splits cannot overlap."""
    digest = hashlib.sha256(content.encode()).digest()
    u = int.from_bytes(digest[:8], "big") / 2**64
    if u < test:
        return "test"
    return "validation" if u < test + validation else "train"
