"""Drawing from an explicit random generator: the only source of chance in the scene tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def shuffled(rng: np.random.Generator, options: Sequence[T]) -> list[T]:
    return [options[i] for i in rng.permutation(len(options))]


def check_share(name: str, value: object) -> None:
    """Raises ValueError unless the value is a number from 0 to 1."""
    if not (isinstance(value, int | float) and 0 <= value <= 1):
        raise ValueError(f"{name} is a share from 0 to 1, got {value!r}")


def check_choice(name: str, value: object, options: Sequence[str]) -> None:
    """Raises ValueError unless the value is one of the options."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}")
