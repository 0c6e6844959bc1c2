"""Two ways to do the same, timed in turn in one process: drift of the machine meets both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PAIRS = 7


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Medians of `pairs` runs of each side in seconds. `times` as fast is the median over pairs of theirs by
    ours, `low` and `high` the quartiles of these ratios."""

    ours: float
    theirs: float
    times: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.times:.2f} ({self.low:.2f} to {self.high:.2f})"


def interleaved(ours: Callable[[], Any], theirs: Callable[[], Any], pairs: int = PAIRS) -> Ratio:
    """Each once to warm up, then `pairs` times theirs and ours, the order turned with every pair."""
    if pairs < 2:
        raise ValueError(f"a spread needs at least 2 pairs, got {pairs}")
    ours(), theirs()
    found: list[tuple[float, float]] = []
    for number in range(pairs):
        if number % 2:
            mine, other = seconds(ours), seconds(theirs)
        else:
            other, mine = seconds(theirs), seconds(ours)
        found.append((mine, other))
    ratios = [other / mine for mine, other in found]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(
        ours=statistics.median(mine for mine, _ in found),
        theirs=statistics.median(other for _, other in found),
        times=middle,
        low=low,
        high=high,
        pairs=pairs,
    )


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
