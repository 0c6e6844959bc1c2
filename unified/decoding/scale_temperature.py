"""A temperature that changes from the first step of an image to the last, around any guidance.

ECM, arXiv 2510.05610, draws coarse maps at 1.0 and the finest, which it trains less, at 0.8; between them, by
our choice, the temperature changes linearly. The sampler's own temperature multiplies it. Test:
tests/unified/decoding/test_scale_temperature.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from unified.decoding.guidance import Guidance
from unified.finite import check_number
from unified.heads.distribution import Categorical, Distribution
from unified.orders import Plan


@dataclass(frozen=True)
class ScaleTemperature(Guidance):
    """`first` and `last` temperature, above 0; `guidance` acts before. To be given as an image's guidance.
    ValueError for heads whose codes are not categorical."""

    first: float = 1.0
    last: float = 0.8
    guidance: Guidance | None = None

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            check_number(name, getattr(self, name), 1e-6)

    def temperature(self, plan: Plan, step: int) -> float:
        """That of a step; of a plan of one step, the first."""
        return self.first + (self.last - self.first) * step / max(len(plan.steps) - 1, 1)

    def weight(self, plan: Plan, step: int) -> float:
        return 0.0 if self.guidance is None else self.guidance.weight(plan, step)

    def uses_null(self, plan: Plan, step: int) -> bool:
        return self.guidance is not None and self.guidance.uses_null(plan, step)

    def predicted(
        self, found: Distribution, states: Sequence[Tensor], plan: Plan, step: int, rows: int
    ) -> Distribution:
        if self.guidance is not None:
            found = self.guidance.predicted(found, states, plan, step, rows)
        if not isinstance(found, Categorical):
            raise ValueError(f"a temperature by step needs categorical codes, not {type(found).__name__}")
        temperature = self.temperature(plan, step)
        return found if temperature == 1 else replace(found, logits=found.logits / temperature)
