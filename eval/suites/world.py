"""The imagined world: quality by horizon against copying the last frame, and whether actions are obeyed.

One true frame is given, `STEPS` are imagined from the true actions (MineWorld's protocol, arXiv 2504.08388).
PSNR is that of the mean squared error over all clips: with the mean of per-image values, frames on which
nothing moves (100 dB for a copy) would decide everything. Obedience is read back by an inverse dynamics model
that has only seen true frames (`unified.tasks.worlds.inverse`), and given relative to its own score on the
true video, on clips of a player who uses every key: players with a goal hardly press any but "forward". As a
control the actions of other clips are fed: what is read back must then no longer agree. How much of it agrees
by chance is read from the true video of those clips.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from unified.eval.measurement import DATA_SEED, Example, Goal, Result, Run, Table
from unified.eval.metrics.following import accuracy, f1, macro_f1, varied
from unified.eval.metrics.images import decibel, squared_error, ssim
from unified.eval.metrics.rates import mean
from unified.tasks.worlds.action_classes import CLASSES
from unified.tasks.worlds.clips import Clip, WorldConfig, watch
from unified.tasks.worlds.inverse import InverseModel, load, truth_of, watched

from unified.apps.answering import SEED_STRIDE

STEPS = 16
SHOWN = (1, 2, 4, 8, 16)
BY_CHANCE = "true video of another clip"
TRUSTED = 0.95  # macro F1 on true video from which an inverse dynamics model can be relied on
Frames = list[np.ndarray]


def world(run: Run) -> Result:
    """`count` clips of 17 frames."""
    config = WorldConfig(size=run.assistant.side, frames=STEPS + 1, seed=DATA_SEED)
    clips = [watch(config, index, run.split) for index in range(run.count)]
    made = imagined(run, clips)
    passed = [_passed(run, clip) for clip in clips]
    copied = [np.repeat(clip.frames[:1], STEPS, axis=0) for clip in clips]
    ways = {"imagined": made, "last frame copied": copied, "true frames through the tokenizer": passed}
    curves = {name: quality(frames, clips) for name, frames in ways.items()}
    rows: list[list[Any]] = [
        [step, *(curves[name][key][step - 1] for key in ("psnr", "ssim") for name in ways)] for step in SHOWN
    ]
    averages = {name: {key: float(np.mean(curves[name][key])) for key in ("psnr", "ssim")} for name in ways}
    rows.append(["mean of 16", *(averages[name][key] for key in ("psnr", "ssim") for name in ways)])
    header = ["step", *(f"{key}, {name}" for key in ("PSNR", "SSIM") for name in ways)]
    gains = {step: _gain(curves, step) for step in SHOWN}
    result = Result(
        numbers={
            "by_step": curves,
            "mean_of_16": averages,
            "psnr_above_copy": gains,
            "psnr_above_copy_per_image": per_image_gain(made, copied, clips),
            "clips": len(clips),
        },
        tables=[Table("Frames by horizon (PSNR of the pooled error, dB)", header, rows)],
        goals=[
            Goal("world, 1 step, above copying the last frame", gains[1], 4.0, "dB"),
            Goal("world, 16 steps, above copying the last frame", gains[16], 2.0, "dB"),
        ],
        examples=[example for pair in zip(clips[:3], made, strict=False) for example in _examples(*pair)],
        curves={"PSNR by step": {name: curves[name]["psnr"] for name in ways}},
    )
    _add_following(run, result)
    return result


def imagined(run: Run, clips: list[Clip], shift: int = 0) -> list[np.ndarray]:
    """Frames [STEPS, H, W, 3] of each clip from its first frame and its actions, or with `shift` from those
    of a later clip."""
    model, found = run.assistant, []
    for start in range(0, len(clips), run.batch):
        part = range(start, min(start + run.batch, len(clips)))
        seeds = [model.seed * SEED_STRIDE + number for number in part]
        first = [[clips[number].frames[0]] for number in part]
        rollout = run.rollout(first, seeds)
        fed = [clips[(number + shift) % len(clips)].actions for number in part]
        steps = [rollout.step([actions[step] for actions in fed]) for step in range(STEPS)]
        found += list(np.stack(steps, axis=1))
    return found


def quality(frames: list[np.ndarray], clips: list[Clip]) -> dict[str, list[float]]:
    """PSNR of the pooled error and mean SSIM at every step."""
    pairs = [(made, clip.frames[1:]) for made, clip in zip(frames, clips, strict=True)]
    errors = np.array([[squared_error(a, b) for a, b in zip(*pair, strict=True)] for pair in pairs])
    likeness = np.array([[ssim(a, b) for a, b in zip(*pair, strict=True)] for pair in pairs])
    return {
        "psnr": [decibel(error) for error in errors.mean(axis=0)],
        "ssim": [float(value) for value in likeness.mean(axis=0)],
    }


def per_image_gain(made: Frames, copied: Frames, clips: list[Clip]) -> dict[str, Any]:
    """Decibels above the copy as a mean over clips with its interval; clips whose copy is perfect are left
    out (nothing moved) and counted."""
    found: dict[str, Any] = {}
    for step in (1, STEPS):
        errors = [
            [squared_error(side[step - 1], clip.frames[step]) for side in (own, copy)]
            for own, copy, clip in zip(made, copied, clips, strict=True)
        ]
        moving = [(own, copy) for own, copy in errors if copy > 1e-10]
        found[str(step)] = mean(decibel(own) - decibel(copy) for own, copy in moving)
        found[f"{step}, nothing moved"] = len(errors) - len(moving)
    return found


def following(inverse: InverseModel, frames: Frames, clips: list[Clip]) -> dict[str, dict[str, np.ndarray]]:
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


def _add_following(run: Run, result: Result) -> None:
    path = _inverse_file(run)
    if path is None:
        result.notes.append(
            "Action following was not measured: no inverse dynamics model. Train one with "
            "`python -m unified.eval.inverse --out inverse.safetensors` and give it as --inverse."
        )
        result.goals.append(Goal("action following, relative macro F1", None, 0.85))
        return
    inverse = load(path)
    if inverse.config.size != run.assistant.side:
        raise ValueError(
            f"{path} reads frames of {inverse.config.size} pixels, the model draws {run.assistant.side}"
        )
    if run.count < 2:
        raise ValueError("action following needs at least two clips: raise --count")
    shift = run.count // 2
    clips = list(watched(run.count, run.split, size=run.assistant.side, frames=STEPS + 1, seed=DATA_SEED))
    real = [clip.frames[1:] for clip in clips]
    made, shuffled = imagined(run, clips), imagined(run, clips, shift=shift)
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
    result.goals += [
        Goal("action following, relative macro F1", relative["imagined"], 0.85),
        Goal("the same with actions of another clip", relative["actions of another clip"], 0.5, most=True),
    ]


def _of_later(read: dict[str, np.ndarray], clips: int, shift: int) -> dict[str, np.ndarray]:
    """Every clip with the classes of the one `shift` later, as `imagined` takes its actions."""
    return {
        head: np.roll(classes.reshape(clips, -1), -shift, axis=0).ravel() for head, classes in read.items()
    }


def _scored(read: dict[str, np.ndarray], truth: dict[str, np.ndarray], tasks: list[str]) -> dict[str, Any]:
    camera = [float(np.abs(read[axis] - truth[axis]).mean()) for axis in ("pitch", "yaw")]
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


def _gain(curves: dict[str, dict[str, list[float]]], step: int) -> float:
    return curves["imagined"]["psnr"][step - 1] - curves["last frame copied"]["psnr"][step - 1]


def _passed(run: Run, clip: Clip) -> np.ndarray:
    processor = run.assistant.processor
    return np.stack([processor.picture(processor.image_item(frame)) for frame in clip.frames[1:]])


def _examples(clip: Clip, made: np.ndarray) -> list[Example]:
    steps = [0, 1, 3, 7, 11, 15]
    return [
        Example(
            "true: frame 0 and after 1, 2, 4, 8, 12, 16 actions", [clip.frames[0], *clip.frames[1:][steps]]
        ),
        Example("imagined", [clip.frames[0], *made[steps]]),
    ]
