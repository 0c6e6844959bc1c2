"""Frames imagined from clips, what they are compared with, and their likeness to the true ones by step.

PSNR alone rewards fog: where the future is uncertain the mean of what is possible has the least error. So
beside it stand sharpness, a Frechet distance and, where its weights are given, LPIPS; and beside copying the
last known frame stand copies of it that are blurred (each step by the standard deviation that suits it best)
and the mean of all first frames, which know nothing of the actions either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from unified.eval.measurement import Cell, Run, Table
from unified.eval.metrics.frechet import RandomConvFeatures, frechet_of
from unified.eval.metrics.images import decibel, squared_error, ssim
from unified.eval.metrics.lpips import LPIPS
from unified.eval.metrics.sharpness import gaussian_blur, sharpness_ratio
from unified.tasks.worlds.clips import Clip

from unified.apps.answering import SEED_STRIDE
from unified.decoding.sampling import Sampler

IMAGINED, SAMPLED = "imagined", "imagined, sampled"
COPIED, BLURRED, MEAN = "last frame copied", "last frame blurred", "mean of the first frames"
PASSED = "true frames through the tokenizer"
NUCLEUS = Sampler(
    temperature=0.7, top_p=0.8
)  # of the frames that are sampled: sharp, and less like the truth
BLURS = (1.0, 2.0, 4.0, 8.0)  # standard deviations in pixels
Frames = list[np.ndarray]  # of each clip [steps, H, W, 3]
Curves = dict[str, dict[str, list[float]]]  # by measure, by way, by step


def imagined(
    run: Run, clips: Sequence[Clip], steps: int, *, shift: int = 0, sampler: Sampler | None = None
) -> Frames:
    """Frames of each clip from its first frame and its actions, or with `shift` from those of a later clip.
    `sampler` None: the rollout's own greedy decoding."""
    model, found = run.assistant, []
    for start in range(0, len(clips), run.batch):
        part = range(start, min(start + run.batch, len(clips)))
        seeds = [model.seed * SEED_STRIDE + number for number in part]
        first = [[clips[number].frames[0]] for number in part]
        rollout = run.rollout(first, seeds, sampler)
        fed = [clips[(number + shift) % len(clips)].actions for number in part]
        made = [rollout.step([actions[step] for actions in fed]) for step in range(steps)]
        found += list(np.stack(made, axis=1))
    return found


def ways(run: Run, clips: Sequence[Clip], steps: int) -> dict[str, Frames]:
    """Imagined frames of clips, and all that they are compared with, by name."""
    copies = [np.repeat(clip.frames[:1], steps, axis=0) for clip in clips]
    mean = np.rint(np.mean([clip.frames[0] for clip in clips], axis=0)).astype(np.uint8)
    return {
        IMAGINED: imagined(run, clips, steps),
        SAMPLED: imagined(run, clips, steps, sampler=NUCLEUS),
        COPIED: copies,
        BLURRED: blurred(clips, steps),
        MEAN: [np.repeat(mean[None], steps, axis=0) for _ in clips],
        PASSED: [passed(run, clip.frames[1 : steps + 1]) for clip in clips],
    }


def blurred(clips: Sequence[Clip], steps: int) -> Frames:
    """First frames, at each step blurred by that one of `BLURS` with the least error over all clips."""
    options = [np.stack([gaussian_blur(clip.frames[0], sigma) for clip in clips]) for sigma in BLURS]
    found = []
    for step in range(1, steps + 1):
        truth = np.stack([clip.frames[step] for clip in clips])
        found.append(options[int(np.argmin([squared_error(option, truth) for option in options]))])
    return list(np.stack(found, axis=1))


def psnr_curves(found: dict[str, Frames], clips: Sequence[Clip]) -> dict[str, list[float]]:
    """PSNR of the error pooled over clips, of every way at every step."""
    return {
        name: [decibel(squared_error(*_at(step, made, clips))) for step in range(1, len(made[0]) + 1)]
        for name, made in found.items()
    }


def ssim_curves(found: dict[str, Frames], clips: Sequence[Clip]) -> dict[str, list[float]]:
    """Mean SSIM over clips, of every way at every step."""
    curves = {}
    for name, made in found.items():
        pairs = [zip(*_at(step, made, clips), strict=True) for step in range(1, len(made[0]) + 1)]
        curves[name] = [float(np.mean([ssim(*pair) for pair in at])) for at in pairs]
    return curves


def _at(step: int, made: Frames, clips: Sequence[Clip]) -> tuple[np.ndarray, np.ndarray]:
    """Frames made for a step and true ones, [clips, H, W, 3] both."""
    return np.stack([frames[step - 1] for frames in made]), np.stack([clip.frames[step] for clip in clips])


def appearance(
    found: dict[str, Frames], clips: Sequence[Clip], horizons: Sequence[int], lpips: LPIPS | None = None
) -> Curves:
    """How the frames of every way look after so many steps: sharpness beside the true ones, Frechet distance
    from them, and LPIPS if it is given."""
    features = RandomConvFeatures()
    measures: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "sharpness": sharpness_ratio,
        f"frechet[{features.name}]": lambda made, true: frechet_of(true, made, features),
    }
    if lpips is not None:
        measures[lpips.name] = lambda made, true: float(lpips(made, true).mean())
    curves: Curves = {}
    for measure, value in measures.items():
        curves[measure] = {}
        for name, frames in found.items():
            curves[measure][name] = [value(*_at(step, frames, clips)) for step in horizons]
    return curves


def table(title: str, curves: dict[str, list[float]], horizons: Sequence[int], every: bool = True) -> Table:
    """One row for each way, one column for each horizon. `every`: the curves have a value at every step, not
    at the horizons alone."""
    rows: list[list[Cell]] = [
        [name, *([values[step - 1] for step in horizons] if every else values)]
        for name, values in curves.items()
    ]
    return Table(title, ["", *(f"step {step}" for step in horizons)], rows)


def passed(run: Run, frames: np.ndarray) -> np.ndarray:
    """Frames [n, H, W, 3] through the visual tokenizer and back."""
    processor = run.assistant.processor
    return np.stack([processor.picture(processor.image_item(frame)) for frame in frames])
