"""FlexVAR (arXiv 2502.20313): does a model that predicts whole maps follow lists of sizes it was not trained
on, where one that predicts residuals fails; and larger pictures?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from unified.eval.lab.arms import drawn_with, scored
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    at_most,
)
from unified.eval.lab.ground.drawing import Drawn, How
from unified.eval.lab.ground.measures import layout_of, measured
from unified.eval.lab.ground.scenes import SIDE
from unified.eval.lab.ground.tokenizers import SCHEDULE, as_pictures

from unified.orders.shapes import as_shapes

MODELS = {"flexvar": ("next_scale", "vq"), "var": ("residual", "residual_vq")}
UNSEEN = {"4 steps": (1, 3, 4, 8), "6 steps": (1, 2, 3, 5, 6, 8), "7 steps": (1, 2, 3, 4, 5, 7, 8)}
LARGER = (1, 2, 3, 4, 6, 8, 12)
FROM = 4  # side of the smallest map that is to show what the last one does


def both(trial: Trial) -> Numbers:
    """Both models on their own list and on unseen ones; then larger pictures, and every map by itself."""
    found: Numbers = {}
    for name, (base, tokenizer) in MODELS.items():
        model, how = trial.ground.base(base), How(order=base, shapes=as_shapes(SCHEDULE))
        lists = {"own list": SCHEDULE, **UNSEEN}
        for title, sides in lists.items():
            shapes = as_shapes(sides)
            found[f"{name}, {title}"] = scored(trial, model, tokenizer, how.but(shapes=shapes))
    model, how = trial.ground.base("next_scale"), How(order="next_scale", shapes=as_shapes(LARGER))
    drawn = drawn_with(trial, model, "vq", how)
    found["larger"] = measured(trial.ground.prompts(trial.seed), drawn)
    own = drawn_with(trial, model, "vq", how.but(shapes=as_shapes(SCHEDULE)))
    found["maps"] = by_map(own, trial.ground.tokenizer("vq"))
    return found


@torch.no_grad()
def by_map(drawn: Drawn, tokenizer: Any) -> dict[str, float]:
    """By side, how often a map by itself shows what the last one does."""
    shapes = as_shapes(SCHEDULE)
    last = [layout_of(picture) for picture in drawn.pictures]
    found = {}
    for shape, ids in zip(shapes, drawn.codes.split([h * w for h, w in shapes], dim=1), strict=True):
        if FROM <= shape[0] < SCHEDULE[-1]:
            images = F.interpolate(tokenizer.decode(ids, shape), (SIDE, SIDE), mode="bicubic")
            shown = [layout_of(picture) for picture in as_pictures(images)]
            found[str(shape[0])] = float(np.mean([a == b for a, b in zip(shown, last, strict=True)]))
    return found


def judge(results: Results) -> list[Criterion]:
    arm = "both"

    def points(name: str) -> list[float]:
        return [100 * value for value in results.values(arm, f"{name}/attributes")]

    def dropped(name: str) -> list[float]:
        """The largest loss on an unseen list."""
        own, others = points(f"{name}, own list"), [points(f"{name}, {title}") for title in UNSEEN]
        return [a - min(b) for a, b in zip(own, zip(*others, strict=True), strict=True)]

    own = [a - b for a, b in zip(points("flexvar, own list"), points("var, own list"), strict=True)]
    sides = [str(side) for side in SCHEDULE if FROM <= side < SCHEDULE[-1]]
    agree = [min(results.of(arm, seed, f"maps/{side}") for side in sides) for seed in results.seeds]
    return [
        at_least("(b) attribute accuracy against residual prediction, points", own, -2.0),
        at_most("(c) the worst unseen list costs, points", dropped("flexvar"), 5.0),
        at_least("(c) it costs residual prediction, points", dropped("var"), 15.0),
        at_least("(d) pictures of 48 pixels that are all right", results.values(arm, "larger/all"), 0.6),
        at_least(f"(e) maps from side {FROM} on that show what the last does", agree, 0.7),
    ]


EXPERIMENT = Experiment(
    name="flexvar",
    what="whole maps beside residuals on lists of sizes that neither was trained on, and larger pictures",
    arms={"both": both},
    judge=judge,
    minutes=8,
    scaled="32 x 32 scenes; the model of whole maps is trained on five lists of sizes; that no map sees its "
    "own codes (a) is a test of every order; small maps are enlarged to be parsed",
    shown=("attributes", "all", "calls"),
)
