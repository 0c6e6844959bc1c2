"""Means over seeds with their intervals, and correlations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr, t

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval (Student's t); one seed has no interval."""

    mean: float
    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        if self.seeds < 2:
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} ({self.low:.4g} to {self.high:.4g})"


def interval(values: Sequence[float]) -> Interval:
    """ValueError without values."""
    if not len(values):
        raise ValueError("an interval needs at least one value")
    found, count = np.asarray(values, dtype=float), len(values)
    mean = float(found.mean())
    if count < 2:
        return Interval(mean, -math.inf, math.inf, count)
    half = float(t.ppf(0.5 + CONFIDENCE / 2, count - 1) * found.std(ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half, count)


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's; 1 where both are constant, 0 where one is."""
    constant = [len(set(values)) < 2 for values in (one, other)]
    if any(constant):
        return float(all(constant))
    return float(spearmanr(one, other).statistic)


def log_fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """(a, b, r) of log y = a log x + b by least squares; r is Pearson's."""
    logs = np.log(np.asarray(x, dtype=float)), np.log(np.asarray(y, dtype=float))
    slope, offset = np.polyfit(*logs, 1)
    return float(slope), float(offset), float(np.corrcoef(*logs)[0, 1])
