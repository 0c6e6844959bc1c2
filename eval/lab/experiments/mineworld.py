"""MineWorld (arXiv 2504.08388) with diagonal decoding (arXiv 2503.14070): do drawn frames obey the actions,
and is that kept where codes are written along diagonals, or map by map, in a fraction of the passes?"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import Any

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
from unified.eval.lab.ground import clips as world
from unified.eval.lab.ground.bases import SQUARE
from unified.eval.lab.ground.clips import PAST, Clips
from unified.eval.lab.ground.drawing import SAMPLER, decode
from unified.eval.lab.ground.tokenizers import SCHEDULE
from unified.eval.lab.ground.training import Course, train
from unified.eval.lab.sizes import Sizes

from unified.decoding.session import Session
from unified.model import UnifiedModel
from unified.orders.shapes import Shapes, as_shapes

LENGTH = 6  # frames of a clip: two given, four drawn
SHARE, TUNING = 0.6, 0.3  # of the base models' steps: raster order; each other order from there
READING = 2.0  # of the base models' steps: the inverse model
WAYS: dict[str, tuple[str, Shapes]] = {
    "raster": ("raster", SQUARE),
    "window 2": ("diagonal(window=2)", SQUARE),
    "window 1": ("diagonal", SQUARE),
    "next scale": ("next_scale", as_shapes(SCHEDULE)),
}
LEAST = 0.6  # macro F1 of the inverse model on true frames, below which it tells nothing


def small(sizes: Sizes) -> Sizes:
    """The frames' tokenizer is half as wide as those of scenes, and is trained half as long."""
    size = replace(sizes.tokenizer, width=max(32, sizes.tokenizer.width // 2))
    return replace(sizes, tokenizer=size, tokenizer_steps=max(2, sizes.tokenizer_steps // 2))


def taught(
    trial: Trial, model: UnifiedModel, name: str, codes: dict[str, Tensor], real: Clips, share: float
) -> float:
    """Train a model of frames in one order, on codes [N, T, L] by way; the seconds it took."""
    order, shapes = WAYS[name]
    sizes = trial.ground.sizes
    count = max(2, sizes.batch // 2)

    def loss(step: int) -> Tensor:
        rng = np.random.default_rng([trial.seed, step])
        rows = torch.from_numpy(rng.integers(len(real.actions), size=count))
        times = torch.from_numpy(rng.integers(LENGTH - PAST, size=count))
        past, acted = (
            torch.stack([x[rows, times + n] for n in range(PAST)], dim=1)
            for x in (codes["raster"], real.actions)
        )
        batch = world.world_rows(
            model.vocabulary, past, acted, codes[name][rows, times + PAST], order, shapes
        )
        found = output(model, batch).loss
        assert found is not None
        return found

    course = Course(steps=sizes.steps(share), what=f"{name}, seed {trial.seed}")
    return train(model, loss, course, trial.work / name).seconds


def rolled_out(
    trial: Trial, model: UnifiedModel, coder: Any, name: str, real: Clips
) -> tuple[Clips, Numbers]:
    """Clips that begin with two true frames and go on with drawn ones, each from the latest two as they look;
    passes and seconds of a frame."""
    order, shapes = WAYS[name]
    frames, passes, most = real.frames.copy(), 0, trial.ground.sizes.rows
    began = time.perf_counter()
    for start in range(0, len(frames), most):
        part = slice(start, start + most)
        for step in range(LENGTH - PAST):
            seen = Clips(frames[part, step : step + PAST], real.actions[part])
            past = seen.codes(coder, SQUARE)
            lines = world.context(model.vocabulary, past, real.actions[part, step : step + PAST])
            seed = trial.seed * SEED_STRIDE + 100 * start + step
            session = Session(model, rows=len(lines), seed=seed)
            session.feed(lines)
            drawing = session.draw(shapes, order=order, sampler=SAMPLER)
            frames[part, step + PAST] = decode(coder, drawing.codes, shapes)
            passes += session.stats.passes * len(lines)
    seconds = time.perf_counter() - began
    drawn = len(frames) * (LENGTH - PAST)
    return Clips(frames, real.actions), {"passes": passes / drawn, "seconds": seconds / drawn}


def everything(trial: Trial) -> Numbers:
    """A tokenizer, an inverse model and a model of frames in raster order for a seed, and from there one in
    each other order for as long as raster goes on."""
    sizes = small(trial.ground.sizes)
    cache = trial.ground.cache
    real = world.clips(max(4, sizes.scenes // 16), LENGTH, 0, cache)
    count = max(2, sizes.prompts // 2)
    test = world.clips(count, LENGTH, 1_000_000 + trial.seed * count, cache)
    coder = world.frame_tokenizer(real, sizes, trial.work / "tokenizer")
    steps = sizes.steps(READING)
    inverse = world.train_inverse(real, sizes, steps, trial.seed, trial.work / "inverse")
    codes = {name: real.codes(coder, shapes) for name, (_, shapes) in WAYS.items()}
    orders = ("raster", "diagonal(window=2)", "diagonal", "next_scale")
    start = world.new_world(sizes, orders, trial.seed)
    seconds = taught(trial, start, "raster", codes, real, SHARE)
    ceiling = decode(coder, test.codes(coder, SQUARE).flatten(0, 1), SQUARE).reshape(test.frames.shape)
    found: Numbers = {
        "training": seconds,
        "true": world.following(world.read_actions(inverse, test.frames), test.actions),
        "ceiling": world.following(world.read_actions(inverse, ceiling), test.actions),
    }
    for name in WAYS:
        model = copy.deepcopy(start)
        own = replace(trial, work=trial.work / "tuned")
        taught(own, model, name, codes, real, TUNING)
        drawn, cost = rolled_out(trial, model.eval(), coder, name, test)
        read = world.read_actions(inverse, drawn.frames)[:, PAST - 1 :]
        given = test.actions[:, PAST - 1 :]
        found[name] = {
            **world.following(read, given),
            **cost,
            "psnr": world.mean_psnr(drawn.frames, test.frames)[PAST:],
            "turn_error": float((turned(read) - turned(given)).abs().mean()),
        }
        if name == "raster":
            found["shuffled"] = world.following(read, given.roll(1, dims=0))
    return found


def turned(actions: Tensor) -> Tensor:
    """-1, 0 or 1 of actions [..., 2]."""
    return torch.tensor(world.TURNS)[actions[..., 1]].sign()


def judge(results: Results) -> list[Criterion]:
    def values(name: str) -> list[float]:
        return results.values("all", name)

    def ratio(one: str, other: str) -> list[float]:
        return [a / max(b, 1e-9) for a, b in zip(values(one), values(other), strict=True)]

    def points(one: str, other: str) -> list[float]:
        return [100 * (a - b) for a, b in zip(values(f"{one}/f1"), values(f"{other}/f1"), strict=True)]

    true = values("true/f1")
    what = "(1) macro F1 of drawn clips beside true ones"
    passes = [
        at_least(
            "(3) passes of raster order beside those of window 2",
            ratio("raster/passes", "window 2/passes"),
            2.5,
        ),
    ]
    if sum(true) / len(true) < LEAST:
        why = f"the inverse model reaches a macro F1 of {sum(true) / len(true):.2f} on true clips"
        return [*passes, not_applicable(what, why, central=True)]
    two, one = points("raster", "window 2"), points("raster", "window 1")
    return [
        *passes,
        at_least(what, ratio("raster/f1", "true/f1"), 0.85),
        at_most("(1) macro F1 against the actions of other clips", values("shuffled/f1"), 0.45),
        at_most("(2) turns are off by", values("raster/turn_error"), 1.0),
        at_most("(3) F1 lost by window 2, points", two, 3.0),
        at_least(
            "(3) window 1 loses more than window 2, points",
            [a - b for a, b in zip(one, two, strict=True)],
            0.0,
        ),
        at_least(
            "(4) seconds of a raster frame beside one of window 2",
            ratio("raster/seconds", "window 2/seconds"),
            1.0,
        ),
    ]


EXPERIMENT = Experiment(
    name="mineworld",
    what="frames of the voxel world from two frames and actions, in raster, diagonal and next-scale order",
    arms={"all": everything},
    judge=judge,
    minutes=22,
    scaled="500 clips of 6 frames at 32 x 32, one in four ticks; five moves and three turns; a model of an "
    "eighth of a base model's inner size, 360 steps in raster order and 180 in each order from "
    "there; the inverse model is a small convolutional network; frames go on from how drawn ones "
    "look, encoded anew",
    shown=("f1", "move", "turn", "passes", "seconds", "turn_error"),
)
