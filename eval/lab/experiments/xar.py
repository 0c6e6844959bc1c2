"""xAR (arXiv 2502.20388): which unit of continuous tokens is best predicted at once, and does a model that
learns with noise in what it is given lose less by its own errors?"""

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
    at_most,
    not_applicable,
)
from unified.eval.lab.ground.latents import (
    CHANNELS,
    NO_WORDS,
    SIDE,
    CaptionEmbedding,
    Scale,
    batch_of,
    begin,
    drawn,
    in_blocks,
    scored,
)
from unified.eval.lab.ground.measures import FRECHET
from unified.eval.lab.ground.training import Course, train

from unified.checkpoints.xar.network import XAR, XARConfig, flow_loss, noisy_units, thousandths
from unified.checkpoints.xar.sampling import UnitDecoding, UnitVelocity
from unified.decoding.noise import PositionNoise
from unified.heads.flow_matching import euler

SHARE, RATE, DROPPED = 1.2, 3e-3, 0.1
CELLS = {"token": 1, "cell 4": 4, "image": 8}
JUDGED = "cell 4"
DISTURBED = 0.3  # of a latent's spread, in the first unit
SETTINGS = UnitDecoding(steps=12, solver="euler")
LEAST = 3.0  # points that the disturbance costs a model of clean context, or there is nothing to halve


