"""Hita (arXiv 2507.02358): do holistic codes before local ones hold what is global in a picture, and is the
line of both easier to generate?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
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
from unified.eval.lab.ground.codecs import Passed, code_probe, held_out, new, passed, quality, teach, wanted
from unified.eval.lab.ground.measures import FRECHET, layout_of, scores
from unified.eval.lab.ground.probes import accuracy
from unified.eval.lab.ground.scenes import NUMBER
from unified.eval.lab.ground.teacher import FEATURES, taught
from unified.eval.lab.ground.tokenizers import as_pictures
from unified.tasks.scenes.parser import parse
from unified.tasks.scenes.scene import Scene
from unified.tokenizers.kinds import kind_of
from unified.train.tokenizer import LossConfig, RestartConfig, TokenizerTrainingConfig

from unified.checkpoints.hita.tokenizer import HitaTokenizer

SHARE, PROBE, RATE = 0.5, 0.35, 1e-3  # shares of the base models' steps
EVERY = 8  # measurements of a generator while it learns
SHIFTS = {"hita": 4, "least shift": 1}
LEAST = 0.5  # of reconstructions show their own ground, below which swaps say nothing
APART = 15.0  # points that random local codes tell less


def new_hita(trial: Trial, shift: int, features: int = 0) -> HitaTokenizer:
    config = kind_of("hita").small(wanted(trial, features=features))
    torch.manual_seed(trial.seed)
    shift = min(shift, config.network.holistic)
    return HitaTokenizer(replace(config, network=replace(config.network, shift=shift)))


def trained(trial: Trial, tokenizer: Any, teacher: Any = None) -> Any:
    steps = trial.ground.sizes.steps(SHARE)
    config = TokenizerTrainingConfig(
        steps=steps,
        learning_rate=RATE,
        log_every=steps,
        draws=0,
        losses=LossConfig(pixels="l2"),
        restarts=RestartConfig(first=8),
    )
    return teach(trial, tokenizer, config, teacher=teacher, share=0.25)


def holistic(shift: int, told: bool, trial: Trial) -> Numbers:
    """Holistic and local codes: what probes find in either, what swaps show, and a generator's bits."""
    teacher = taught(trial, trial.work / "teacher") if told else None
    tokenizer = new_hita(trial, shift, FEATURES if told else 0)
    tokenizer.teacher = teacher
    trained(trial, tokenizer, teacher)
    scenes, true = held_out(trial)
    found, drawn = code_probe(trial, tokenizer, PROBE, every=_every(trial))
    seen = passed(tokenizer, true)
    return {
        **quality(tokenizer, true),
        **scores(scenes, drawn),
        **found,
        **swapped(tokenizer, seen, scenes),
        **told_by(trial, tokenizer),
    }


def local(trial: Trial) -> Numbers:
    """The grid alone, from a VQ codebook."""
    tokenizer = trained(trial, new(trial, "vq", wanted(trial)))
    scenes, true = held_out(trial)
    found, drawn = code_probe(trial, tokenizer, PROBE, every=_every(trial))
    return {**quality(tokenizer, true), **scores(scenes, drawn), **found}


