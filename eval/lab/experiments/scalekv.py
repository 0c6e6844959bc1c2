"""ScaleKV (arXiv 2505.19602): does a budget of keys by layer and map keep drawings closer to those of the
full cache than the same budget for all layers?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.arms import drawn_with, profiled
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    at_most,
    holds,
    not_applicable,
)
from unified.eval.lab.ground.drawing import How
from unified.eval.lab.ground.measures import latent_psnr, measured
from unified.eval.lab.statistics import rank_correlation

from unified.cache.held import CachePolicy, Held, without_writes
from unified.cache.scalekv import ScaleKV, Selector, codes_held, shared_budgets
from unified.cache.selectivity import Profiler, drafters
from unified.decoding.session import Session
from unified.orders.shapes import area, as_shapes

SHAPES = as_shapes((1, 2, 3, 4, 5, 6, 7, 8))  # one of the base model's own lists; 204 codes
HOW = How(order="next_scale", shapes=SHAPES)
SHARES = (0.1, 0.2, 0.4)
SELECTOR = Selector(window=4, kernel=3)
CALIBRATION = 10  # prompts
SPREAD = 1.0  # of Z-scores within a step, below which layers do not differ


@dataclass(frozen=True)
class Recent:
    """Each layer holds the `first` codes of an image and the latest, `budget` together: the sliding window,
    or with a few first ones the attention sink."""

    budget: int
    first: int = 0
    keeps_writes = False
    by_step = True

    def stays(self, held: Held) -> np.ndarray | None:
        if held.plan is None:
            return without_writes(held)
        assert held.keys is not None
        stays = np.ones(held.keys.shape[:2], dtype=bool)
        for codes in codes_held(held):
            latest = max(self.first, codes.places.shape[1] - (self.budget - self.first))
            gone = codes.places[:, self.first : latest]
            stays[codes.rows[:, None], gone] = False
        return None if stays.all() else stays


def calibrate(trial: Trial, model: Any, first: int) -> Tensor:
    """[layers, steps]: the selectivity on validation prompts from number `first` on."""
    return profiled(trial, model, Profiler(top=4), HOW, first, CALIBRATION)


def compress(share: float, trial: Trial) -> Numbers:
    """Drawings under every policy at one budget, beside those of the full cache."""
    model = trial.ground.base("next_scale")
    layers, budget = model.layer_count, max(SELECTOR.window + 1, round(share * area(SHAPES)))
    full = drawn_with(trial, model, "vq", HOW)
    table = calibrate(trial, model, trial.seed * CALIBRATION)
    steps = [n for n in range(1, len(SHAPES)) if area(SHAPES[:n]) > budget]
    others = {"window": Recent(budget), "sink": Recent(budget, first=min(5, budget - 1))}
    scalekv = {name: _policy(sign * table, layers, steps, budget) for name, sign in SIGNS.items()}
    uniform = _policy(None, layers, steps, budget)
    found: Numbers = {"z_range": _z_range(table, steps), "budget": budget}
    scenes = trial.ground.prompts(trial.seed)
    for name, policy in {**others, "uniform": uniform, **scalekv}.items():
        held: list[float] = []
        how = HOW.but(policy=policy, watch=partial(_note, held, trial.ground.sizes.model.layers))
        drawn = drawn_with(trial, model, "vq", how)
        found[name] = measured(scenes, drawn) | {
            "agreement": float((drawn.codes == full.codes).float().mean()),
            "psnr": latent_psnr(trial.ground.tokenizer("vq"), full.codes, drawn.codes, SHAPES),
            "held": float(np.mean([x for n, x in enumerate(held) if n % len(SHAPES) + 1 in steps])),
        }
    found["full"] = measured(scenes, full)
    return found


SIGNS = {"scalekv": 1.0, "inverted": -1.0}


def _policy(table: Tensor | None, layers: int, steps: list[int], budget: int) -> CachePolicy:
    tokens = [height * width for height, width in SHAPES]
    chosen = {} if table is None else drafters(table, max(1, len(steps) * layers // 4), steps)
    refiner = max(SELECTOR.window + 1, round(0.8 * budget))
    budgets = shared_budgets(tokens, layers, chosen, mean=budget, refiner=refiner, shrink=budget // 20)
    return ScaleKV(budgets=budgets, capacity=budget, selector=SELECTOR)


def _z_range(table: Tensor, steps: list[int]) -> float:
    columns = table[:, steps]
    scores = (columns - columns.mean(dim=0)) / (columns.std(dim=0, correction=0) + 1e-6)
    return float((scores.amax(dim=0) - scores.amin(dim=0)).max())


def _note(held: list[float], layers: int, session: Session) -> None:
    """Mean codes of the image that a layer holds after a step."""
    before = len(session.rows[0].stream) + 2 + 2 * len(SHAPES)  # the prompt, and the image's header
    lengths = session.context.cache.lengths_by_layer[:layers]
    held.append(float(lengths.mean()) - before)


def exact(trial: Trial) -> Numbers:
    """A budget of everything, and the stability of the calibration."""
    model = trial.ground.base("next_scale")
    full = drawn_with(trial, model, "vq", HOW)
    free = drawn_with(trial, model, "vq", HOW.but(policy=ScaleKV(capacity=area(SHAPES))))
    one, other = (calibrate(trial, model, first)[:, 1:] for first in (100, 200))
    rank = rank_correlation(one.flatten().tolist(), other.flatten().tolist())
    return {"equal": bool(torch.equal(full.codes, free.codes)), "rank": rank}


def judge(results: Results) -> list[Criterion]:
    arm = "share 0.2"
    flags = [bool(value) for value in results.values("exact", "equal")]
    criteria = [
        holds("(a) a budget of everything gives bit-identical drawings", flags),
        at_most(
            "(b) the mean codes held by a layer differ from the budget by at most 1",
            [
                abs(a - b)
                for a, b in zip(
                    results.values(arm, "scalekv/held"), results.values(arm, "budget"), strict=True
                )
            ],
            1.0,
        ),
        at_least("(c) selectivity ranks alike on two calibration sets", results.values("exact", "rank"), 0.9),
    ]
    spread = results.values(arm, "z_range")
    why = f"layers do not differ in selectivity: Z-scores span {max(spread):.2f}"
    if max(spread) < SPREAD:
        return [*criteria, not_applicable("(d) ScaleKV against uniform budgets", why, central=True)]
    full, kept = results.values(arm, "full/attributes"), results.values(arm, "scalekv/attributes")
    lost = [100 * (a - b) for a, b in zip(full, kept, strict=True)]
    names = [
        (one.split("/")[0], other)
        for one, other in (("scalekv/psnr", "uniform"), ("uniform/psnr", "inverted"))
    ]
    gains = [
        [
            a - b
            for a, b in zip(
                results.values(arm, f"{one}/psnr"), results.values(arm, f"{other}/psnr"), strict=True
            )
        ]
        for one, other in names
    ]
    return [
        *criteria,
        at_most("(d) at 20 % at most 2 points of attribute accuracy are lost", lost, 2.0),
        at_least("(d) at 20 % the latent PSNR is 0.5 dB above uniform budgets", gains[0], 0.5),
        at_least("(e) inverted roles are worse than uniform budgets, dB", gains[1], 0.0),
    ]


EXPERIMENT = Experiment(
    name="scalekv",
    what="a budget of keys and values for every layer and map, beside uniform budgets and windows",
    arms={"exact": exact, **{f"share {share}": partial(compress, share) for share in SHARES}},
    judge=judge,
    minutes=18,
    scaled="9 layers of width 128 and eight maps (204 codes) in place of 10M parameters and 1000 codes; "
    "4 observers and 128 prompts a seed; seeds are those of prompts, noise and calibration",
    shown=("attributes", "agreement", "psnr", "held", "bytes"),
)
