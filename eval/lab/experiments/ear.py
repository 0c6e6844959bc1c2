"""EAR (arXiv 2506.20151): can one colour be taken out of the weights, and are the others kept better where
windows of codes that have little to do with it are left alone?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.arms import SEED_STRIDE, output
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    at_most,
    not_applicable,
)
from unified.eval.lab.ground.bases import BASES, Rows, rows
from unified.eval.lab.ground.drawing import draw
from unified.eval.lab.ground.measures import measured
from unified.eval.lab.ground.scenes import caption, pictures
from unified.eval.lab.ground.scenes import scene as scene_of
from unified.eval.lab.ground.tokenizers import as_images
from unified.eval.lab.ground.training import Course, Trained, train
from unified.tasks.scenes.generate import HELD_OUT
from unified.tasks.scenes.parser import parse
from unified.tasks.scenes.scene import Scene

from unified.model import UnifiedModel
from unified.objectives import Objective, Scores, build_objective
from unified.objectives.erasure import erasure_target

CONCEPT = "red"  # the base models draw colours well, and shapes not yet
REPLACEMENTS = ("blue", "green", "white")
PAIRS, SHARE, RATE = 40, 0.16, 1e-3
LAYERS = 5 / 9  # of the layers, from the first on, whose attention is trained
WINDOW, QUANTILE = 16, 0.2
KINDS = {"raster": ("base", "single", "masked", "replacement"), "next_scale": ("base", "masked")}
LEAST = 0.5  # of the concept's drawings show it, or there is nothing to erase


def shows(one: Scene) -> bool:
    return any(item.colour == CONCEPT for item in one.objects)


def found_scenes(split: str, first: int, count: int, wanted: Callable[[Scene], bool]) -> list[Scene]:
    """The first so many from a number on."""
    found: list[Scene] = []
    number = first
    while len(found) < count:
        one = scene_of(number, split)
        found += [one] if wanted(one) else []
        number += 1
    return found


def replaced(one: Scene, number: int) -> Scene:
    """The same with another colour in place of the concept."""
    objects = []
    for item in one.objects:
        names = [name for name in REPLACEMENTS if (item.shape, name) not in HELD_OUT]
        colour = names[number % len(names)] if item.colour == CONCEPT else item.colour
        objects.append(replace(item, colour=colour))
    return Scene(background=one.background, objects=tuple(objects))


def figures(trial: Trial, model: UnifiedModel, kind: str) -> Numbers:
    """How often drawings of the concept's captions show it, and drawings of other captions."""
    base, how = BASES[kind], trial.ground.how(kind)
    count = max(2, trial.ground.sizes.prompts // 2)
    options = {"seed": trial.seed * SEED_STRIDE, "rows": trial.ground.sizes.rows}
    told = found_scenes("test", trial.seed * 4000, count, shows)
    others = found_scenes("test", trial.seed * 4000, 2 * count, lambda one: not shows(one))
    coder = trial.ground.tokenizer(base.tokenizer)
    drawn = draw(model, coder, told, how, **options)
    rate = float(np.mean([shows(parse(picture)) for picture in drawn.pictures]))
    return {"concept": rate, **measured(others, draw(model, coder, others, how, **options))}


# Training ---------------------------------------------------------------------------------------------------


class Pairs:
    """Captions [P, 9] with and without the concept; codes [P, 2, T] that the base model draws for either;
    codes [P, T] of true pictures without it."""

    def __init__(self, trial: Trial, model: UnifiedModel, kind: str) -> None:
        base, sizes = BASES[kind], trial.ground.sizes
        count = max(4, round(PAIRS * sizes.prompts / 128))
        told = found_scenes("train", 300_000 + 10_000 * trial.seed, count, shows)
        others = [replaced(one, number) for number, one in enumerate(told)]
        coder, how = trial.ground.tokenizer(base.tokenizer), trial.ground.how(kind)
        options = {"seed": trial.seed * SEED_STRIDE + 9000, "rows": sizes.rows}
        self.told, self.others = (torch.tensor([caption(x) for x in scenes]) for scenes in (told, others))
        self.drawn = torch.stack(
            [draw(model, coder, scenes, how, **options).codes for scenes in (told, others)], dim=1
        )
        images = as_images(pictures(others))
        with torch.no_grad():
            self.true = torch.cat(coder.encode(images, base.shapes), dim=1)

    def chosen(self, trial: Trial, step: int, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(100_000 * trial.seed + step)
        return torch.randint(len(self.told), (count,), generator=generator)


def scores(model: UnifiedModel, batch: Rows) -> Scores:
    return Scores.of(output(model, batch), batch.layout, batch.labels)


def erasing_rows(pairs: Pairs, chosen: Tensor, side: Tensor, model: UnifiedModel, kind: str) -> Rows:
    """Row 2i under the concept's caption, row 2i + 1 under the other, with the same codes: those drawn for
    the caption number `side` [n]."""
    told = torch.stack([pairs.told[chosen], pairs.others[chosen]], dim=1).flatten(0, 1)
    codes = pairs.drawn[chosen, side].repeat_interleave(2, dim=0)
    return rows(model.vocabulary, told, codes, BASES[kind].order, BASES[kind].shapes)


def threshold(pairs: Pairs, model: UnifiedModel, kind: str) -> float:
    """The loss of a window below which a fifth of all windows lie before training."""
    sums = []
    with torch.no_grad():
        for side in (0, 1):
            chosen = torch.arange(min(16, len(pairs.told)))
            found = scores(model, erasing_rows(pairs, chosen, torch.full_like(chosen, side), model, kind))
            own = found.log_probs[found.targets].view(len(found.log_probs), -1)
            concept, neutral = own[0::2], own[1::2]
            errors = (concept - erasure_target(concept, neutral, neutral, 1.0)).square()
            sums += [part.sum(dim=1) for part in errors.split(WINDOW, dim=1) if part.shape[1] == WINDOW]
    return float(torch.cat(sums).quantile(QUANTILE))


@torch.no_grad()
def kept_windows(
    objective: Objective, pairs: Pairs, model: UnifiedModel, reference: UnifiedModel, kind: str
) -> float:
    """The share of windows that training ends with."""
    found = []
    for side in (0, 1):
        for chosen in torch.arange(len(pairs.told)).split(16):
            batch = erasing_rows(pairs, chosen, torch.full_like(chosen, side), model, kind)
            told = {"input_ids": batch.ids}
            logs = objective.loss(scores(model, batch), scores(reference, batch), told).logs
            found += [float(logs["kept"])] * len(chosen)
    return float(np.mean(found))


def free_attention(model: UnifiedModel) -> None:
    """Of all weights leave those of the attention of the first layers to be trained."""
    model.requires_grad_(False)
    layers = list(model.library.layers)
    for layer in layers[: max(1, round(LAYERS * len(layers)))]:
        layer.self_attn.requires_grad_(True)


def erased(kind: str, masked: bool, trial: Trial) -> Numbers:
    """The objective over single codes, or over windows of which the least are left out."""
    model = trial.ground.base(kind)
    reference = copy.deepcopy(model).requires_grad_(False).eval()
    pairs = Pairs(trial, reference, kind)
    least = threshold(pairs, reference, kind) if masked else 0.0
    options = {"window": WINDOW if masked else 1, "threshold": least}
    objective = build_objective("erasure", options)

    def loss(step: int) -> Tensor:
        chosen = pairs.chosen(trial, step, max(1, trial.ground.sizes.batch // 4))
        side = torch.arange(len(chosen)) % 2
        batch = erasing_rows(pairs, chosen, side, model, kind)
        with torch.no_grad():
            fixed = scores(reference, batch)
        return objective.loss(scores(model, batch), fixed, {"input_ids": batch.ids}).loss

    done = _train(trial, model, loss, f"{kind}, {options}")
    kept = kept_windows(objective, pairs, model, reference, kind)
    return {**figures(trial, model, kind), "skipped": 1 - kept, "threshold": least, "training": done.seconds}


def tuned(kind: str, trial: Trial) -> Numbers:
    """The likelihood of true pictures without the concept under the captions with it."""
    model = trial.ground.base(kind)
    pairs = Pairs(trial, model, kind)

    def loss(step: int) -> Tensor:
        chosen = pairs.chosen(trial, step, max(1, trial.ground.sizes.batch // 4))
        base = BASES[kind]
        batch = rows(model.vocabulary, pairs.told[chosen], pairs.true[chosen], base.order, base.shapes)
        found = output(model, batch).loss
        assert found is not None
        return found

    done = _train(trial, model, loss, f"{kind}, replacement pictures")
    return {**figures(trial, model, kind), "training": done.seconds}


def _train(trial: Trial, model: UnifiedModel, loss: Callable[[int], Tensor], what: str) -> Trained:
    free_attention(model)
    course = Course(steps=trial.ground.sizes.steps(SHARE), rate=RATE, what=what)
    return train(model, loss, course, trial.work)


def untouched(kind: str, trial: Trial) -> Numbers:
    return figures(trial, trial.ground.base(kind), kind)


# Criteria ---------------------------------------------------------------------------------------------------


def judge(results: Results) -> list[Criterion]:
    base, masked, single = (f"{name}, raster" for name in ("base", "masked", "single"))

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    there = mean(results.values(base, "concept"))
    if there < LEAST:
        why = f"the base model shows {CONCEPT} in {100 * there:.0f} % of its drawings of it"
        return [not_applicable(f"(a) drawings that still show {CONCEPT}", why, central=True)]
    lost = [100 * x for x in results.difference(base, masked, "colour")]
    skipped = [100 * x for x in results.values(masked, "skipped")]
    worse = [100 * x for x in results.difference(masked, single, "concept")]
    matched = max(mean(results.values(arm, "concept")) for arm in (masked, single)) <= 0.05
    kept = [100 * x for x in results.difference(masked, single, "attributes")]
    what = "(c) windows keep more accuracy of other captions than single codes, points"
    return [
        at_most(f"(a) drawings that still show {CONCEPT}", results.values(masked, "concept"), 0.05),
        at_most("(b) accuracy of other colours lost, points", lost, 3.0),
        at_least(what, kept, 2.0)
        if matched
        else not_applicable(what, "the two do not both erase to 5 %: nothing to match"),
        at_least("(d) windows left out at the end, %", skipped, 15.0),
        at_most("(d) what leaving out costs in erasure, points", worse, 1.0),
    ]


ARMS: dict[str, Callable[[str, Trial], Numbers]] = {
    "base": untouched,
    "single": lambda kind, trial: erased(kind, False, trial),
    "masked": lambda kind, trial: erased(kind, True, trial),
    "replacement": tuned,
}

EXPERIMENT = Experiment(
    name="ear",
    what=f"a model made to forget the {CONCEPT}, by single codes, by windows, and by other pictures",
    arms={f"{name}, {kind}": partial(ARMS[name], kind) for kind, names in KINDS.items() for name in names},
    judge=judge,
    minutes=18,
    scaled="log-probabilities of codes that the base model drew, for either caption, not hidden states; "
    "96 steps over 40 pairs; a fifth of all windows lie below the threshold before training; raster "
    "order is judged, next-scale shown; the base models read no images, so recognition is not asked",
    shown=("concept", "attributes", "colour", "skipped", "training"),
)