def _every(trial: Trial) -> int:
    return max(1, trial.ground.sizes.steps(PROBE) // EVERY)


@torch.no_grad()
def swapped(tokenizer: HitaTokenizer, seen: Passed, scenes: list[Scene]) -> Numbers:
    """Pictures with the holistic codes of one and the local codes of the next: whether they show the ground
    of the one and the objects of the other, where the other's reconstruction shows any. `own`: whether
    reconstructions show their own ground."""
    mixed = torch.cat(
        [seen.codes[:, : tokenizer.holistic], seen.codes[:, tokenizer.holistic :].roll(-1, 0)], dim=1
    )
    pictures = as_pictures(tokenizer.decode_maps([mixed], [(1, tokenizer.line)]))
    grounds = [one.background for one in scenes]
    others = grounds[1:] + grounds[:1]
    told = [a != b for a, b in zip(grounds, others, strict=True)]  # pairs whose grounds differ
    style = [parse(picture).background == ground for picture, ground in zip(pictures, grounds, strict=True)]
    own = [layout_of(picture) for picture in seen.pictures]
    content = [layout_of(picture) == other
               for picture, other in zip(pictures, own[1:] + own[:1], strict=True) if other]  # fmt: skip
    shown = [
        parse(picture).background == ground for picture, ground in zip(seen.pictures, grounds, strict=True)
    ]
    return {
        "style": float(np.mean([x for x, differs in zip(style, told, strict=True) if differs] or [False])),
        "content": float(np.mean(content or [False])),
        "own": float(np.mean(shown)),
    }


def told_by(trial: Trial, tokenizer: HitaTokenizer) -> Numbers:
    """How often a linear probe finds the ground's colour in the holistic codes, and in as many local ones at
    places drawn once."""
    ground = trial.ground
    pictures = ground.pictures()[: 64 * ground.sizes.batch]
    split = len(pictures) * 3 // 4
    codes = passed(tokenizer, pictures).codes
    labels = torch.tensor([NUMBER[one.background] for one in ground.scenes("train")[: len(codes)]])
    generator = torch.Generator().manual_seed(trial.seed)
    places = torch.randperm(tokenizer.line - tokenizer.holistic, generator=generator)[: tokenizer.holistic]
    chosen = {"holistic": codes[:, : tokenizer.holistic], "local": codes[:, tokenizer.holistic + places]}
    found = {}
    for name, ids in chosen.items():
        features: Tensor = tokenizer.vectors(ids).flatten(1)
        halves = [(features[part], labels[part]) for part in (slice(0, split), slice(split, None))]
        found[f"probe of {name}"] = accuracy(*halves)
    return found


def judge(results: Results) -> list[Criterion]:
    def points(arm: str, name: str) -> list[float]:
        return [100 * x for x in results.values(arm, name)]

    held, other = points("hita", "probe of holistic"), points("hita", "probe of local")
    found = [at_least("(1) the ground's colour is read from holistic codes, %", held, 90.0)]
    what = "(1) and less from as many local ones, points"
    if sum(other) / len(other) > 100 - APART:
        why = f"{sum(other) / len(other):.0f} % from local codes: plain ground is seen everywhere"
        found.append(not_applicable(what, why))
    else:
        found.append(at_least(what, [a - b for a, b in zip(held, other, strict=True)], APART))
    own = results.values("hita", "own")
    if sum(own) / len(own) < LEAST:
        why = f"reconstructions show their own ground in {100 * sum(own) / len(own):.0f} %"
        found.append(not_applicable("(2) swapped pictures show the ground of the holistic codes, %", why))
    else:
        less = [100 * x for x in results.difference("hita", "least shift", "style")]
        found += [
            at_least(
                "(2) swapped pictures show the ground of the holistic codes, %", points("hita", "style"), 80.0
            ),
            at_least("(2) and the objects of the local ones, %", points("hita", "content"), 70.0),
            at_least("(2) the shift adds to the former, points", less, 10.0),
        ]
    shares = [
        _share(results.of("hita", seed, "curve"), results.of("grid", seed, "bits")) for seed in results.seeds
    ]
    return [*found, at_most("(3) share of the steps to the grid's final bits a picture", shares, 0.75)]


def _share(curve: list[float], goal: float) -> float:
    """The share of a curve's measurements until one is at most the goal; 2 where none is."""
    reached = [number for number, bits in enumerate(curve, start=1) if bits <= goal]
    return reached[0] / len(curve) if reached else 2.0


EXPERIMENT = Experiment(
    name="hita",
    what="holistic codes before local ones, with two shifts and with a teacher, beside a grid alone",
    arms={
        **{name: partial(holistic, shift, False) for name, shift in SHIFTS.items()},
        "hita, teacher": partial(holistic, SHIFTS["hita"], True),
        "grid": local,
    },
    judge=judge,
    minutes=25,
    scaled="16 holistic and 64 local codes of 32 x 32 scenes whose style is the colour of the ground; the "
    "grid has 64 codes, so bits of a picture are compared, not of a code; shifts of 4 and 1 (0 would show a "
    "cell its own code, which the network does not offer); 300 steps of 8 of tokenizers, 210 of generators; "
    "the teacher is the ground's own and is only shown",
    shown=("psnr", "style", "content", "bits", "attributes", FRECHET),
)
