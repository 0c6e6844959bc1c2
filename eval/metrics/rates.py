"""Rates and means with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

Z = 1.959963984540054  # the 97.5 % point of the normal distribution


@dataclass(frozen=True)
class Estimate:
    """A mean over `trials` samples with its 95 % interval; `share`: it lies in 0 to 1 and is read in
    percent."""

    value: float
    low: float
    high: float
    trials: int
    share: bool = False

    def to_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high, "trials": self.trials}

    def __str__(self) -> str:
        """ "93.5 % (91.0 to 95.4)" or "28.31 (28.02 to 28.60)" """
        if not self.trials:
            return "no samples"
        if self.share:
            return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate; (0, 1) without trials."""
    if trials < 1:
        return 0.0, 1.0
    rate = successes / trials
    middle = rate + Z * Z / (2 * trials)
    half = Z * math.sqrt(rate * (1 - rate) / trials + Z * Z / (4 * trials * trials))
    scale = 1 + Z * Z / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def rate(values: Iterable[float]) -> Estimate:
    """The mean of numbers in [0, 1] with Wilson's interval. For shares between 0 and 1 (two of three
    attributes right) that interval is too wide, never too narrow. ValueError for other numbers."""
    found = [float(value) for value in values]
    if any(not 0 <= value <= 1 for value in found):
        raise ValueError("a rate is made of numbers in 0 to 1")
    total = math.fsum(found)
    low, high = wilson(total, len(found))
    return Estimate(total / len(found) if found else 0.0, low, high, len(found), share=True)


def mean(values: Iterable[float]) -> Estimate:
    """The mean of any numbers with the normal interval (standard error from the sample)."""
    found = [float(value) for value in values]
    if not found:
        return Estimate(0.0, -math.inf, math.inf, 0)
    middle = math.fsum(found) / len(found)
    if len(found) == 1:
        return Estimate(middle, -math.inf, math.inf, 1)
    variance = math.fsum((value - middle) ** 2 for value in found) / (len(found) - 1)
    half = Z * math.sqrt(variance / len(found))
    return Estimate(middle, middle - half, middle + half, len(found))
