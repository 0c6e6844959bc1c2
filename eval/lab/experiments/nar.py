"""NAR (arXiv 2503.10696): are anti-diagonals read out by two oriented heads as accurate as raster order, in a
quarter of the passes; and does one head for both directions fail?"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from unified.eval.lab.arms import drawn_with, trained
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    at_most,
    holds,
)
from unified.eval.lab.ground.bases import SQUARE, Base, Rows, new_model, rows
from unified.eval.lab.ground.drawing import How
from unified.eval.lab.ground.measures import measured

from unified.heads.distribution import Categorical
from unified.model import UnifiedModel

SHARE = 0.25  # of the base models' training steps
SIDE = SQUARE[0][0]
ORDERS = {"raster": "raster", "nar": "nar", "shared": "nar(shared=True)"}
SOURCES = ("mixed", "right", "below")


def arm(name: str, trial: Trial) -> Numbers:
    """Train one order from random weights and draw."""
    base = Base(tokenizer="vq", order=ORDERS[name])
    sizes = trial.ground.sizes
    model = new_model(base, sizes, trial.seed, read_outs=1 if name == "raster" else 2)
    done = trained(trial, model, base, sizes.steps(SHARE), f"{name}, seed {trial.seed}")
    how = How(order=base.order, shapes=SQUARE)
    drawn = drawn_with(trial, model, "vq", how)
    found: Numbers = {"training": done.seconds, "loss": done.losses[-1]}
    found |= measured(trial.ground.prompts(trial.seed), drawn)
    if name == "nar":
        found |= {"nll": read_outs(trial, model), "leak": leak(trial, model)}
    return found


def _batch(trial: Trial, model: UnifiedModel, order: str) -> tuple[Rows, Tensor]:
    codes = trial.ground.codes("vq", SQUARE, "validation")[:32]
    captions = trial.ground.captions("validation")[: len(codes)]
    return rows(model.vocabulary, captions, codes, order, SQUARE), codes


@torch.no_grad()
def read_outs(trial: Trial, model: UnifiedModel) -> dict[str, float]:
    """Nats of an interior code by the mean of both heads, and by each alone."""
    batch, codes = _batch(trial, model, "nar")
    start = int((batch.labels[0] >= 0).nonzero()[0])
    states = model.states(batch.ids, batch.layout)
    grids = [
        head.logits(state[:, start : start + SIDE * SIDE]).squeeze(-2).unflatten(1, (SIDE, SIDE))
        for head, state in zip(model.heads, states, strict=True)
    ]
    right, below = grids[0][:, 1:, :-1], grids[1][:, :-1, 1:]  # what predicts rows and columns from 1 on
    target = codes.unflatten(1, (SIDE, SIDE))[:, 1:, 1:, None]
    logits = {"mixed": (right + below) / 2, "right": right, "below": below}
    return {name: -float(Categorical(x[..., None, :]).log_prob(target).mean()) for name, x in logits.items()}


@torch.no_grad()
def leak(trial: Trial, model: UnifiedModel) -> float:
    """The largest change of a log-probability of codes with row + column at most that of a code that was
    replaced, itself apart; must be 0."""
    batch, codes = _batch(trial, model, "nar")
    row, column = 2, 3
    changed = codes.clone()
    changed[:, row * SIDE + column] = (codes[:, row * SIDE + column] + 1) % trial.ground.sizes.tokenizer.codes
    other = rows(model.vocabulary, trial.ground.captions("validation")[: len(codes)], changed, "nar", SQUARE)
    before, after = (model(x.ids, layout=x.layout, return_logits=False).log_probs for x in (batch, other))
    start = int((batch.labels[0] >= 0).nonzero()[0])
    difference = (before - after)[:, start : start + SIDE * SIDE].abs().unflatten(1, (SIDE, SIDE))
    diagonal = torch.arange(SIDE)[:, None] + torch.arange(SIDE)
    early = diagonal <= row + column
    early[row, column] = False
    return float(difference[:, early].max())


def judge(results: Results) -> list[Criterion]:
    def points(one: str, other: str) -> list[float]:
        return [100 * x for x in results.difference(one, other, "attributes")]

    calls = [round(results.values(name, "calls")[0]) for name in ("nar", "raster")]
    mixed = results.values("nar", "nll/mixed")
    better = [
        min(results.of("nar", seed, "nll/right"), results.of("nar", seed, "nll/below")) - own
        for seed, own in zip(results.seeds, mixed, strict=True)
    ]
    passes = [a == 2 * SIDE - 1 for a in results.values("nar", "calls")]
    return [
        at_most("(a) a replaced code changes no earlier prediction", results.values("nar", "leak"), 0.0),
        holds(f"(c) {2 * SIDE - 1} passes in place of {SIDE * SIDE}", passes, f"{calls[0]} and {calls[1]}"),
        at_least("(d) attribute accuracy against raster, points", points("nar", "raster"), -3.0),
        at_least("(e) one shared head is worse, points", points("nar", "shared"), 15.0),
        at_least("(f) the mean of both heads beats the better one, nats a code", better, 0.0),
    ]


EXPERIMENT = Experiment(
    name="nar",
    what="raster order, next-neighbour order with two heads, and with one head for both directions",
    arms={name: partial(arm, name) for name in ORDERS},
    judge=judge,
    minutes=28,
    scaled="8 x 8 codes of 32 pixels in place of 16 x 16, two million parameters and a quarter of the base "
    "models' steps; that cached logits equal a full pass (b) is a test of every order",
    shown=("attributes", "all", "calls", "seconds", "loss"),
)
