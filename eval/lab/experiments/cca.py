"""CCA (arXiv 2410.09347): after a short alignment on matched and mismatched captions, does plain sampling
reach what classifier-free guidance reaches, at half the cost?"""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from unified.eval.lab.arms import SEED_STRIDE, output, scored
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
from unified.eval.lab.ground.bases import BASES, Rows, rows
from unified.eval.lab.ground.measures import diversity
from unified.eval.lab.ground.training import Course, train
from unified.eval.lab.statistics import rank_correlation

from unified.decoding.guidance import Constant
from unified.model import UnifiedModel
from unified.objectives import Scores, build_objective

NAME = "next_scale"
BASE = BASES[NAME]
LAMBDAS = (10, 30, 100, 300)
BETA, SHARE, RATE = 0.02, 0.03, 3e-4  # the rate: a tenth of the base models' own, as published
SCALES = (1.5, 2.0, 3.0, 4.0)  # of guidance, chosen on validation prompts
GAP = 0.01  # of accuracy between guided and unguided, below which there is nothing to recover


def unguided(trial: Trial) -> Numbers:
    """The base model as it is."""
    return {**figures(trial, trial.ground.base(NAME)), **first_loss(trial)}


def guided(trial: Trial) -> Numbers:
    """The same with guidance, at the scale that is best on validation prompts."""
    model, how = trial.ground.base(NAME), trial.ground.how(NAME)
    found = {
        scale: scored(trial, model, "vq", how.but(guidance=Constant(scale)), "validation")["attributes"]
        for scale in SCALES
    }
    best = max(found, key=lambda scale: found[scale])
    return {**figures(trial, model, Constant(best)), "scale": best}


