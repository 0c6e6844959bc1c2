"""LARP (arXiv 2410.21264): does a small autoregressive prior, trained with a video tokenizer, make its codes
easier to generate without making them say less?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
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
from unified.eval.lab.ground.codecs import Data, code_probe, quality, teach, wanted
from unified.eval.lab.ground.scenes import SIDE, caption
from unified.eval.lab.ground.scenes import scene as scene_of
from unified.tasks.sample import generator
from unified.tasks.scenes.generate import inside
from unified.tasks.scenes.parser import parse
from unified.tasks.scenes.render import render
from unified.tasks.scenes.scene import Scene, SceneObject
from unified.tokenizers.kinds import kind_of
from unified.train.tokenizer import TokenizerTrainingConfig

from unified.checkpoints.larp.tokenizer import LARPTokenizer

SHARE, PROBE, RATE = 0.7, 0.4, 1e-3  # shares of the base models' steps
FRAMES, TOKENS, STRIDE = 4, 64, 8
SPEED = 3  # pixels a frame, at most, along either axis
SLACK = 1.5 / SIDE  # by which two steps of a path may differ: a pixel, and half a pixel of reading
WEIGHT = 0.06
READ = 0.9  # of true clips must be found to move evenly, or the check says nothing


def moving(number: int, split: str) -> list[Scene]:
    """One shape that moves evenly and stays within the picture; frame by frame."""
    one = scene_of(number, split)
    rng = generator(29, split, number)
    while True:
        speed = rng.integers(-SPEED, SPEED + 1, size=2) / SIDE
        first = one.objects[0]
        try:
            places = [
                replace(first, x=first.x + n * speed[0], y=first.y + n * speed[1]) for n in range(FRAMES)
            ]
        except ValueError:  # outside the picture
            continue
        if speed.any() and all(map(inside, places)):
            return [Scene(background=one.background, objects=(item,)) for item in places]


def clips_of(numbers: Sequence[int], split: str) -> tuple[list[Scene], np.ndarray]:
    """First frames as scenes, and clips uint8 [N, 4, 32, 32, 3]."""
    every = [moving(number, split) for number in numbers]
    return [one[0] for one in every], np.stack([[render(scene, SIDE) for scene in one] for one in every])


def is_even(clip: np.ndarray) -> bool:
    """Whether a clip shows one shape, always the same, that moves evenly."""
    items: list[SceneObject] = []
    for frame in clip:
        objects = parse(frame).objects
        if len(objects) != 1:
            return False
        items += objects
    if len({(item.shape, item.colour) for item in items}) > 1:
        return False
    places = np.array([[item.x, item.y] for item in items])
    return bool(np.abs(np.diff(places, n=2, axis=0)).max() <= SLACK)


def _kept(cache: Path, count: int) -> tuple[list[Scene], np.ndarray]:
    """The first training clips, drawn once."""
    path = cache / f"moving-{count}.npy"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part.npy")
        np.save(partial, clips_of(range(count), "train")[1])
        partial.replace(path)
    return [moving(number, "train")[0] for number in range(count)], np.load(path)


def data_of(trial: Trial) -> Data:
    sizes = trial.ground.sizes
    told, shown = _kept(trial.ground.cache, min(1024, sizes.scenes))
    count = sizes.prompts
    scenes, held = clips_of(range(trial.seed * count, (trial.seed + 1) * count), "test")
    return Data(shown, torch.tensor([caption(one) for one in told]), scenes, held)


def with_prior(weight: float, rounds: int, trial: Trial) -> Numbers:
    """A tokenizer, and a generator of its codes."""
    data, sizes = data_of(trial), trial.ground.sizes
    what = wanted(trial, frames=FRAMES, tokens=TOKENS, stride=STRIDE)
    torch.manual_seed(trial.seed)
    tokenizer = LARPTokenizer(replace(kind_of("larp").small(what), prior=weight, rounds=rounds))
    steps = sizes.steps(SHARE)
    config = TokenizerTrainingConfig(steps=steps, learning_rate=RATE, log_every=steps, restarts=None)
    teach(trial, tokenizer, config, data.pictures, share=0.25)
    found, drawn = code_probe(trial, tokenizer, PROBE, data=data)
    kept = quality(tokenizer, data.held)
    return {**kept, **found, "even": float(np.mean([is_even(clip) for clip in drawn])),
            "true": float(np.mean([is_even(clip) for clip in data.held]))}  # fmt: skip


def judge(results: Results) -> list[Criterion]:
    own, plain = "prior", "no prior"
    less = [
        100 * (1 - a / b)
        for a, b in zip(results.values(own, "bits"), results.values(plain, "bits"), strict=True)
    ]
    used = [
        100 * min(pair)
        for pair in zip(results.values(own, "usage"), results.values(plain, "usage"), strict=True)
    ]
    usage = at_least("(3) codes in use in both, %", used, 50.0)
    what = "(1) bits of a clip that a generator needs, % fewer"
    if not usage.met:
        why = f"the codes in use are {usage.measured} %: fewer bits would be fewer codes"
        found = [not_applicable(what, why, central=True)]
    else:
        found = [at_least(what, less, 10.0)]
    lost = [-x for x in results.difference(own, plain, "psnr")]
    return [*found, at_most("(1) PSNR lost, dB", lost, 0.5), _of_paths(results), usage]


def _of_paths(results: Results) -> Criterion:
    what = "(2) generated clips that move evenly, points more than without a prior"
    true = results.values("prior", "true")
    if sum(true) / len(true) < READ:
        why = f"the check passes {100 * sum(true) / len(true):.0f} % of true clips"
        return not_applicable(what, why)
    if not any(results.values("prior", "even") + results.values("no prior", "even")):
        return not_applicable(what, "no generated clip moves evenly, with a prior or without")
    return at_least(what, [100 * x for x in results.difference("prior", "no prior", "even")], 10.0)


EXPERIMENT = Experiment(
    name="larp",
    what="a tokenizer of clips with and without a prior, and a generator of its codes",
    arms={
        own: partial(with_prior, weight, rounds)
        for own, weight, rounds in (
            ("no prior", 0.0, 1),
            ("prior", WEIGHT, 2),
            ("prior, one round", WEIGHT, 1),
        )
    },
    judge=judge,
    minutes=22,
    scaled="clips of four frames of 32 x 32 pixels with one shape that moves evenly, without bounces; 64 "
    "codes of 512; transformers of two layers, 420 steps of 8, generators of an eighth of a base model's "
    "inner size, 240 steps, told the caption of the first frame; no LPIPS, no discriminator",
    shown=("psnr", "usage", "perplexity", "bits", "even"),
)
