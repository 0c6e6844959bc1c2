"""What an experiment is: arms that measure, and criteria that judge what they measured.

An arm is a function of the ground and a seed; its numbers are plain JSON. Criteria are the claims of the
paper's note as code. A verdict needs three seeds: *reproduced* if every criterion that applies holds in the
mean over seeds, *not reproduced* if one does not, *not applicable at this size* if one that the others rest
on cannot be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unified.eval.lab.ground.ground import Ground
from unified.eval.lab.statistics import Interval, interval

SEEDS = 3
REPRODUCED, REFUTED, OPEN = "reproduced", "not reproduced", "not applicable at this size"
NO_VERDICT = "no verdict"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One seed of one arm: `work` is a folder of its own for checkpoints."""

    ground: Ground
    seed: int
    work: Path


Numbers = dict[str, Any]
Arm = Callable[[Trial], Numbers]


@dataclass(frozen=True)
class Results:
    """By arm and seed, what was measured."""

    found: Mapping[str, Mapping[int, Mapping[str, Any]]]

    @property
    def seeds(self) -> list[int]:
        """Seeds of which every arm is done."""
        sets = [set(by_seed) for by_seed in self.found.values()]
        return sorted(set.intersection(*sets)) if sets else []

    def values(self, arm: str, name: str) -> list[float]:
        """Of every whole seed. Names of nested numbers are joined by "/"."""
        return [float(self.of(arm, seed, name)) for seed in self.seeds]

    def of(self, arm: str, seed: int, name: str) -> Any:
        value: Any = self.found[arm][seed]
        for part in name.split("/"):
            value = value[part]
        return value

    def difference(self, one: str, other: str, name: str) -> list[float]:
        """Paired by seed."""
        pairs = zip(self.values(one, name), self.values(other, name), strict=True)
        return [a - b for a, b in pairs]


@dataclass(frozen=True)
class Criterion:
    """One claim: `met`, None where it does not apply, with the reason in `why`. `measured` has the interval
    over seeds. `clear`: the whole interval lies on the mean's side of the bound. `central`: without it the
    experiment says nothing."""

    what: str
    met: bool | None
    measured: str = ""
    why: str = ""
    clear: bool | None = None
    central: bool = False

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def at_least(what: str, values: Sequence[float], bound: float) -> Criterion:
    """Met where the mean over seeds is at least the bound."""
    found = interval(values)
    clear = (found.low >= bound) if found.mean >= bound else (found.high < bound)
    return Criterion(what, found.mean >= bound, f"{found}, at least {bound:g}", clear=_known(found, clear))


def at_most(what: str, values: Sequence[float], bound: float) -> Criterion:
    """Met where the mean over seeds is at most the bound."""
    found = interval(values)
    clear = (found.high <= bound) if found.mean <= bound else (found.low > bound)
    return Criterion(what, found.mean <= bound, f"{found}, at most {bound:g}", clear=_known(found, clear))


def holds(what: str, values: Sequence[bool], measured: str = "") -> Criterion:
    """Met where it holds for every seed: for what is exact."""
    count = sum(map(bool, values))
    return Criterion(what, count == len(values), measured or f"{count} of {len(values)} seeds", clear=True)


def not_applicable(what: str, why: str, *, central: bool = False) -> Criterion:
    return Criterion(what, None, why=why, central=central)


def _known(found: Interval, clear: bool) -> bool | None:
    return clear if found.seeds > 1 else None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """`name`: that of the paper. `arms`: in the order in which they run. `judge`: results of at least one
    whole seed to criteria. `minutes`: of all arms and three seeds on two cores, estimated. `scaled`: what
    differs from the note. `shown`: names of the numbers that the page shows. `plots`: by title, lines."""

    name: str
    what: str
    arms: Mapping[str, Arm]
    judge: Callable[[Results], list[Criterion]]
    minutes: float
    scaled: str = ""
    shown: Sequence[str] = ()
    plots: Mapping[str, Callable[[Results], Mapping[str, Sequence[float]]]] = field(default_factory=dict)


def verdict(criteria: Sequence[Criterion], seeds: int) -> tuple[str, str]:
    """The verdict and why; "no verdict" before three seeds."""
    if seeds < SEEDS:
        return NO_VERDICT, f"{seeds} of {SEEDS} seeds"
    for criterion in criteria:
        if criterion.central and criterion.met is None:
            return OPEN, criterion.why
    failed = [criterion.what for criterion in criteria if criterion.met is False]
    if failed:
        return REFUTED, "; ".join(failed)
    if not any(criterion.met for criterion in criteria):
        return OPEN, "; ".join(criterion.why for criterion in criteria)
    return REPRODUCED, ""
