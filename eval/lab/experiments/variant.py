"""VARiant (arXiv 2511.16546): do late maps need fewer layers than early ones, and does training with subnets
make shallow late maps as good as deep ones?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from unified.eval.lab.arms import drawn_with, output
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_most,
    holds,
)
from unified.eval.lab.ground.bases import BASES, rows
from unified.eval.lab.ground.drawing import How
from unified.eval.lab.ground.measures import measured
from unified.eval.lab.ground.tokenizers import SCHEDULE
from unified.eval.lab.ground.training import Course, train

from unified.backbone.layer_pass import Depth
from unified.depth.variant import VARiant, VARiantConfig, equidistant
from unified.model import UnifiedModel
from unified.objectives.objective import Progress
from unified.objectives.variant import Supernet, SupernetConfig
from unified.orders import Plan
from unified.orders.shapes import as_shapes

SHAPES = as_shapes(SCHEDULE)
BASE = replace(BASES["next_scale"], lists=(SCHEDULE,))
HOW = How(order="next_scale", shapes=SHAPES)
BRIDGE = 3
TINY = 1e-6  # below it nothing suffers
SHARE, RATE = 0.2, 1.5e-4  # of the base models' steps; 5 % of their learning rate


class EarlyShallow:
    """The mirror image of VARiant: half of the layers in the first steps, all later."""

    def __init__(self, layers: int) -> None:
        self.layers = layers

    def runs(self, layer: int, layers: int, plan: Plan, step: int) -> bool:
        return step >= BRIDGE or layer in equidistant(layers, self.layers)


def depths(layers: int) -> tuple[int, int]:
    """5 and 3 of 9 layers: about a half, and a third."""
    return (layers + 1) // 2, max(2, (layers + 3) // 4)


def _depth(layers: int) -> VARiant:
    return VARiant(VARiantConfig(layers=layers, bridge=BRIDGE, unit="steps"))


@torch.no_grad()
def last_map(trial: Trial, model: UnifiedModel, depth: Depth | None) -> float:
    """Nats a code of the last map on validation scenes."""
    codes, captions = trial.ground.codes("vq", SHAPES, "validation"), trial.ground.captions("validation")
    batch = rows(model.vocabulary, captions, codes, "next_scale", SHAPES)
    found = output(model, batch, depth=depth).log_probs
    assert found is not None
    step = batch.layout.step[0]
    return -float(found[:, step == len(SHAPES) - 1].mean())


def measure(trial: Trial, model: UnifiedModel) -> Numbers:
    """Likelihood, drawings and cache at full depth and at both others."""
    half, third = depths(model.layer_count)
    scenes, found = trial.ground.prompts(trial.seed), {}
    plans = {"full": None, "half": _depth(half), "third": _depth(third)}
    for name, depth in plans.items():
        drawn = drawn_with(trial, model, "vq", HOW.but(depth=depth))
        found[name] = {**measured(scenes, drawn), "last": last_map(trial, model, depth)}
    return found


def untrained(trial: Trial) -> Numbers:
    """The base model with layers skipped, early or late; and all layers by the policy."""
    model = trial.ground.base("next_scale")
    found = measure(trial, model)
    half, _ = depths(model.layer_count)
    early = EarlyShallow(half)
    drawn = drawn_with(trial, model, "vq", HOW.but(depth=early))
    found["early"] = measured(trial.ground.prompts(trial.seed), drawn)
    found["early"]["last"] = last_map(trial, model, early)
    plain, whole = (
        drawn_with(trial, model, "vq", HOW.but(depth=x)) for x in (None, _depth(model.layer_count))
    )
    found["equal"] = bool(torch.equal(plain.codes, whole.codes))
    found["entries"] = entries(trial, model, half)
    return found


def entries(trial: Trial, model: UnifiedModel, layers: int) -> dict[str, int]:
    """Codes of the image in the cache after the last step, in all layers together, beside the formula."""
    lengths: list[int] = []

    def watch(session: Any) -> None:
        before = len(session.rows[0].stream) + 2 + 2 * len(SHAPES)
        held = session.context.cache.lengths_by_layer[: model.layer_count, 0]
        lengths.append(int((held - before).clip(min=0).sum()))

    drawn_with(trial, model, "vq", HOW.but(depth=_depth(layers), watch=watch))
    return {"measured": lengths[-1], "formula": layers * sum(height * width for height, width in SHAPES)}


def tuned(rise: float, trial: Trial) -> Numbers:
    """Supernet training, p rising as published or (`rise` 0) at one half throughout."""
    model = trial.ground.base("next_scale")
    steps, batches = trial.ground.sizes.steps(SHARE), trial.ground.batches(BASE, trial.seed + 1)
    schedule = {"rate": 0.2, "rise": rise, "full": 0.8} if rise else {"rate": 0.5, "rise": 1.0, "full": 1.0}
    objective = Supernet(
        SupernetConfig(depths=depths(model.layer_count), bridge=BRIDGE, unit="steps", **schedule)
    )

    def loss(step: int) -> Tensor:
        depth = objective.depth(Progress(step=step, steps=steps, seed=trial.seed))
        found = output(model, batches(step, model), depth=depth).loss
        assert found is not None
        return found

    what = f"{'progressive' if rise else 'fixed'}, seed {trial.seed}"
    done = train(model, loss, Course(steps=steps, rate=RATE, what=what), trial.work)
    return {**measure(trial, model), "training": done.seconds}


def judge(results: Results) -> list[Criterion]:
    def lost(arm: str, depth: str) -> list[float]:
        pairs = zip(
            results.values(arm, "full/attributes"), results.values(arm, f"{depth}/attributes"), strict=True
        )
        return [100 * (a - b) for a, b in pairs]

    def cost(depth: str) -> list[float]:
        pairs = zip(
            results.values("untrained", f"{depth}/last"),
            results.values("untrained", "full/last"),
            strict=True,
        )
        return [a - b for a, b in pairs]

    early, late = cost("early"), cost("half")
    drop = zip(lost("untrained", "early"), lost("untrained", "half"), strict=True)
    asymmetry = [
        a >= max(2 * b, TINY) or c >= max(2 * d, TINY) for a, b, (c, d) in zip(early, late, drop, strict=True)
    ]
    changes = [-100 * x for x in results.difference("progressive", "untrained", "full/attributes")]
    sums = [
        sum(results.of(arm, seed, f"{depth}/last") * sign for depth in ("full", "half"))
        for seed in results.seeds
        for arm, sign in (("progressive", 1), ("fixed", -1))
    ]
    worse = [a + b for a, b in zip(sums[::2], sums[1::2], strict=True)]
    kept = [
        results.of("untrained", seed, "entries/measured") == results.of("untrained", seed, "entries/formula")
        for seed in results.seeds
    ]
    return [
        holds(
            "(a) all layers give the plain model, bit for bit",
            [bool(x) for x in results.values("untrained", "equal")],
        ),
        holds("(b) early maps suffer twice as much as late ones at half depth, untrained", asymmetry),
        at_most("(c) after training half depth loses, points", lost("progressive", "half"), 2.0),
        at_most("(c) after training a third loses, points", lost("progressive", "third"), 6.0),
        at_most("(d) full depth loses by training, points", changes, 1.0),
        holds("(e) cache entries are those of the formula", kept),
        at_most("(f) progressive against fixed p, sum of losses", worse, 0.0),
    ]


EXPERIMENT = Experiment(
    name="variant",
    what="all layers on early maps, few on late ones: untrained, and trained at several depths",
    arms={"untrained": untrained, "progressive": partial(tuned, 0.2), "fixed": partial(tuned, 0.0)},
    judge=judge,
    minutes=28,
    scaled="9 layers, depths 5 and 3, bridge of 3 of 6 maps, a fifth of the base model's steps in place of "
    "13 layers of width 192",
    shown=("full/attributes", "half/attributes", "third/attributes", "full/last", "half/last", "third/last"),
)
