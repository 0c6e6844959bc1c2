"""Selftok (arXiv 2505.07538): do codes that a diffusion decoder is shown by its time run from what a picture
is to how it looks, where codes that it always sees do not?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

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
from unified.eval.lab.ground.codecs import Passed, held_out, new, passed, quality, teach, wanted
from unified.eval.lab.ground.measures import layout_of
from unified.eval.lab.ground.tokenizers import as_pictures
from unified.tokenizers.kinds import kind_of
from unified.train.tokenizer import LossConfig, RestartConfig, TokenizerTrainingConfig

from unified.checkpoints.selftok.schedule import STEPS
from unified.checkpoints.selftok.tokenizer import SelftokTokenizer

SHARE, RATE = 1.2, 1e-3  # share of the base models' steps
TOKENS = 64
Shown = tuple[tuple[str, str, str, str], ...]  # `layout_of` a picture
READ = 0.5  # of reconstructions must show what the picture shows, or swapped codes say nothing


def by_time(scheduled: bool, trial: Trial) -> Numbers:
    """A tokenizer whose decoder sees codes by the schedule, or all of them at every time."""
    config = kind_of("selftok").small(wanted(trial, tokens=TOKENS))
    if not scheduled:  # all but the last code from the first thousandth on
        config = replace(config, ends=(1, STEPS), counts=(TOKENS - 1, 1))
    torch.manual_seed(trial.seed)
    tokenizer = SelftokTokenizer(config)
    steps = trial.ground.sizes.steps(SHARE)
    training = TokenizerTrainingConfig(steps=steps, learning_rate=RATE, log_every=steps, restarts=None)
    teach(trial, tokenizer, training, share=0.25)
    _, true = held_out(trial)
    return {**quality(tokenizer, true), **swapped(tokenizer, true)}


def grid(trial: Trial) -> Numbers:
    """As many codes of a grid, by VQ."""
    steps = trial.ground.sizes.steps(SHARE)
    training = TokenizerTrainingConfig(
        steps=steps, learning_rate=RATE, log_every=steps, draws=0, losses=LossConfig(pixels="l2"),
        restarts=RestartConfig(first=8),
    )  # fmt: skip
    tokenizer = teach(trial, new(trial, "vq", wanted(trial)), training, share=0.25)
    _, true = held_out(trial)
    return quality(tokenizer, true)


@torch.no_grad()
def swapped(tokenizer: SelftokTokenizer, true: np.ndarray) -> Numbers:
    """Of pairs of pictures that exchange the first or the last quarter of their codes, in the order of
    generation, how often what is shown goes with the codes: `first` and `last`. `read`: how often a
    reconstruction shows what the picture does."""
    seen = passed(tokenizer, true)
    wanted_, own = [layout_of(picture) for picture in true], [layout_of(picture) for picture in seen.pictures]
    quarter = tokenizer.line // 4
    return {
        "read": float(np.mean([a == b for a, b in zip(wanted_, own, strict=True)])),
        "first": _moved(tokenizer, seen, own, slice(0, quarter)),
        "last": _moved(tokenizer, seen, own, slice(tokenizer.line - quarter, None)),
    }


def _moved(tokenizer: SelftokTokenizer, seen: Passed, own: list[Shown], part: slice) -> float:
    """How often a picture with a part of the next one's codes shows what that one shows, of pairs that
    differ."""
    codes = seen.codes.clone()
    codes[:, part] = seen.codes.roll(-1, 0)[:, part]
    vectors = tokenizer.vectors(codes)
    made = torch.cat([tokenizer.decode_vectors(x.mT[:, :, None]) for x in vectors.split(64)])
    shown = [layout_of(picture) for picture in as_pictures(made)]
    others = own[1:] + own[:1]
    told = [now == other for now, other, mine in zip(shown, others, own, strict=True) if other != mine]
    return float(np.mean(told)) if told else 0.0


def judge(results: Results) -> list[Criterion]:
    arm = "scheduled"

    def percent(name: str, of: str = arm) -> list[float]:
        return [100 * x for x in results.values(of, name)]

    found = [
        at_least("(1) PSNR beside a grid of as many codes, dB", results.difference(arm, "grid", "psnr"), -1.0)
    ]
    what = "(1) what is shown goes with the first quarter of the codes, %"
    read = results.values(arm, "read")
    if sum(read) / len(read) < READ:
        why = f"reconstructions show what the picture shows in {100 * sum(read) / len(read):.0f} %"
        return [*found, not_applicable(what, why, central=True)]
    first, last = percent("first"), percent("last")
    other = ("first", "unscheduled"), ("last", "unscheduled")
    blind = [a >= 80 and b <= 10 for a, b in zip(*(percent(*x) for x in other), strict=True)]
    return [
        *found,
        at_least(what, first, 80.0),
        at_most("(1) and with the last quarter, %", last, 10.0),
        at_most(
            "(1) share of seeds in which codes without a schedule do both", [float(x) for x in blind], 0.0
        ),
    ]


EXPERIMENT = Experiment(
    name="selftok",
    what="codes by diffusion time, the same without a schedule, and a grid of as many codes",
    arms={"scheduled": partial(by_time, True), "unscheduled": partial(by_time, False), "grid": grid},
    judge=judge,
    minutes=16,
    scaled="64 codes of 512 for 32 x 32 scenes, a decoder of pixels folded by two with ten steps in place "
    "of SD3; 720 steps of 8; reinforcement learning (2), 1,000 updates on three tokenizers, does not fit "
    "into the time and is not run",
    shown=("psnr", "usage", "read", "first", "last"),
)
