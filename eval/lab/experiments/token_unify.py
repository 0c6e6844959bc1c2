"""TokenUnify (arXiv 2405.16847): does a mixture of next, all following and random codes give features that
tell more of a picture, and errors that grow more slowly, than the next code alone?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.arms import output
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
from unified.eval.lab.ground.bases import SQUARE, Base, new_model, prompt, rows, vocabulary
from unified.eval.lab.ground.measures import likelihood
from unified.eval.lab.ground.probes import probed
from unified.eval.lab.ground.training import Course, train

from unified.decoding.drawing import Choice
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.model import UnifiedModel
from unified.orders.shapes import area
from unified.orders.task_mixture import FOLLOWING, NEXT, PERMUTATIONS, RANDOM, TaskMixture, TaskMixtureConfig

SHARE = 0.5
BASE = Base(tokenizer="vq", order="raster")
LENGTH = area(SQUARE)
GIVEN = LENGTH // 2
SINGLE = (NEXT, FOLLOWING, RANDOM)
SMALLEST = 1e-3  # of an error whose logarithm is taken


@dataclass
class Given:
    """A hook that puts the first true codes [B, T] where they belong."""

    codes: Tensor

    def __call__(self, choice: Choice) -> Choice:
        true = self.codes[:, choice.slots]
        choice.codes = torch.where(choice.slots < GIVEN, true, choice.codes)
        return choice


def pretrained(tasks: tuple[str, ...], longer: float, trial: Trial) -> Numbers:
    """A small model without captions, trained on tasks of equal probability."""
    sizes = trial.ground.sizes
    words = vocabulary(sizes.tokenizer.codes, ("rest",), PERMUTATIONS)
    model = new_model(BASE, sizes, trial.seed, sizes.model.part(0.5, 0.5), words=words)
    shares = [float(name in tasks) for name in SINGLE]
    mixture = TaskMixture(TaskMixtureConfig(next=shares[0], following=shares[1], random=shares[2]))
    codes = trial.ground.codes("vq", SQUARE)

    def loss(step: int) -> Tensor:
        task = mixture.draw(SQUARE[0], step, trial.seed)
        generator = torch.Generator().manual_seed(1_000_000 * trial.seed + step)
        chosen = torch.randint(len(codes), (sizes.batch,), generator=generator)
        batch = rows(words, None, codes[chosen], task.order, SQUARE, task.data)
        found = output(model, batch).log_probs
        assert found is not None
        return -(found[batch.labels >= 0].view(-1, LENGTH) * task.weights).sum(dim=1).mean()

    steps = round(longer * sizes.steps(SHARE))
    done = train(model, loss, Course(steps=steps, what=f"{', '.join(tasks)}, {steps} steps"), trial.work)
    return {**figures(trial, model), "training": done.seconds}


def figures(trial: Trial, model: UnifiedModel) -> Numbers:
    """Probes, nats of the next code, and errors by distance."""
    codes = trial.ground.codes("vq", SQUARE, "validation")
    nll = likelihood(model, None, codes, "raster", SQUARE)["nll"]
    errors = rolled_out(model, codes, trial)
    distances = np.log(np.arange(1, len(errors) + 1))
    slope = float(np.polyfit(distances, np.log(np.maximum(errors, SMALLEST)), 1)[0])
    return {**probed(trial.ground, model, "vq", SQUARE), "nll": nll, "errors": errors, "exponent": slope}


def rolled_out(model: UnifiedModel, codes: Tensor, trial: Trial) -> list[float]:
    """By distance from the first half, the share of codes that are not the true ones: the second half is
    drawn greedily, one code after the other."""
    wrong = []
    for part in codes.split(trial.ground.sizes.rows):
        session = Session(model, rows=len(part), seed=trial.seed)
        session.feed([prompt(model.vocabulary, None)] * len(part))
        drawing = session.draw(SQUARE, order="raster", sampler=Sampler(temperature=0), hook=Given(part))
        wrong.append((drawing.codes != part)[:, GIVEN:].float())
    found: list[float] = torch.cat(wrong).mean(dim=0).tolist()
    return found


def judge(results: Results) -> list[Criterion]:
    def points(one: str, other: str) -> list[float]:
        return [100 * x for x in results.difference(one, other, "probe")]

    best = [
        min(100 * (results.of("mixture", s, "probe") - results.of(name, s, "probe")) for name in SINGLE)
        for s in results.seeds
    ]
    exponents = results.difference("mixture", NEXT, "exponent")
    nll = zip(results.values("longer", "nll"), results.values(NEXT, "nll"), strict=True)
    slower = at_most("(c) exponent of the error by distance against the next code alone", exponents, -0.05)
    return [
        at_least("(b) probe of the mixture against the best single task, points", best, -1.0),
        at_least("(b) against the next code alone, points", points("mixture", NEXT), 3.0),
        slower if slower.met else not_applicable(slower.what, f"no effect at this size: {slower.measured}"),
        at_most(
            "(d) nats of the next code after 1.5 times the steps, %", [100 * (a / b - 1) for a, b in nll], 5.0
        ),
    ]


EXPERIMENT = Experiment(
    name="token_unify",
    what="one small model taught the next code, all following codes, random codes, or a mixture of them",
    arms={
        **{name: partial(pretrained, (name,), 1.0) for name in SINGLE},
        "mixture": partial(pretrained, SINGLE, 1.0),
        "longer": partial(pretrained, SINGLE, 1.5),
    },
    judge=judge,
    minutes=16,
    scaled="scenes of 8 x 8 codes without captions, no clips; a model of an eighth of a base model's inner "
    "size, 300 steps; what is shown sees no later code; that nothing leaks (a) is a test of every "
    "order; probes read the codes with full attention",
    shown=("probe", "shape", "colour", "cell", "nll", "exponent"),
)