def figures(trial: Trial, model: UnifiedModel, guidance: Constant | None = None) -> Numbers:
    """Drawings, and distinct layouts a caption."""
    how = trial.ground.how(NAME).but(guidance=guidance)
    few = trial.ground.prompts(trial.seed)[: max(2, trial.ground.sizes.prompts // 4)]
    options = {"seed": trial.seed * SEED_STRIDE + 5000, "rows": trial.ground.sizes.rows}
    varied = diversity(model, trial.ground.tokenizer("vq"), few, how, **options)
    return {**scored(trial, model, "vq", how), "diversity": varied}


def pairs(trial: Trial, model: UnifiedModel, step: int, split: str = "train") -> Rows:
    """Row 2i has a picture's own caption, row 2i + 1 that of another picture of the step."""
    captions, codes = trial.ground.captions(split), trial.ground.codes("vq", BASE.shapes, split)
    generator = torch.Generator().manual_seed(1000 * trial.seed + step)
    chosen = torch.randint(len(codes), (max(2, trial.ground.sizes.batch // 2),), generator=generator)
    own, other = captions[chosen], captions[chosen.roll(1)]
    told = torch.stack([own, other], dim=1).flatten(0, 1)
    return rows(model.vocabulary, told, codes[chosen].repeat_interleave(2, dim=0), BASE.order, BASE.shapes)


def scores(model: UnifiedModel, batch: Rows) -> Scores:
    return Scores.of(output(model, batch), batch.layout, batch.labels)


def first_loss(trial: Trial) -> Numbers:
    """The loss where policy and reference are one, beside its formula."""
    model = trial.ground.base(NAME)
    batch = pairs(trial, model, 0)
    with torch.no_grad():
        both = scores(model, batch)
    equal = (batch.ids[0::2] == batch.ids[1::2]).all(dim=1).float()
    lambda_ = 100.0
    weight = float((equal + (1 - equal) * lambda_).mean())
    objective = build_objective("cca", {"beta": BETA, "lambda_": lambda_})
    loss = float(objective.loss(both, both, {"input_ids": batch.ids}).loss)
    return {"first": loss, "formula": (1 + weight) * math.log(2) / lambda_}


def aligned(name: str, options: dict[str, Any], trial: Trial) -> Numbers:
    """Tune the base model by an objective with itself as the reference, and draw without guidance; `valid`:
    the accuracy on validation prompts."""
    model = trial.ground.base(NAME)
    reference = copy.deepcopy(model).requires_grad_(False).eval()
    objective = build_objective(name, options)

    def loss(step: int) -> Tensor:
        batch = pairs(trial, model, step)
        with torch.no_grad():
            fixed = scores(reference, batch)
        return objective.loss(scores(model, batch), fixed, {"input_ids": batch.ids}).loss

    steps = trial.ground.sizes.steps(SHARE)
    course = Course(steps=steps, rate=RATE, what=f"{name} {options}", warmup=0)
    done = train(model, loss, course, trial.work)
    valid = scored(trial, model, "vq", trial.ground.how(NAME), "validation")["attributes"]
    found = {**figures(trial, model), **margins(trial, model, reference)}
    return {**found, "valid": valid, "training": done.seconds}


@torch.no_grad()
def margins(trial: Trial, model: UnifiedModel, reference: UnifiedModel) -> Numbers:
    """On held-out pairs that differ: how often the matched caption gains more."""
    right = total = 0.0
    for step in range(4):
        batch = pairs(trial, model, step, "validation")
        ratio = scores(model, batch).per_sample().sum(1) - scores(reference, batch).per_sample().sum(1)
        differ = (batch.ids[0::2] != batch.ids[1::2]).any(dim=1)
        right += float((ratio[0::2] > ratio[1::2])[differ].sum())
        total += float(differ.sum())
    return {"margin": right / max(total, 1.0)}


def judge(results: Results) -> list[Criterion]:
    arms = [f"lambda {value}" for value in LAMBDAS]
    best = max(arms, key=lambda arm: sum(results.values(arm, "valid")))
    offsets = zip(results.values("unguided", "first"), results.values("unguided", "formula"), strict=True)
    gap = results.difference("guided", "unguided", "attributes")
    criteria = [
        at_most("(a) the first loss differs from its formula", [abs(a - b) for a, b in offsets], 1e-5),
        at_least(f"(b) held-out pairs with a margin above 0, {best}", results.values(best, "margin"), 0.95),
    ]
    for what, name in (("network calls", "calls"), ("cache bytes", "bytes")):
        ratio = [
            a / b for a, b in zip(results.values(best, name), results.values("guided", name), strict=True)
        ]
        criteria.append(at_most(f"(d) {what} beside guidance", ratio, 0.52))
    if sum(gap) / len(gap) < GAP:
        why = f"guidance adds {100 * sum(gap) / len(gap):.1f} points of accuracy here: nothing to recover"
        return [
            *criteria,
            not_applicable("(c) what alignment recovers of the gap to guidance", why, central=True),
        ]
    gained = sum(results.difference(best, "unguided", "attributes")) / sum(gap)
    ranks = []
    for seed in results.seeds:
        values = [results.of(arm, seed, "attributes") for arm in arms]
        stop = values.index(max(values)) + 1
        ranks.append(rank_correlation(LAMBDAS[:stop], values[:stop]) if stop > 2 else 1.0)
    varied = results.difference(arms[-1], arms[0], "diversity")
    worse = [
        results.of("dpo", s, "attributes") <= results.of(best, s, "attributes")
        or results.of("dpo", s, "diversity") <= results.of(best, s, "diversity")
        for s in results.seeds
    ]
    return [
        *criteria,
        at_least(f"(c) share of the gap to guidance that {best} recovers", [gained], 0.8),
        at_least("(e) accuracy rises with lambda up to the best (Spearman)", ranks, 0.8),
        at_most("(e) diversity falls from the least to the largest lambda", varied, 0.0),
        holds("(f) DPO on the same pairs is worse in accuracy or diversity", worse),
    ]


EXPERIMENT = Experiment(
    name="cca",
    what="plain sampling before and after alignment, beside guidance and DPO on the same pairs",
    arms={
        "unguided": unguided,
        "guided": guided,
        **{f"lambda {x}": partial(aligned, "cca", {"beta": BETA, "lambda_": float(x)}) for x in LAMBDAS},
        "dpo": partial(aligned, "dpo", {"beta": BETA}),
    },
    judge=judge,
    minutes=26,
    scaled="captioned scenes only: alignment to the actions of frames needs a base model of clips; "
    "3 % of the base model's steps, captions mismatched by rolling the batch",
    shown=("attributes", "all", "diversity", "calls", "bytes", "margin"),
)
