"""SemAIM (arXiv 2312.10457): does predicting a picture outward from what means most teach more of its object
than raster or random order?"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from unified.eval.lab.arms import output
from unified.eval.lab.experiment import Criterion, Experiment, Numbers, Results, Trial, at_least
from unified.eval.lab.ground.bases import SIDE, SQUARE, Base, new_model, vocabulary
from unified.eval.lab.ground.probes import probed, read_features, rows_of_each
from unified.eval.lab.ground.training import Course, train
from unified.tasks.scenes.scene import SIZES, Scene, SceneObject

from unified.model import UnifiedModel
from unified.orders.rings import salient

SHARE, MAPPED = 0.4, 0.75  # of the base models' steps; of those, where a map costs a pass without gradient
BASE = Base(tokenizer="vq", order="raster")
CENTRE = (SIDE // 2, SIDE // 2)
PERMUTATIONS = 16
ORDERS = {"raster": "raster", "random": "masked", "centre": "rings", "semantic": "rings", "oracle": "rings"}


def similarity(model: UnifiedModel, codes: Tensor) -> Tensor:
    """[N, T]: how much a patch means: softmax of the cosine of its features with their mean."""
    features = read_features(model, codes, SQUARE)
    return F.cosine_similarity(features, features.mean(dim=1, keepdim=True), dim=-1).softmax(dim=-1)


def true_cell(one: Scene) -> tuple[int, int]:
    """Row and column, from 1 on, of the middle of the first object."""
    item = one.objects[0]
    return min(int(item.y * SIDE), SIDE - 1) + 1, min(int(item.x * SIDE), SIDE - 1) + 1


def inside(place: tuple[int, int], one: Scene) -> bool:
    """Whether the middle of a cell lies within the box of an object."""
    y, x = ((n - 0.5) / SIDE for n in place)

    def near(item: SceneObject) -> bool:
        return max(abs(item.x - x), abs(item.y - y)) <= SIZES[item.size]

    return any(near(item) for item in one.objects)


def data_of(
    name: str, model: UnifiedModel, codes: Tensor, scenes: list[Scene], number: int
) -> list[tuple[int, ...]]:
    """What the order is told of each picture."""
    if name == "raster":
        return [()] * len(codes)
    if name == "random":
        return [(number % PERMUTATIONS + 1,)] * len(codes)
    if name == "centre":
        return [CENTRE] * len(codes)
    if name == "oracle":
        return [true_cell(one) for one in scenes]
    return [salient(mapped, SQUARE[0]) for mapped in similarity(model, codes)]


def pretrained(name: str, trial: Trial) -> Numbers:
    """A small model without captions, trained in one order."""
    sizes, ground = trial.ground.sizes, trial.ground
    words = vocabulary(sizes.tokenizer.codes, ("rings",))
    model = new_model(BASE, sizes, trial.seed, sizes.model.part(0.5, 0.5), words=words)
    codes, scenes = ground.codes("vq", SQUARE), ground.scenes("train")

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(1_000_000 * trial.seed + step)
        chosen = torch.randint(len(codes), (sizes.batch,), generator=generator)
        number = int(torch.randint(PERMUTATIONS, (1,), generator=generator))
        told = data_of(name, model, codes[chosen], [scenes[n] for n in chosen.tolist()], number)
        found = output(model, rows_of_each(words, codes[chosen], ORDERS[name], SQUARE, told)).loss
        assert found is not None
        return found

    steps = sizes.steps(SHARE * (MAPPED if name == "semantic" else 1.0))
    course = Course(steps=steps, what=f"{name} order, seed {trial.seed}")
    done = train(model, loss, course, trial.work)
    held = ground.codes("vq", SQUARE, "validation")
    places = [salient(mapped, SQUARE[0]) for mapped in similarity(model, held)]
    pairs = zip(places, ground.scenes("validation", len(held)), strict=True)
    hits = [inside(place, one) for place, one in pairs]
    area = [
        sum(inside((r, c), one) for r in range(1, SIDE + 1) for c in range(1, SIDE + 1)) / SIDE**2
        for one in ground.scenes("validation", len(held))
    ]
    return {
        **probed(ground, model, "vq", SQUARE),
        "hits": sum(hits) / len(hits),
        "chance": sum(area) / len(area),
        "loss": done.losses[-1],
        "training": done.seconds,
    }


def judge(results: Results) -> list[Criterion]:
    def points(one: str, other: str) -> list[float]:
        return [100 * x for x in results.difference(one, other, "probe")]

    def bar(arm: str) -> tuple[float, float]:
        """Mean and standard error, in points."""
        found = 100 * np.array(results.values(arm, "probe"))
        error = found.std(ddof=1) / math.sqrt(len(found)) if len(found) > 1 else 0.0
        return float(found.mean()), float(error)

    (best, error), others = bar("semantic"), map(bar, ("random", "raster"))
    apart = min(best - error - (mean + spread) for mean, spread in others)
    return [
        at_least("(b) the semantic centre lies on an object", results.values("semantic", "hits"), 0.6),
        at_least("(c) probe of the semantic order against random, points", points("semantic", "random"), 1.0),
        at_least("(c) against raster, points", points("semantic", "raster"), 2.0),
        at_least("(c) between its bar of one standard error and the nearer of theirs, points", [apart], 0.0),
        at_least("(d) true centres are no worse than found ones, points", points("oracle", "semantic"), -1.0),
    ]


EXPERIMENT = Experiment(
    name="semaim",
    what="one small model taught pictures in raster, random, centre-out, semantic and true object order",
    arms={name: partial(pretrained, name) for name in ORDERS},
    judge=judge,
    minutes=16,
    scaled="8 x 8 codes in place of pixels, one or two objects on plain ground; the mean feature in place "
    "of a class token; rings of one distance are one step; a model of an eighth of a base model's "
    "inner size, 240 steps, 180 in semantic order, whose maps take a pass more; features are those of codes "
    "that are read with full attention; leaks (a) are a test of every order",
    shown=("probe", "shape", "colour", "cell", "hits", "chance"),
)
