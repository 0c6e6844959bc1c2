"""The imagined world by horizon: likeness, sharpness, obedience, and what happens when nothing should.

One true frame is given, the others are imagined from the true actions (MineWorld's protocol, arXiv
2504.08388), greedily and sampled. PSNR is that of the mean squared error over all clips: with the mean of
per-image values, frames on which nothing moves (100 dB for a copy) would decide everything. What the numbers
are beside is in `imagining`, actions read back in `following`, standing still and looking away in `scripted`,
single actions that players hardly use in `single_actions`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from unified.eval.measurement import DATA_SEED, Example, Goal, Result, Run, Table
from unified.eval.metrics import lpips
from unified.eval.metrics.images import decibel, squared_error
from unified.eval.metrics.rates import mean
from unified.eval.suites.following import add_following, inverse_model
from unified.eval.suites.imagining import (
    COPIED,
    IMAGINED,
    SAMPLED,
    Curves,
    Frames,
    appearance,
    psnr_curves,
    ssim_curves,
    table,
    ways,
)
from unified.eval.suites.scripted import add_scripts
from unified.eval.suites.single_actions import add_single_actions
from unified.tasks.worlds.clips import Clip, WorldConfig, watch
from unified.tasks.worlds.recorded import RecordedClips, RecordingsConfig

HORIZONS = (1, 4, 8, 16, 32)
GOAL = 16  # the longer horizon of the goals, and of means over steps
TITLES = {"psnr": "PSNR of the pooled error, dB", "ssim": "SSIM", "sharpness": "Edge energy beside the true"}


def world(run: Run) -> Result:
    """`count` clips of 33 frames: of the voxel world, or of a folder of recordings, which has the horizons
    alone."""
    measure = lpips.load(*run.lpips) if run.lpips else None
    if run.recordings is not None:
        result = by_horizon(run, recorded(run), measure)
        result.goals.clear()  # they are of the voxel world
        result.notes.append(
            f"Clips of {run.recordings}. Scripts, single actions and action following are of the voxel world."
        )
        return result
    inverse = inverse_model(run)
    config = WorldConfig(size=run.assistant.side, frames=HORIZONS[-1] + 1, seed=DATA_SEED)
    result = by_horizon(run, [watch(config, index, run.split) for index in range(run.count)], measure)
    add_scripts(run, result, HORIZONS)
    add_single_actions(run, result)
    add_following(run, result, inverse)
    return result


def recorded(run: Run) -> list[Clip]:
    """At most `count` clips of 33 frames of a folder, whatever split they would fall into. ValueError for a
    folder without recordings, or without one that is long enough."""
    folder, frames = str(run.recordings), HORIZONS[-1] + 1
    config = RecordingsConfig(
        folder=folder, size=run.assistant.side, frames=frames, seed=DATA_SEED, validation=0.0, test=0.0
    )
    source = RecordedClips(config)
    return [source.clip(index, "train") for index in range(min(run.count, source.count("train")))]


def by_horizon(run: Run, clips: list[Clip], measure: lpips.LPIPS | None) -> Result:
    """Likeness and sharpness of the imagined frames of clips, beside what they are compared with."""
    found = ways(run, clips, HORIZONS[-1])
    curves = {"psnr": psnr_curves(found, clips), "ssim": ssim_curves(found, clips)}
    looks = appearance(found, clips, HORIZONS, measure)
    psnr = curves["psnr"]
    gains = {step: psnr[IMAGINED][step - 1] - psnr[COPIED][step - 1] for step in HORIZONS}
    result = Result(
        numbers={
            "by_step": {name: {key: curves[key][name] for key in curves} for name in found},
            "by_horizon": {"steps": list(HORIZONS), **looks},
            "mean_of_16": _means(curves),
            "psnr_above_copy": gains,
            "psnr_above_copy_per_image": per_image_gain(found[IMAGINED], found[COPIED], clips),
            "clips": len(clips),
        },
        tables=_tables(curves, looks),
        goals=[
            Goal("world, 1 step, above copying the last frame", gains[1], 4.0, "dB"),
            Goal("world, 16 steps, above copying the last frame", gains[GOAL], 2.0, "dB"),
        ],
        examples=[
            example for number in range(min(3, len(clips))) for example in _examples(clips, found, number)
        ],
        curves={"PSNR by step": psnr},
    )
    if measure is None:
        result.notes.append(
            "LPIPS was not measured: it needs weights that are not part of the package. Give torchvision's "
            "AlexNet or VGG16 and LPIPS's linear weights for it as --lpips BACKBONE LINEAR."
        )
    return result


def _tables(curves: Curves, looks: Curves) -> list[Table]:
    tables = [table(TITLES[key], by_way, HORIZONS) for key, by_way in curves.items()]
    return tables + [
        table(TITLES.get(key, key), found, HORIZONS, every=False) for key, found in looks.items()
    ]


def _means(curves: Curves) -> dict[str, dict[str, float]]:
    """Of every way, over the first `GOAL` steps."""
    names = curves["psnr"]
    return {name: {key: float(np.mean(curves[key][name][:GOAL])) for key in curves} for name in names}


def per_image_gain(made: Frames, copied: Frames, clips: list[Clip]) -> dict[str, Any]:
    """Decibels above the copy as a mean over clips with its interval; clips whose copy is perfect are left
    out (nothing moved) and counted."""
    found: dict[str, Any] = {}
    for step in (1, GOAL):
        errors = [
            [squared_error(side[step - 1], clip.frames[step]) for side in (own, copy)]
            for own, copy, clip in zip(made, copied, clips, strict=True)
        ]
        moving = [(own, copy) for own, copy in errors if copy > 1e-10]
        found[str(step)] = mean(decibel(own) - decibel(copy) for own, copy in moving)
        found[f"{step}, nothing moved"] = len(errors) - len(moving)
    return found


def _examples(clips: list[Clip], found: dict[str, Frames], number: int) -> list[Example]:
    clip, steps = clips[number], [step - 1 for step in HORIZONS]
    words = "true: frame 0 and after " + ", ".join(map(str, HORIZONS)) + " actions"
    return [
        Example(words, [clip.frames[0], *clip.frames[1:][steps]]),
        *(Example(name, [clip.frames[0], *found[name][number][steps]]) for name in (IMAGINED, SAMPLED)),
    ]
