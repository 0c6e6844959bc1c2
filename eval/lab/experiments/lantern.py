"""LANTERN (arXiv 2410.03355): how many passes does it save to accept drafted codes that look like probable
ones, and what does it cost?"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.arms import SEED_STRIDE
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
from unified.eval.lab.ground.bases import BASES
from unified.eval.lab.ground.drawing import Drawn, draw
from unified.eval.lab.ground.measures import FRECHET, measured
from unified.eval.lab.ground.training import Course, train

from unified.decoding.session import Session
from unified.decoding.strategies import FeatureDraft, FeatureDrafter, Lantern, Speculative, Stats, Strategy
from unified.decoding.strategies.feature_draft import drafter_loss
from unified.decoding.strategies.relaxation import credit, neighbour_table, reshaped
from unified.model import UnifiedModel
from unified.orders.shapes import area

NAME = "raster"
BASE = BASES[NAME]
DELTAS = (0.0, 0.1, 0.2, 0.4)
LENGTH, NEAREST = 4, 100  # codes of a draft, and neighbours of a code
SHARE, RATE = 0.2, 1e-3
ENUMERATED, VALUES = 100, 8


@dataclass
class Counted:
    """Shown every step, keeps the statistics of every batch of drawings."""

    seen: list[Stats] = field(default_factory=list)

    def __call__(self, session: Session) -> None:
        if not self.seen or self.seen[-1] is not session.stats:
            self.seen.append(session.stats)

    def passes(self) -> float:
        """Of a picture drawn by itself: a pass decides what was accepted and one code more."""
        accepted = np.concatenate([stats.accepted for stats in self.seen])
        return float(area(BASE.shapes) - accepted.mean())

    def acceptance(self) -> float:
        drafted = sum(float(stats.drafted.sum()) for stats in self.seen)
        return sum(float(stats.accepted.sum()) for stats in self.seen) / max(drafted, 1.0)


def drawn_by(
    trial: Trial, model: UnifiedModel, strategy: Strategy | None, split: str, count: int
) -> tuple[Drawn, Numbers]:
    """Drawings of so many prompts and their figures; `calls` are passes of the whole model for a picture."""
    scenes = trial.ground.scenes(split, count, trial.seed * count)
    counted = Counted()
    how = trial.ground.how(NAME).but(strategy=strategy, watch=counted)
    options: dict[str, Any] = {"seed": trial.seed * SEED_STRIDE, "rows": trial.ground.sizes.rows}
    drawn = draw(model, trial.ground.tokenizer("vq"), scenes, how, **options)
    found = {**measured(scenes, drawn), "acceptance": counted.acceptance()}
    if strategy is not None:
        found["calls"] = counted.passes()
    return drawn, found


def drafter_of(trial: Trial, model: UnifiedModel) -> tuple[FeatureDrafter, Numbers]:
    """One layer, trained on the training pictures."""
    torch.manual_seed(trial.seed)
    drafter = FeatureDrafter(model.width, heads=trial.ground.sizes.model.heads)
    model.requires_grad_(False)
    rows_at = trial.ground.batches(BASE, trial.seed + 1, null=0.0)

    def loss(step: int) -> Tensor:
        return drafter_loss(drafter, model, rows_at(step, model).ids).total

    course = Course(steps=trial.ground.sizes.steps(SHARE), rate=RATE, what=f"drafter, seed {trial.seed}")
    done = train(drafter, loss, course, trial.work / "drafter")
    return drafter, {"training": done.seconds, "drafter_loss": done.losses[-1]}


def everything(trial: Trial) -> Numbers:
    """One drafter for a seed; plain raster order, exact and relaxed acceptance, and credit for neighbours
    that do not look alike."""
    model, sizes = trial.ground.base(NAME), trial.ground.sizes
    drafter, found = drafter_of(trial, model)
    codebook = trial.ground.tokenizer("vq").vectors(torch.arange(sizes.tokenizer.codes)[None])[0].detach()
    draft = FeatureDraft(drafter=drafter)
    test, valid = max(2, sizes.prompts // 2), max(2, sizes.prompts // 4)
    _, found["plain"] = drawn_by(trial, model, None, "test", test)
    exact, _ = drawn_by(trial, model, Speculative(draft=draft, length=LENGTH), "test", test)
    scores = {}
    for delta in DELTAS:
        strategy = Lantern(codebook=codebook, delta=delta, nearest=NEAREST, draft=draft, length=LENGTH)
        drawn, found[f"delta {delta:g}"] = drawn_by(trial, model, strategy, "test", test)
        if delta == 0:
            found["equal"] = bool(torch.equal(drawn.codes, exact.codes))
        scores[delta] = drawn_by(trial, model, strategy, "validation", valid)[1]["attributes"]
    good = [delta for delta in DELTAS if delta and scores[delta] >= scores[0.0] - 0.02]
    best = max(good, default=DELTAS[1])
    generator = torch.Generator().manual_seed(trial.seed)
    shuffled = codebook[torch.randperm(len(codebook), generator=generator)]
    other = Lantern(codebook=shuffled, delta=best, nearest=NEAREST, draft=draft, length=LENGTH)
    _, found["random"] = drawn_by(trial, model, other, "test", test)
    return {**found, "best": best, "law": enumerated(trial.seed)}


# The law of what is drawn -----------------------------------------------------------------------------------


def emitted(p: Tensor, q: Tensor, near: Tensor, delta: float) -> tuple[Tensor, float, float]:
    """Of p and q [V] and a table of neighbours: the law [V] of what is drawn, the share that is accepted, and
    the largest total variation between p and what it is reshaped to for a drafted code."""
    every = torch.arange(len(p))
    laws = p.expand(len(p), -1)
    shaped = reshaped(laws, every, near, credit(laws, every, near, delta, multiplicative=False))
    accept = (shaped.diagonal() / q).clamp(max=1)
    rest = (shaped - q).clamp(min=0)
    rest = rest / rest.sum(dim=1, keepdim=True).clamp(min=1e-30)
    law = q * accept + (q * (1 - accept)) @ rest
    moved = (shaped - laws).abs().sum(dim=1).max() / 2
    return law, float((q * accept).sum()), float(moved)


def enumerated(seed: int) -> Numbers:
    """Over random laws of a few codes, for each delta: the largest and mean total variation of what is drawn
    from p, the mean acceptance, and by how much the bound is exceeded at most."""
    generator = torch.Generator().manual_seed(seed)
    kept: dict[float, list[tuple[float, float, float]]] = {delta: [] for delta in DELTAS}
    for _ in range(ENUMERATED):
        p, q = torch.rand(2, VALUES, generator=generator, dtype=torch.float64).pow(3).add(1e-3).unbind()
        p, q = p / p.sum(), q / q.sum()
        near = neighbour_table(torch.rand(VALUES, 2, generator=generator))
        for delta in DELTAS:
            law, accepted, moved = emitted(p, q, near, delta)
            kept[delta].append((float((law - p).abs().sum() / 2), accepted, moved - delta))
    found = {f"{delta:g}": np.array(values) for delta, values in kept.items()}
    return {
        "furthest": {name: float(x[:, 0].max()) for name, x in found.items()},
        "mean": {name: float(x[:, 0].mean()) for name, x in found.items()},
        "acceptance": {name: float(x[:, 1].mean()) for name, x in found.items()},
        "beyond": {name: float(x[:, 2].max()) for name, x in found.items()},
    }


# Criteria ---------------------------------------------------------------------------------------------------


def judge(results: Results) -> list[Criterion]:
    def of_best(name: str) -> list[float]:
        best = [results.of("all", seed, "best") for seed in results.seeds]
        return [results.of("all", s, f"delta {b:g}/{name}") for s, b in zip(results.seeds, best, strict=True)]

    def values(arm: str, name: str) -> list[float]:
        return results.values("all", f"{arm}/{name}")

    def pairs(name: str, one: list[float], arm: str) -> list[tuple[float, float]]:
        return list(zip(one, values(arm, name), strict=True))

    law = {
        kind: [results.of("all", s, f"law/{kind}") for s in results.seeds]
        for kind in ("acceptance", "beyond")
    }
    order = [f"{delta:g}" for delta in DELTAS]
    rises = [all(one[b] >= one[a] - 1e-9 for a, b in pairwise(order)) for one in law["acceptance"]]
    beyond = [max(one.values()) for one in law["beyond"]]
    longer = [b / a for a, b in pairs("calls", of_best("calls"), "delta 0")]
    lost = [100 * (b - a) for a, b in pairs("attributes", of_best("attributes"), "delta 0")]
    further = [100 * (a / max(b, 1e-9) - 1) for a, b in pairs(FRECHET, of_best(FRECHET), "delta 0")]
    calls = [a / b for a, b in pairs("calls", of_best("calls"), "plain")]
    exact, random = values("delta 0", "attributes"), values("random", "attributes")
    unlike = sum(100 * (a - b) for a, b in zip(exact, random, strict=True)) / len(exact)
    what = "(e) neighbours at random cost accuracy, times as much"
    return [
        at_most(
            "(a) enumerated law at delta 0 differs from the model's",
            results.values("all", "law/furthest/0"),
            1e-6,
        ),
        holds(
            "(a) delta 0 draws what speculative sampling draws",
            [bool(x) for x in results.values("all", "equal")],
        ),
        holds("(b) acceptance never falls as delta grows", rises),
        at_most("(b) a law is moved further than delta by", beyond, 1e-9),
        at_least("(d) codes a pass beside exact acceptance, times", longer, 1.5),
        at_most("(d) accuracy lost, points", lost, 2.0),
        at_most("(d) Frechet distance larger by, %", further, 10.0),
        at_least(what, [unlike / max(sum(lost) / len(lost), 0.5)], 2.0)
        if unlike > 1
        else not_applicable(what, f"neighbours at random cost {unlike:.1f} points here"),
        at_most("(f) passes of the whole model beside raster order", calls, 0.6),
    ]


EXPERIMENT = Experiment(
    name="lantern",
    what="raster order one code a pass, by exact speculation, and by relaxed acceptance of several deltas",
    arms={"all": everything},
    judge=judge,
    minutes=16,
    scaled="64 codes a picture and one drafting layer of 120 steps, chains of 4 codes; delta is chosen on "
    "validation prompts among three, and is that of the neighbours at random too, whose acceptance is not "
    "matched; text is verified exactly by the same code (c), which is a test; pictures are compared in "
    "pixels' features, not latents'",
    shown=("attributes", FRECHET, "calls", "acceptance", "seconds"),
)
