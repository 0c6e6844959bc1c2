"""Diffusion beats autoregressive (arXiv 2410.22775): compositional scores of base models by the rules of
GenEval and T2I-CompBench, with the scene parser as detector. Do the scores tell right from wrong pictures,
what does the tokenizer cost, and how do raster, next-scale and masked orders compare?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from unified.eval.lab.arms import drawn_with
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    not_applicable,
)
from unified.eval.lab.ground import scenes as told
from unified.eval.lab.ground.tokenizers import as_images
from unified.eval.metrics.compbench import Rules as PlaneRules
from unified.eval.metrics.compbench import number_score, plane_score
from unified.eval.metrics.geneval import judge as judged
from unified.eval.scene_detector import ANY, SceneDetector
from unified.tasks.scenes.scene import SHAPES, Scene, SceneObject
from unified.tokenizers.images import to_uint8

from unified.orders.shapes import as_shapes

DETECTOR = SceneDetector(score=1.0)
NEAR = 150 / 512  # of a side, as in T2I-CompBench
PIXEL = 1 / told.SIDE  # by which two objects must be further apart along one axis than along the other
MODELS = {"raster": "vq", "next_scale": "vq", "masked": "vq"}
GENEVAL = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
CATEGORIES = (*GENEVAL, "plane", "numbers")
PLANE = {
    "left of": "on the left of",
    "right of": "on the right of",
    "above": "on the top of",
    "below": "on the bottom of",
}


def relation(one: SceneObject, other: SceneObject) -> str:
    """Where the first object stands, seen from the second, along the axis on which they are further apart."""
    across, down = one.x - other.x, one.y - other.y
    if abs(across) > abs(down):
        return "left of" if across < 0 else "right of"
    return "above" if down < 0 else "below"


def on_an_axis(one: SceneObject, other: SceneObject) -> bool:
    """Whether a relation in the plane can be told: T2I-CompBench gives none to objects on a diagonal."""
    return abs(abs(one.x - other.x) - abs(one.y - other.y)) >= PIXEL


def clauses(scene: Scene) -> dict[str, dict[str, Any]]:
    """By GenEval's task, what a picture of a scene must show; tasks of two objects need two shapes."""
    plain = [{"class": item.shape, "count": 1} for item in scene.objects]
    coloured = [{**each, "color": item.colour} for each, item in zip(plain, scene.objects, strict=True)]
    count = len(scene.objects)
    found: dict[str, dict[str, Any]] = {
        "counting": {
            "include": [{"class": ANY, "count": count}],
            "exclude": [{"class": ANY, "count": count + 1}],
        }
    }
    if count == 1:
        found |= {"single_object": {"include": plain}, "colors": {"include": coloured}}
    elif scene.objects[0].shape != scene.objects[1].shape:
        first, second = plain
        stands = relation(scene.objects[1], scene.objects[0])
        found |= {"two_object": {"include": plain}, "color_attr": {"include": coloured}}
        found["position"] = {"include": [first, {**second, "position": [stands, 0]}]}
    return {name: {"tag": name, **clause} for name, clause in found.items()}


def scores(scenes: Sequence[Scene], pictures: np.ndarray) -> dict[str, float]:
    """By category, the mean score in percent of pictures of the scenes' captions."""
    every: dict[str, list[float]] = {name: [] for name in CATEGORIES}
    rules = PlaneRules(near=NEAR * pictures.shape[1])
    for scene, picture in zip(scenes, pictures, strict=True):
        seen = DETECTOR.detect(picture, [*SHAPES, ANY])
        for name, clause in clauses(scene).items():
            every[name].append(float(judged(clause, seen).correct))
        shapes = [one for one in seen if one.label != ANY]
        names = [item.shape for item in scene.objects]
        every["numbers"].append(
            number_score([(name, names.count(name)) for name in dict.fromkeys(names)], shapes)
        )
        if len(set(names)) == 2 and on_an_axis(*scene.objects):
            stands = PLANE[relation(*scene.objects)]
            every["plane"].append(plane_score(names, stands, shapes, rules))
    return {name: 100 * float(np.mean(values)) for name, values in every.items() if values}


def shuffled(scenes: Sequence[Scene], pictures: np.ndarray) -> dict[str, float]:
    """The same with the captions of other pictures, of as many objects."""
    order = sorted(range(len(scenes)), key=lambda n: len(scenes[n].objects))
    groups = [[n for n in order if len(scenes[n].objects) == count] for count in (1, 2)]
    moved = {n: group[(k + 1) % len(group)] for group in groups for k, n in enumerate(group)}
    return scores(scenes, np.stack([pictures[moved[n]] for n in range(len(scenes))]))


def truth(trial: Trial) -> Numbers:
    """True pictures, the same with other captions, and what the tokenizer leaves of them."""
    scenes = trial.ground.prompts(trial.seed)
    pictures = told.pictures(scenes)
    return {
        "true": scores(scenes, pictures),
        "shuffled": shuffled(scenes, pictures),
        "tokenizer": scores(scenes, passed(trial, pictures)),
    }


@torch.no_grad()
def passed(trial: Trial, pictures: np.ndarray) -> np.ndarray:
    """Pictures through the tokenizer of the models."""
    coder, shapes = trial.ground.tokenizer("vq"), as_shapes(((8, 8),))
    return to_uint8(coder.decode_maps(coder.encode(as_images(pictures), shapes), shapes))


def drawn(name: str, trial: Trial) -> Numbers:
    """The drawings of a base model."""
    scenes = trial.ground.prompts(trial.seed)
    made = drawn_with(trial, trial.ground.base(name), MODELS[name], trial.ground.how(name))
    found = scores(scenes, made.pictures)
    return {"score": found, "mean": float(np.mean(list(found.values()))), "calls": made.calls}


def judge(results: Results) -> list[Criterion]:
    def asked(kind: str) -> Mapping[str, list[float]]:
        names = results.of("truth", results.seeds[0], kind)
        return {name: results.values("truth", f"{kind}/{name}") for name in names}

    true, wrong = asked("true"), asked("shuffled")
    found = [at_least(f"(1) {name}: true pictures, percent", values, 97.0) for name, values in true.items()]
    for name, values in true.items():
        if name == "counting":
            why = "pictures are shuffled among those of as many objects"
            found.append(not_applicable("(1) counting: points lost with other captions", why))
            continue
        lost = [a - b for a, b in zip(values, wrong[name], strict=True)]
        found.append(at_least(f"(1) {name}: points lost with other captions", lost, 30.0))
    why = "the ground has no diffusion model: three orders are compared without a verdict"
    found.append(not_applicable("(2) raster order is below diffusion", why, central=True))
    return found


EXPERIMENT = Experiment(
    name="t2i_compbench",
    what="compositional scores of true pictures, of the tokenizer, and of three orders",
    arms={"truth": truth, **{name: partial(drawn, name) for name in MODELS}},
    judge=judge,
    minutes=12,
    scaled="captions of at most two objects at 32 pixels, the scene parser as detector, no diffusion model",
    shown=("mean", "calls"),
)
