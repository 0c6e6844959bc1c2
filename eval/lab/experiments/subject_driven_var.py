"""ARBooth (arXiv 2504.02612): can a next-scale model be taught one subject by a part of its weights, and does
holding it to what the frozen model draws of the class keep the class as it was?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn
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
from unified.eval.lab.ground.bases import rows
from unified.eval.lab.ground.codecs import passed
from unified.eval.lab.ground.scenes import caption, pictures
from unified.eval.lab.ground.steering import (
    BASE,
    PLAN,
    SoftWords,
    codes_of,
    drawn_under,
    scores_of,
    word_vectors,
)
from unified.eval.lab.ground.training import Course, train
from unified.tasks.scenes.parser import parse
from unified.tasks.scenes.scene import BACKGROUNDS, Scene, SceneObject

from unified.model import UnifiedModel
from unified.objectives import build_objective
from unified.objectives.objective import Objective

SHARE, RATE = 0.1, 1e-3  # of the base models' steps
SUBJECT = SceneObject(shape="square", colour="red", size="large", fill="outline", x=0.5, y=0.5)
COLOURS = ("blue", "green", "yellow", "red")  # of the class's pictures
SIZE = 1  # the place of a caption's word that stands for the subject
SHOWN, PRIOR, EACH = 4, 16, 4  # pictures of the subject; drawings of the class; drawings of one caption
PLACES = tuple((x, y) for y in (0.22, 0.5, 0.78) for x in (0.22, 0.5, 0.78))
COARSE = tuple(1.0 for _ in range(len(BASE.shapes) - 2))  # maps that weigh 1; the others weigh half
LEAST = 0.5  # of the subject's pictures that the tokenizer keeps


def subject_scenes(count: int, first: int) -> list[Scene]:
    """The subject on grounds and at places that go on with the numbers."""
    grounds = tuple(BACKGROUNDS)
    return [
        Scene(background=grounds[n % len(grounds)],
              objects=(replace(SUBJECT, x=PLACES[n * 5 % 9][0], y=PLACES[n * 5 % 9][1]),))
        for n in range(first, first + count)
    ]  # fmt: skip


def class_scenes(count: int, first: int) -> list[Scene]:
    """Large squares, as the base model knows them."""
    found = subject_scenes(count, first)
    return [
        replace(one, objects=(replace(one.objects[0], fill="solid", colour=COLOURS[n % len(COLOURS)]),))
        for n, one in enumerate(found)
    ]


def is_subject(picture: np.ndarray) -> bool:
    """One outlined shape."""
    objects = parse(picture).objects
    return len(objects) == 1 and objects[0].fill == "outline"


@dataclass(frozen=True)
class Method:
    """`part`: of the layers, only feed-forward networks and projections of keys and values are trained;
    `weighted`: coarse maps count more; `prior`: the class is held to what the frozen model draws."""

    part: bool
    weighted: bool = False
    prior: bool = False


METHODS = {
    "full tuning": Method(False),
    "part": Method(True),
    "part, weighted": Method(True, True),
    "part, weighted, prior": Method(True, True, True),
}
WHOLE = "part, weighted, prior"


def free(model: UnifiedModel, part: bool) -> float:
    """Leave what a method trains; its share of all parameters."""
    names = ("k_proj", "v_proj", "mlp.")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not part or (".layers." in name and any(x in name for x in names)))
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(count for count, trained in counts if trained) / sum(count for count, _ in counts)


def objective_of(method: Method) -> Objective:
    if not method.weighted:
        return build_objective("cross_entropy")
    return build_objective("scale_weighted", {"weights": COARSE, "rest": 0.5})


def taught(method: Method, trial: Trial) -> Numbers:
    """A base model that learns the subject, and what it then draws."""
    model = trial.ground.base("residual")
    teacher = copy.deepcopy(model).requires_grad_(False)
    share = free(model, method.part)
    word = SoftWords(word_vectors(teacher, [caption(class_scenes(1, 0)[0])[SIZE]])[None], (SIZE,))
    shown = subject_scenes(SHOWN, 100 * trial.seed)
    told = torch.tensor([caption(one) for one in shown])
    codes = codes_of(trial, pictures(shown))
    objective, held = objective_of(method), held_to(trial, teacher) if method.prior else None

    def loss(step: int) -> Tensor:
        rng = np.random.default_rng([37, trial.seed, step])
        numbers = torch.from_numpy(rng.integers(SHOWN, size=max(2, trial.ground.sizes.batch // 4)))
        batch = rows(model.vocabulary, told[numbers], codes[numbers], BASE.order, BASE.shapes)
        found = scores_of(model, batch, [word])
        own = objective.loss(found, None, {"rows": len(batch.ids)}).loss / PLAN.length
        return own if held is None else own + held(model, rng)

    both = nn.ModuleDict({"model": model, "word": word})
    steps = trial.ground.sizes.steps(SHARE)
    done = train(both, loss, Course(steps=steps, rate=RATE, what="subject"), trial.work)
    return {**figures(trial, model, word), "share": share, "training": done.seconds}


def held_to(trial: Trial, teacher: UnifiedModel) -> Callable[[UnifiedModel, np.random.Generator], Tensor]:
    """The divergence from the frozen model on what that draws of the class, which is drawn once."""
    scenes = class_scenes(PRIOR, 1000 + 100 * trial.seed)
    codes = drawn_under(trial, teacher, scenes).codes
    told = torch.tensor([caption(one) for one in scenes])
    objective = build_objective("prior_distillation")

    def loss(model: UnifiedModel, rng: np.random.Generator) -> Tensor:
        numbers = torch.from_numpy(rng.integers(PRIOR, size=max(2, trial.ground.sizes.batch // 4)))
        batch = rows(model.vocabulary, told[numbers], codes[numbers], BASE.order, BASE.shapes)
        with torch.no_grad():
            fixed = scores_of(teacher, batch)
        found = objective.loss(scores_of(model, batch), fixed, {"rows": len(batch.ids)})
        return found.loss / PLAN.length

    return loss


def figures(trial: Trial, model: UnifiedModel, word: SoftWords | None) -> Numbers:
    """`subject`: how often its word shows it, `drift`: how often the class does, `diversity` of the class,
    and `kept`: how often the subject's own pictures show it after the tokenizer."""
    count = max(2, trial.ground.sizes.prompts // 2)
    first = 1000 + 100 * trial.seed
    parts = None if word is None else lambda numbers: [word]
    told = drawn_under(trial, model, subject_scenes(count, first), parts).pictures
    same = [one for one in class_scenes(max(1, count // EACH), first) for _ in range(EACH)]
    plain = drawn_under(trial, model, same).pictures
    true = pictures(subject_scenes(count, first))
    kept = passed(trial.ground.tokenizer(BASE.tokenizer), true).pictures
    return {
        "subject": float(np.mean([is_subject(picture) for picture in told])),
        "drift": float(np.mean([is_subject(picture) for picture in plain])),
        "diversity": spread(plain),
        "kept": float(np.mean([is_subject(picture) for picture in kept])),
    }


def spread(drawn: np.ndarray) -> float:
    """The mean distance in levels between two drawings of one caption."""
    groups: Sequence[np.ndarray] = np.split(drawn.astype(float), len(drawn) // EACH)
    return float(np.mean([np.abs(a - b).mean() for group in groups for a, b in combinations(group, 2)]))


def untouched(trial: Trial) -> Numbers:
    return figures(trial, trial.ground.base("residual"), None)


def judge(results: Results) -> list[Criterion]:
    def percent(arm: str, name: str) -> list[float]:
        return [100 * x for x in results.values(arm, name)]

    kept = results.values("base", "kept")
    what = "(a) the subject's word shows the subject, %"
    if sum(kept) / len(kept) < LEAST:
        why = f"the tokenizer keeps the subject in {100 * sum(kept) / len(kept):.0f} % of its pictures"
        return [not_applicable(what, why, central=True)]
    drift, full = percent(WHOLE, "drift"), percent("full tuning", "drift")
    diverse = [100 * a / max(b, 1e-9) for a, b in zip(results.values(WHOLE, "diversity"),
               results.values("base", "diversity"), strict=True)]  # fmt: skip
    weighted = [100 * x for x in results.difference("part, weighted", "part", "subject")]
    return [
        at_least(what, percent(WHOLE, "subject"), 80.0),
        at_least("(a) against full tuning, points",
                 [100 * x for x in results.difference(WHOLE, "full tuning", "subject")], -3.0),
        at_most("(b) the class shows the subject, %", drift, 10.0),
        at_most("(b) twice that less what full tuning does, points",
                [2 * a - b for a, b in zip(drift, full, strict=True)], 0.0),
        at_least("(c) diversity of the class, % of the base's", diverse, 90.0),
        at_most("(d) share of the weights that is trained", results.values(WHOLE, "share"), 0.7),
        at_least("(e) weights of coarse maps add to the subject, points", weighted, 2.0),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="subject_driven_var",
    what="an outlined square as the subject, a class of which the residual base model knows solid ones",
    arms={"base": untouched, **{name: partial(taught, method) for name, method in METHODS.items()}},
    judge=judge,
    minutes=12,
    scaled="the residual base model, whose captions have nine words: a learned vector in the place of the "
    "size is the subject's word; projections of keys and values stand for cross-attention; four pictures, "
    "60 steps of 8; what the frozen model draws of the class is drawn once, and both losses are one step",
    shown=("subject", "drift", "diversity", "share", "training"),
)
