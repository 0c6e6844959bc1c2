"""Harmon (arXiv 2503.21979): is the encoder of a masked generator a better reader than its latents, does
learning to read help it draw, and must the language model's part be added rather than put in the place?"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    not_applicable,
)
from unified.eval.lab.ground.codecs import held_out
from unified.eval.lab.ground.latents import CHANNELS, Scale
from unified.eval.lab.ground.measures import FRECHET
from unified.eval.lab.ground.probes import accuracy, attributes
from unified.eval.lab.ground.sandwich import (
    BUFFER,
    GRID,
    Lessons,
    Reader,
    captions_of,
    levels,
    new_harmon,
    pictures_drawn,
    shared,
    taught,
    words_said,
)

from unified.checkpoints.harmon.network import GRADIENT, Harmon

SHARE, PROBED = 0.4, 1024  # of the base models' steps, for each task; pictures of a probe
LEAST = 0.3  # accuracy of drawings below which they are not compared


class Replaced(Harmon):
    """What the language model says takes the place of what the encoder said."""

    def merged(self, encoded: Tensor, states: Tensor) -> Tensor:
        found: Tensor = self.proj_out(states.roll(self.mar.config.buffer, dims=1))
        return found


class Latents(Harmon):
    """Understanding reads the latents by a linear map of its own."""

    def __init__(self, llm: nn.Module, mar: nn.Module, semantic: int = 0) -> None:
        super().__init__(llm, mar, semantic)  # type: ignore[arg-type]
        self.read = nn.Linear(CHANNELS, self.llm.config.hidden_size)
        self.where = nn.Parameter(0.02 * torch.randn(1, GRID[0] * GRID[1], self.llm.config.hidden_size))


def by_latents(model: Harmon, tokens: Tensor, pictures: Tensor) -> Tensor:
    found: Tensor = model.read(tokens) + model.where  # type: ignore[operator]
    return found


SHARED = shared(GRADIENT)


def arm(kind: type[Harmon], reader: Reader | None, trial: Trial) -> Numbers:
    """One model, its drawings, the words it says, and what probes find in its encoder."""
    scale, ground = Scale.of(trial.ground), trial.ground
    model, shown = new_harmon(trial, kind=kind), ground.pictures()
    lessons = Lessons(
        tokens=scale.tokens(ground),
        pictures=lambda numbers: levels(shown[numbers.numpy()]),
        captions=ground.captions(),
        reader=reader,
    )
    done = taught(trial, model, lessons, SHARE, kind.__name__)
    scenes, true = held_out(trial)
    found = pictures_drawn(trial, model, scale, scenes)
    if reader is not None:
        tokens = tokens_of(trial, scale, true)
        found["words"] = words_said(model, reader, tokens, levels(true), captions_of(scenes))
    return {**found, **probes(trial, model, scale), "training": done.seconds}


@torch.no_grad()
def tokens_of(trial: Trial, scale: Scale, pictures: object) -> Tensor:
    coder = trial.ground.tokenizer("kl_vae")
    parts = [coder.latent(part).flatten(2).mT for part in levels(pictures).split(256)]  # type: ignore[arg-type]
    return (torch.cat(parts) - scale.mean) / scale.spread


@torch.no_grad()
def probes(trial: Trial, model: Harmon, scale: Scale) -> Numbers:
    """How often linear probes of mean features name shape, colour and cell: of latents, and of the encoder's
    rows when all is visible."""
    found: Numbers = {}
    sets: dict[str, list[tuple[Tensor, dict[str, Tensor]]]] = {
        "probe of latents": [],
        "probe of the encoder": [],
    }
    for split in ("train", "validation"):
        tokens = scale.tokens(trial.ground, split)[:PROBED]
        labels = attributes(trial.ground.scenes(split, len(trial.ground.pictures(split)))[: len(tokens)])
        none = torch.zeros(64, tokens.shape[1], dtype=torch.bool)
        rows = [model.encode(part, none[: len(part)], GRID)[:, BUFFER:] for part in tokens.split(64)]
        for name, features in zip(sets, (tokens, torch.cat(rows)), strict=True):
            sets[name].append((features.mean(dim=1), labels))
    for name, ((x, y), (other, true)) in sets.items():
        found[name] = sum(accuracy((x, y[key]), (other, true[key])) for key in y) / len(y)
    return found


def judge(results: Results) -> list[Criterion]:
    def points(one: str, other: str, name: str) -> list[float]:
        return [100 * x for x in results.difference(one, other, name)]

    encoder, latents = ("probe of the encoder", "probe of latents")
    pairs = zip(results.values("shared", encoder), results.values("shared", latents), strict=True)
    found = [
        at_least("(a) words said right, against latents by a linear map, points",
                 points("shared", "latents", "words"), 5.0),
        at_least("(b) probes of the encoder against latents, points",
                 [100 * (a - b) for a, b in pairs], 10.0),
    ]  # fmt: skip
    arms = ("shared", "drawing alone", "replaced")
    best = max(sum(results.values(arm, "attributes")) / len(results.seeds) for arm in arms)
    if best < LEAST:
        why = f"no arm draws with an accuracy above {best:.2f}"
        return [*found, not_applicable("(c) drawings against drawing alone, points", why)]
    return [
        *found,
        at_least(
            "(c) drawings against drawing alone, points",
            points("shared", "drawing alone", "attributes"),
            -1.0,
        ),
        at_least(
            "(d) added against put in the place, points", points("shared", "replaced", "attributes"), 2.0
        ),
    ]


EXPERIMENT = Experiment(
    name="harmon",
    what="a masked encoder that draws and reads with a language model in between, beside three others",
    arms={
        "shared": partial(arm, Harmon, SHARED),
        "latents": partial(arm, Latents, by_latents),
        "drawing alone": partial(arm, Harmon, None),
        "replaced": partial(arm, Replaced, SHARED),
    },
    judge=judge,
    minutes=28,
    scaled="8 x 8 latents of 8 channels, captions of nine words for both tasks and no questions; encoder, "
    "language model and decoder of a sixteenth of a base model's inner size each, 240 steps of either task; "
    "16 steps of drawing with 19 of denoising, without guidance; fewer steps, the other way to hold (d), "
    "are not measured",
    shown=("attributes", FRECHET, "words", "probe of the encoder", "probe of latents"),
)
