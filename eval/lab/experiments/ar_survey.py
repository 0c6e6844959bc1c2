"""Autoregressive Models in Vision: A Survey (arXiv 2411.05902): five orders of its taxonomy on one decoder,
with equal operations of training. Do all conform, do all learn, and which order of the best takes the fewest
passes?"""

from __future__ import annotations

from functools import partial

from unified.eval.lab.arms import drawn_with, trained
from unified.eval.lab.conform import checks
from unified.eval.lab.experiment import Criterion, Experiment, Numbers, Results, Trial, at_least, holds
from unified.eval.lab.ground.bases import BASES, Base, new_model
from unified.eval.lab.ground.drawing import How
from unified.eval.lab.ground.measures import measured
from unified.eval.lab.ground.tokenizers import SCHEDULE

SHARE = 0.15  # of the base models' training steps
EQUAL = {"next_scale": 0.52, "nar": 0.9}  # of these, for equal operations: longer rows; a layer more
ORDERS = {
    "raster": Base(tokenizer="vq", order="raster"),
    "diagonal": Base(tokenizer="vq", order="diagonal"),
    "nar": Base(tokenizer="vq", order="nar"),
    "next_scale": Base(tokenizer="vq", order="next_scale", lists=(SCHEDULE,)),
    "masked": BASES["masked"],
}
LEARNT = 0.70  # attribute accuracy that every order reaches
NEAR = 0.02  # below the best, of orders whose passes are compared


def arm(name: str, trial: Trial) -> Numbers:
    """Conformance of one order, its training from random weights, and its drawings."""
    base = ORDERS[name]
    failed = [str(check) for check in checks(name) if not check.ok]
    model = new_model(base, trial.ground.sizes, trial.seed, read_outs=2 if name == "nar" else 1)
    steps = trial.ground.sizes.steps(SHARE * EQUAL.get(name, 1.0))
    done = trained(trial, model, base, steps, f"{name}, seed {trial.seed}")
    how = How(order=base.order, shapes=base.shapes, data=(1,) if base.permuted else ())
    drawn = drawn_with(trial, model, base.tokenizer, how)
    found: Numbers = {"failed": len(failed), "training": done.seconds, "loss": done.losses[-1]}
    return found | measured(trial.ground.prompts(trial.seed), drawn)


def cheapest(results: Results, seed: int) -> str:
    """The order with the fewest passes among those near the best."""
    right = {name: float(results.of(name, seed, "attributes")) for name in ORDERS}
    near = [name for name, value in right.items() if value >= max(right.values()) - NEAR]
    return min(near, key=lambda name: float(results.of(name, seed, "calls")))


def judge(results: Results) -> list[Criterion]:
    conform = [all(results.of(name, seed, "failed") == 0 for name in ORDERS) for seed in results.seeds]
    winners = [cheapest(results, seed) for seed in results.seeds]
    learnt = [
        at_least(f"(b) {name}: attribute accuracy", results.values(name, "attributes"), LEARNT)
        for name in ORDERS
    ]
    return [
        holds("(a) every order passes the conformance suite", conform),
        *learnt,
        holds(
            "(c) of the orders within 2 points of the best the one with the fewest passes is next-scale or "
            "next-neighbour",
            [name in ("next_scale", "nar") for name in winners],
            ", ".join(winners),
        ),
    ]


EXPERIMENT = Experiment(
    name="ar_survey",
    what="raster, diagonal, next-neighbour, next-scale and masked order, with equal operations of training",
    arms={name: partial(arm, name) for name in ORDERS},
    judge=judge,
    minutes=26,
    scaled="two million parameters in place of eight, 8 x 8 codes of 32 pixels, 90 steps: 47 for next-scale, "
    "whose rows are twice as long, and 81 for two heads, which take a layer more",
    shown=("attributes", "all", "calls", "seconds", "loss"),
)
