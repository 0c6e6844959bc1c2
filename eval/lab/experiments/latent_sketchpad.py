"""Latent Sketchpad (arXiv 2510.24514): do sketches of mazes help, and are they read? Nothing is trained here:
the arms of `train/experiments/sketchpad` are, each for an hour or more, and this reads what they measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    not_applicable,
)
from unified.eval.lab.sizes import TOY as TOY_SIZES
from unified.train.experiments.sketchpad.arms import ARMS, TOY, Setting, run

OUT = Setting().out  # where the experiment's own results lie
COMMAND = "python -m unified.train.experiments.sketchpad"
ORDER = sorted(ARMS, key=lambda name: bool(ARMS[name].timed))  # those that train as long as another last
TRAINED = 5  # the largest size of mazes that models are trained on
LEAST = 20.0  # per cent of mazes of trained sizes that a model with its own sketches solves
KINDS = {"success": "mazes", "progress": "mazes", "visual_success": "mazes", "consistent_images": "images"}


def shares(measured: Mapping[str, Mapping[str, float]], larger: bool) -> Numbers:
    """Of mazes of trained sizes, or of `larger` ones, all together: per cent of each kind in KINDS; none
    where nothing was measured."""
    sizes = [numbers for size, numbers in measured.items() if (int(size) > TRAINED) == larger]
    counts = {kind: sum(one[of] for one in sizes) for kind, of in KINDS.items()}
    return {
        kind: 100 * sum(one[kind] for one in sizes) / counts[kind] if counts[kind] else 0.0 for kind in KINDS
    }


def numbers_of(result: Mapping[str, Any]) -> Numbers:
    """By kind of sketches, `trained` and `larger` sizes; the seconds of training and of a maze."""
    found: Numbers = {}
    for shown, measured in result["solved"].items():
        found[shown] = {"trained": shares(measured, False), "larger": shares(measured, True)}
    own = result["solved"].get("own", {}).values()
    mazes = sum(one["mazes"] for one in own)
    seconds = sum(one["seconds"] for one in own) / mazes if mazes else 0.0
    return {**found, "training": result["spent"]["seconds"], "seconds": seconds}


def read(name: str, trial: Trial) -> Numbers:
    """What an arm measured with a seed; in a toy run it is run, tiny. ValueError, with the command, where
    there is nothing, or not all of it."""
    if trial.ground.sizes == TOY_SIZES:
        folder = trial.work.parent / "sketchpad"
        return numbers_of(run(name, trial.seed, replace(TOY, out=folder, work=folder / "models")))
    return numbers_of(whole(OUT / f"{name}-{trial.seed}.json", name, trial.seed))


def whole(path: Path, name: str, seed: int) -> dict[str, Any]:
    """The result of an arm. ValueError, with the command, unless it is there and holds all sketches."""
    command = f"run `{COMMAND} {name} --seeds {seed}`"
    if not path.is_file():
        raise ValueError(f"{path}: no such result: {command}")
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = [shown for shown in ARMS[name].shown if shown not in result["solved"]]
        result["spent"]["seconds"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no result of this experiment") from None
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)} sketches: {command}")
    return result


def judge(results: Results) -> list[Criterion]:
    def less(one: tuple[str, str], other: tuple[str, str], name: str = "trained/success") -> list[float]:
        """Points by which an arm with some sketches is above another."""
        pairs = zip(*(results.values(arm, f"{shown}/{name}") for arm, shown in (one, other)), strict=True)
        return [a - b for a, b in pairs]

    own, words = ("path", "own"), ("words_time", "own")
    what = "(1) success with sketches less words alone, trained for as long, points"
    solved = results.values("path", "own/trained/success")
    if sum(solved) / len(solved) < LEAST:
        why = f"{sum(solved) / len(solved):.0f} % of mazes of trained sizes are solved with sketches"
        return [not_applicable(what, why, central=True)]
    return [
        at_least(what, less(own, words), 0.0),
        at_least("(1) the same of sketches that fill dead ends", less(("fill", "own"), words), 0.0),
        at_least("(2) what sketches of another maze cost, points", less(own, ("path", "another's")), 5.0),
        at_least("(2) what noise in their place costs, points", less(own, ("path", "noise")), 5.0),
        at_least(
            "(3) success of filled mazes less a search in words, trained for as long, points",
            less(("fill", "own"), ("chart_time", "own")),
            0.0,
        ),
        at_least(
            "(4) mazes larger than trained: sketches less words, points",
            less(own, words, "larger/success"),
            0.0,
        ),
        at_least(
            "(5) latents of its own encoder: what another maze's cost, points",
            less(("latents", "own"), ("latents", "another's")),
            5.0,
        ),
    ]


EXPERIMENT = Experiment(
    name="latent_sketchpad",
    what="mazes with sketches as codes or latents, others' sketches, noise and none, beside words alone",
    arms={name: partial(read, name) for name in ORDER},
    judge=judge,
    minutes=1,
    scaled=f"the arms of `{COMMAND}` (docs/sketchpad.md), which train for hours; here their results are read",
    shown=("own", "training", "seconds"),
)