def new_xar(trial: Trial, cell: int) -> XAR:
    size = trial.ground.sizes.model.part(0.5, 0.5)
    torch.manual_seed(trial.seed)
    half = max(1, size.layers // 2)
    model = XAR(
        XARConfig(
            channels=CHANNELS,
            side=SIDE,
            cell=cell,
            classes=NO_WORDS,
            width=size.width,
            depth=(half, half),
            heads=size.heads,
            hidden=2 * size.width,
        )
    )
    begin(model)
    told: nn.Module = CaptionEmbedding(size.width)
    model.class_emb = told  # type: ignore[assignment]
    return model


def clean_loss(model: XAR, values: Tensor, noise: Tensor, time: Tensor, labels: Tensor, unit: int) -> Tensor:
    """The loss of one unit with noise of `time` [B], all others being as they are."""
    times = torch.zeros(values.shape[:2])
    times[:, unit] = time
    velocity = model(noisy_units(values, noise, times), model.condition(labels, thousandths(times)))
    own = velocity.unflatten(1, values.shape[1:3])[:, unit]
    return (own - (noise - values)[:, unit]).square().mean()


def sampled(model: XAR, labels: Tensor, noise: PositionNoise, disturbed: float = 0.0) -> Tensor:
    """Tokens [B, 64, C]; the first unit has noise of so much spread added before the others are drawn."""
    stores, found = model.stores(), list[Tensor]()
    size = model.units.size
    for unit in range(model.units.count):
        places = model.units.places[unit * size : (unit + 1) * size].expand(len(labels), -1)
        start = noise.normal(places, CHANNELS)
        before = found[-1] if found else None
        velocity = UnitVelocity(model, labels, SETTINGS, unit, before, stores)
        value = euler(velocity, start, SETTINGS.times).float()
        if not found and disturbed:
            value = value + disturbed * noise.normal(places, CHANNELS, "disturbed").float()
        found.append(value)
    return model.units.join(torch.stack(found, dim=1))


def unit_of(cell: int, clean: bool, trial: Trial) -> Numbers:
    """One size of units, trained with noise in all of them or in the one that is predicted alone."""
    scale, sizes = Scale.of(trial.ground), trial.ground.sizes
    model = new_xar(trial, cell)
    tokens, captions = scale.tokens(trial.ground), trial.ground.captions()

    def loss(step: int) -> Tensor:
        chosen, generator = batch_of(trial, step, sizes.batch)
        dropped = torch.rand(len(chosen), 1, generator=generator) < DROPPED
        labels = captions[chosen].masked_fill(dropped, NO_WORDS)
        values = model.units.split(tokens[chosen])
        noise = torch.randn(values.shape, generator=generator)
        times = torch.randn(values.shape[:2], generator=generator).sigmoid()
        if not clean:
            return flow_loss(model, values, noise, times, labels)
        unit = int(torch.randint(values.shape[1], (1,), generator=generator))
        return clean_loss(model, values, noise, times[:, unit], labels, unit)

    course = Course(
        steps=sizes.steps(SHARE), rate=RATE, what=f"cell {cell}, clean {clean}, seed {trial.seed}"
    )
    done = train(model, loss, course, trial.work, in_blocks)
    scenes = trial.ground.prompts(trial.seed)
    with torch.no_grad():
        found: Numbers = scored(trial, scale, scenes, drawn(trial, scenes, partial(sampled, model)))
        if cell == CELLS[JUDGED]:
            away = drawn(trial, scenes, partial(sampled, model, disturbed=DISTURBED))
            found["disturbed"] = scored(trial, scale, scenes, away)["attributes"]
            found |= context_used(trial, model, scale)
    return {**found, "training": done.seconds, "loss": done.losses[-1]}


def context_used(trial: Trial, model: XAR, scale: Scale) -> Numbers:
    """The loss of the last unit given the others without noise, and given nothing but noise."""
    tokens = scale.tokens(trial.ground, "validation")[:64]
    captions = trial.ground.captions("validation")[:64]
    values, generator = model.units.split(tokens), torch.Generator().manual_seed(trial.seed)
    noise = torch.randn(values.shape, generator=generator)
    time = torch.full((len(values),), 0.5)
    last = values.shape[1] - 1
    blind = values.clone()
    blind[:, :last] = noise[:, :last]
    return {
        "given": float(clean_loss(model, values, noise, time, captions, last)),
        "blind": float(clean_loss(model, blind, noise, time, captions, last)),
    }


def judge(results: Results) -> list[Criterion]:
    def lost(arm: str) -> list[float]:
        return [
            100 * (a - b)
            for a, b in zip(results.values(arm, "attributes"), results.values(arm, "disturbed"), strict=True)
        ]

    given, blind = results.values(JUDGED, "given"), results.values(JUDGED, "blind")
    noisy, clean = lost(JUDGED), lost("clean context")
    what = "(d) the disturbed first cell costs, beside a model of clean context"
    mean = sum(clean) / len(clean)
    token, cell = results.values("token", FRECHET), results.values(JUDGED, FRECHET)
    count = len(token)
    spread = (sum((x - sum(token) / count) ** 2 for x in token) / max(count - 1, 1) / count) ** 0.5
    return [
        at_most(
            "(c) loss given clean units beside that given noise",
            [a / b for a, b in zip(given, blind, strict=True)],
            1.0,
        ),
        at_most(what, [max(sum(noisy) / len(noisy), 0.0) / mean], 0.5)
        if mean >= LEAST
        else not_applicable(what, f"it costs a model of clean context {mean:.1f} points: nothing to halve"),
        at_least(
            "(e) Frechet distance of tokens less that of 4 x 4 cells",
            [a - b for a, b in zip(token, cell, strict=True)],
            -spread,
        ),
    ]


EXPERIMENT = Experiment(
    name="xar",
    what="flow matching of units of 1, 4 x 4 and 8 x 8 tokens, and of 4 x 4 with clean context",
    arms={
        **{name: partial(unit_of, cell, False) for name, cell in CELLS.items()},
        "clean context": partial(unit_of, CELLS[JUDGED], True),
    },
    judge=judge,
    minutes=21,
    scaled="8 x 8 tokens of 8 channels, told by captions; models of an eighth of a base model's inner "
    "size, 720 steps; 12 Euler steps a unit without guidance; that units do not leak (a) and that a "
    "cache changes nothing (b) are tests",
    shown=("attributes", "all", FRECHET, "disturbed", "loss"),
)
