"""Action following: whether imagined frames do what they are asked to.

Obedience is read back by an inverse dynamics model that has only seen true frames
(`unified.tasks.worlds.inverse`), and given relative to its own score on the true video, on clips of a player
who uses every key: players with a goal hardly press any but "forward". As a control the actions of other
clips are fed: what is read back must then no longer agree. How much of it agrees by chance is read from the
true video of those clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from unified.eval.measurement import DATA_SEED, Goal, Result, Run, Table
from unified.eval.metrics.following import accuracy, by_bin, by_key, f1, macro_f1, varied
from unified.eval.suites.imagining import Frames, imagined
from unified.tasks.worlds.action_classes import CLASSES, bin_degrees
from unified.tasks.worlds.clips import Clip
from unified.tasks.worlds.inverse import InverseModel, load, truth_of, watched

STEPS = 16
AXES = ("pitch", "yaw")
BY_CHANCE = "true video of another clip"
TRUSTED = 0.95  # macro F1 on true video from which an inverse dynamics model can be relied on


def following(
    inverse: InverseModel, frames: Frames, clips: Sequence[Clip]
) -> dict[str, dict[str, np.ndarray]]:
    """Classes read back ("read") from clips that begin with their true first frame, and true ones
    ("truth")."""
    read, truth = [], []
    for made, clip in zip(frames, clips, strict=True):
        read.append(inverse.read(np.concatenate([clip.frames[:1], made])))
        truth.append(truth_of(clip.actions))
    return {
        name: {head: np.concatenate([part[head] for part in parts]) for head in truth[0]}
        for name, parts in (("read", read), ("truth", truth))
    }


def inverse_model(run: Run) -> InverseModel | None:
    """The one that was named, or that lies beside the model; None if there is none. ValueError for one that
    reads other frames."""
    path = _inverse_file(run)
    if path is None:
        return None
    inverse = load(path)
    if inverse.config.size != run.assistant.side:
        raise ValueError(
            f"{path} reads frames of {inverse.config.size} pixels, the model draws {run.assistant.side}"
        )
    if run.count < 2:
        raise ValueError("action following needs at least two clips: raise --count")
    return inverse


def add_following(run: Run, result: Result, inverse: InverseModel | None) -> None:
    """What is read back, as tables, numbers and goals of a result; a note without an inverse model."""
    if inverse is None:
        result.notes.append(
            "Action following was not measured: no inverse dynamics model. Train one with "
            "`python -m unified.eval.inverse --out inverse.safetensors` and give it as --inverse."
        )
        result.goals.append(Goal("action following, relative macro F1", None, 0.85))
        return
    shift = run.count // 2
    clips = list(watched(run.count, run.split, size=run.assistant.side, frames=STEPS + 1, seed=DATA_SEED))
    real = [clip.frames[1:] for clip in clips]
    made, shuffled = imagined(run, clips, STEPS), imagined(run, clips, STEPS, shift=shift)
    sources = {"true video": real, "imagined": made, "actions of another clip": shuffled}
    found = {name: following(inverse, frames, clips) for name, frames in sources.items()}
    found[BY_CHANCE] = {
        **found["true video"],
        "read": _of_later(found["true video"]["read"], len(clips), shift),
    }
    tasks = varied({name: found["true video"]["truth"][name] for name in CLASSES})
    if not tasks:
        result.notes.append("Action following was not measured: no action varies in so few clips.")
        return
    scores = {name: _scored(pair["read"], pair["truth"], tasks) for name, pair in found.items()}
    base = scores["true video"]["macro_f1"]
    if base < TRUSTED:
        result.notes.append(
            f"The inverse dynamics model reaches only {base:.3f} on true video (wanted: {TRUSTED}): relative "
            "figures are to be read with care."
        )
    relative = {name: score["macro_f1"] / base if base else 0.0 for name, score in scores.items()}
    result.numbers["action_following"] = {"tasks": tasks, "scores": scores, "relative": relative}
    rows = [
        [name, s["macro_f1"], relative[name], s["accuracy"], s["camera_bins"]] for name, s in scores.items()
    ]
    header = ["video", "macro F1", "relative", "accuracy", "camera error (bins)"]
    result.tables.append(Table("Actions of a player who uses every key, read back", header, rows))
    by_task = [[name, *(scores[source]["by_task"][name] for source in scores)] for name in tasks]
    result.tables.append(Table("Macro F1 by task", ["task", *scores], by_task))
    _add_details(result, found)
    result.goals += [
        Goal("action following, relative macro F1", relative["imagined"], 0.85),
        Goal("the same with actions of another clip", relative["actions of another clip"], 0.5, most=True),
    ]


def _add_details(result: Result, found: dict[str, dict[str, dict[str, np.ndarray]]]) -> None:
    """What is obeyed of every key, and of every bin of the camera: an action that is rare or large may be
    ignored without any mean telling."""
    sources = ("true video", "imagined")
    keys = {name: by_key(found[name]["read"], found[name]["truth"]) for name in sources}
    bins = {
        name: {axis: by_bin(found[name]["read"][axis], found[name]["truth"][axis]) for axis in AXES}
        for name in sources
    }
    result.numbers["action_following"] |= {"keys": keys, "camera": bins}
    true, made = (keys[name] for name in sources)
    result.tables.append(
        Table(
            "Every key, read back",
            [
                "key",
                "pressed",
                "F1, true video",
                *(f"{what}, imagined" for what in ("F1", "precision", "recall")),
            ],
            [
                [
                    key,
                    count["count"],
                    true[key]["f1"],
                    *(made[key][what] for what in ("f1", "precision", "recall")),
                ]
                for key, count in true.items()
                if count["count"]
            ],
        )
    )
    rows: list[list[Any]] = []
    for axis in AXES:
        for label, one in bins["true video"][axis].items():
            other = bins["imagined"][axis][label]
            degrees = f"{axis} {bin_degrees(label):+.1f}"
            rows.append(
                [
                    degrees,
                    one["count"],
                    one["exact"],
                    other["exact"],
                    one["read"] - label,
                    other["read"] - label,
                ]
            )
    header = [
        "degrees",
        "steps",
        "exact, true video",
        "exact, imagined",
        "off by bins, true video",
        "off by bins, imagined",
    ]
    result.tables.append(Table("Every bin of the camera, read back", header, rows))


def _of_later(read: dict[str, np.ndarray], clips: int, shift: int) -> dict[str, np.ndarray]:
    """Every clip with the classes of the one `shift` later, as `imagined` takes its actions."""
    return {
        head: np.roll(classes.reshape(clips, -1), -shift, axis=0).ravel() for head, classes in read.items()
    }


def _scored(read: dict[str, np.ndarray], truth: dict[str, np.ndarray], tasks: list[str]) -> dict[str, Any]:
    camera = [float(np.abs(read[axis] - truth[axis]).mean()) for axis in AXES]
    return {
        "macro_f1": f1(read, truth, tasks),
        "accuracy": accuracy(read, truth, tasks),
        "camera_bins": float(np.mean(camera)),
        "by_task": {name: macro_f1(read[name], truth[name]) for name in tasks},
    }


def _inverse_file(run: Run) -> Path | None:
    """The one that was named, or the one that lies beside the model."""
    if run.inverse is not None:
        return run.inverse
    beside = run.assistant.folder / "inverse.safetensors" if run.assistant.folder else None
    return beside if beside is not None and beside.is_file() else None
