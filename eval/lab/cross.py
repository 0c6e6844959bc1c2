"""How techniques combine: cache policies, depth, guidance and decoding on one base model.

Every combination is built first; one that makes no sense is refused then, with the reason. What is legal is
drawn for one seed and measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified.eval.lab.arms import scored
from unified.eval.lab.experiment import Trial
from unified.eval.lab.experiments.scalekv import HOW, SELECTOR, SHAPES
from unified.eval.lab.ground.ground import Ground
from unified.eval.lab.runner import write
from unified.eval.measurement import Table
from unified.eval.report import table_lines

from unified.cache.hack import HACK
from unified.cache.policy import DropWrite
from unified.cache.scalekv import ScaleKV, shared_budgets
from unified.decoding.guidance import Constant
from unified.decoding.strategies import OnePass, Speculative
from unified.depth.variant import VARiant, VARiantConfig
from unified.orders.shapes import area

BUDGET = round(0.4 * area(SHAPES))
TOKENS = [height * width for height, width in SHAPES]


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Names of one choice of each. ValueError, when it is built, for a pair that is not legal."""

    cache: str
    depth: str
    guidance: str
    decoding: str

    def __post_init__(self) -> None:
        if self.decoding == "speculative" and self.cache != "full":
            raise ValueError(f"a draft rolls back what {self.cache} would have dropped by step")
        if self.decoding == "speculative" and self.depth != "all":
            raise ValueError("a draft passes several steps at once, a depth policy has one depth a step")


CACHES: dict[str, Callable[[int], Any]] = {
    "full": lambda layers: DropWrite(),
    "scalekv": lambda layers: ScaleKV(
        budgets=shared_budgets(TOKENS, layers, {}, mean=BUDGET, refiner=BUDGET),
        capacity=BUDGET,
        selector=SELECTOR,
    ),
    "hack": lambda layers: HACK(
        heads={(layer, 0) for layer in range(layers)},
        contextual=max(1, BUDGET // 2),
        structural=BUDGET * 7 // 6,
    ),
}
DEPTHS: dict[str, Callable[[int], Any]] = {
    "all": lambda layers: None,
    "half": lambda layers: VARiant(VARiantConfig(layers=(layers + 1) // 2, bridge=3, unit="steps")),
}
GUIDANCE = {"none": None, "guided": Constant(2.0)}
DECODING = {"one pass": OnePass(), "speculative": Speculative(length=2)}
SHOWN = ("attributes", "all", "calls", "bytes", "seconds")


def combinations() -> list[tuple[dict[str, str], str]]:
    """Every combination by its names, and why it is refused, "" where it is legal."""
    found = []
    for names in itertools.product(CACHES, DEPTHS, GUIDANCE, DECODING):
        chosen = dict(zip(("cache", "depth", "guidance", "decoding"), names, strict=True))
        try:
            Combination(**chosen)
            found.append((chosen, ""))
        except ValueError as error:
            found.append((chosen, str(error)))
    return found


def cross(ground: Ground, out: Path) -> list[str]:
    """Measure what is legal, write `cross.json` and return the table in Markdown."""
    model = ground.base("next_scale")
    trial = Trial(ground=ground, seed=0, work=ground.cache)
    cells, results = [], []
    for chosen, reason in combinations():
        numbers = {} if reason else _measured(trial, model, chosen)
        results.append({**chosen, "refused": reason, "numbers": numbers})
        cells.append([*chosen.values(), *(numbers.get(name) for name in SHOWN), reason])
    write(out / "cross.json", {"combinations": results, "weights": ground.hash()})
    return table_lines(Table("", ["cache", "depth", "guidance", "decoding", *SHOWN, "refused"], cells))


def _measured(trial: Trial, model: Any, chosen: dict[str, str]) -> dict[str, float]:
    how = HOW.but(
        policy=CACHES[chosen["cache"]](model.layer_count),
        depth=DEPTHS[chosen["depth"]](model.layer_count),
        guidance=GUIDANCE[chosen["guidance"]],
        strategy=DECODING[chosen["decoding"]],
    )
    return scored(trial, model, "vq", how)
