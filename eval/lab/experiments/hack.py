"""HACK (arXiv 2504.09261): are there contextual and structural heads, and does a cache that treats them apart
stay closer to the full one than a cache that does not?"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.arms import drawn_with, profiled
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    at_most,
    holds,
    not_applicable,
)
from unified.eval.lab.experiments.scalekv import HOW, SHAPES, Recent
from unified.eval.lab.ground.measures import measured

from unified.cache.hack import HACK, HeadProfiler, contextual_heads
from unified.cache.held import CachePolicy
from unified.decoding.drawing import Choice
from unified.orders.shapes import area

ALPHA = 0.5  # share of contextual heads
RATIOS = (0.5, 0.7)
CALIBRATION = 16  # pictures of each half
TWO_TYPES = 0.75  # of the variance of log sigma lies between two classes; evenly spread values have 0.75
UNIFORM = ("recent", "top")


@dataclass
class Replay:
    """A hook that commits the codes [N, T] of an earlier run, and keeps what was predicted of them."""

    codes: Tensor
    rows: int
    logits: list[Tensor] = field(default_factory=list)

    def __call__(self, choice: Choice) -> Choice:
        start = len(self.logits) // len(choice.plan.steps) * self.rows
        part = self.codes[start : start + len(choice.codes)]
        choice.codes = part[:, choice.slots]
        self.logits.append(choice.logits.squeeze(-2).log_softmax(dim=-1))
        return choice


def calibrate(trial: Trial, model: Any, first: int) -> Tensor:
    """[layers, heads] on validation prompts from number `first` on."""
    return profiled(trial, model, HeadProfiler(), HOW, first, CALIBRATION)


def between(table: Tensor) -> float:
    """The largest share of the variance of log sigma that two classes explain (Otsu's criterion)."""
    values = np.sort(np.log(table.flatten().numpy() + 1e-12))
    total = float(values.var()) or 1.0
    best = 0.0
    for cut in range(1, len(values)):
        weight = cut / len(values)
        best = max(best, weight * (1 - weight) * float(values[cut:].mean() - values[:cut].mean()) ** 2)
    return best / total


def compress(ratio: float, trial: Trial) -> Numbers:
    """Divergence and drawings of every policy at one compression ratio."""
    model = trial.ground.base("next_scale")
    one, other = (calibrate(trial, model, first + trial.seed * 32) for first in (0, CALIBRATION))
    heads = contextual_heads((one + other) / 2, ALPHA)
    halves = [contextual_heads(half, ALPHA) for half in (one, other)]
    agree = 1 - len(halves[0] ^ halves[1]) / one.numel()
    every = frozenset((layer, head) for layer in range(one.shape[0]) for head in range(one.shape[1]))
    rng = np.random.default_rng(trial.seed)
    shuffled = [sorted(every)[n] for n in rng.permutation(len(every))[: len(heads)]]
    mean = round((1 - ratio) * area(SHAPES))
    budgets = {"contextual": max(1, round(0.3 * mean)), "structural": round(1.7 * mean)}
    policies: dict[str, CachePolicy] = {
        "hack": HACK(heads=heads, **budgets),
        "swapped": HACK(heads=every - heads, **budgets),
        "random": HACK(heads=frozenset(shuffled), **budgets),
        "top": HACK(heads=every, contextual=mean),
        "recent": Recent(mean),
    }
    full = drawn_with(trial, model, "vq", HOW)
    scenes, rows = trial.ground.prompts(trial.seed), trial.ground.sizes.rows
    exact = Replay(full.codes, rows)
    free = drawn_with(trial, model, "vq", HOW.but(hook=exact, policy=HACK()))
    found: Numbers = {
        "full": measured(scenes, full),
        "agree": agree,
        "between": between((one + other) / 2),
        "equal": bool(torch.equal(drawn_with(trial, model, "vq", HOW.but(policy=HACK())).codes, full.codes)),
        "allowed": (1 - ratio) * free.bytes,
    }
    for name, policy in policies.items():
        replay = Replay(full.codes, rows)
        drawn_with(trial, model, "vq", HOW.but(policy=policy, hook=replay))
        drawn = drawn_with(trial, model, "vq", HOW.but(policy=policy))
        found[name] = {**measured(scenes, drawn), "kl": _divergence(exact.logits, replay.logits)}
    return found


def _divergence(full: list[Tensor], other: list[Tensor]) -> float:
    """Mean KL(full || other) over all codes, of log-probabilities by step."""
    total = [((a.exp() * (a - b)).sum(dim=-1)).sum() for a, b in zip(full, other, strict=True)]
    return float(sum(total)) / sum(a.shape[0] * a.shape[1] for a in full)


def judge(results: Results) -> list[Criterion]:
    arm, more = (f"ratio {ratio}" for ratio in RATIOS)

    def kl(name: str) -> list[float]:
        return results.values(arm, f"{name}/kl")

    def lost(ratio: str) -> list[float]:
        pairs = zip(
            results.values(ratio, "full/attributes"), results.values(ratio, "hack/attributes"), strict=True
        )
        return [100 * (a - b) for a, b in pairs]

    criteria = [
        holds(
            "(a) a budget of everything gives bit-equal drawings",
            [bool(x) for x in results.values(arm, "equal")],
        ),
        at_least("(c) classes of two halves of the calibration agree", results.values(arm, "agree"), 0.9),
        at_most("(f) attribute accuracy lost at a ratio of 0.5, points", lost(arm), 2.0),
        at_most("(f) attribute accuracy lost at a ratio of 0.7, points", lost(more), 5.0),
    ]
    types = results.values(arm, "between")
    if sum(types) / len(types) < TWO_TYPES:
        why = f"heads are not of two types: two classes explain {sum(types) / len(types):.0%} of log sigma"
        return [*criteria, not_applicable("(d) classes against uniform and random ones", why, central=True)]
    uniform = [min(pair) for pair in zip(*map(kl, UNIFORM), strict=True)]
    ratios = {"uniform": uniform, "random": kl("random"), "swapped": kl("swapped")}
    shares = {
        name: [a / max(b, 1e-12) for a, b in zip(kl("hack"), x, strict=True)] for name, x in ratios.items()
    }
    return [
        *criteria,
        at_most("(d) KL beside the best uniform policy", shares["uniform"], 0.7),
        at_most("(d) KL beside random classes", shares["random"], 0.8),
        at_most("(e) KL beside swapped policies", shares["swapped"], 1.0),
    ]


EXPERIMENT = Experiment(
    name="hack",
    what="contextual and structural heads treated apart, beside the latest codes, the most attended codes, "
    "random classes and swapped ones",
    arms={f"ratio {ratio}": partial(compress, ratio) for ratio in RATIOS},
    judge=judge,
    minutes=20,
    scaled="9 layers of 4 heads, 204 codes; heads of one layer hold equally many codes, the mean of their "
    "classes' budgets, since a layer's cache has one length; no merging; cache bytes (b) are shown, "
    "not judged",
    shown=("kl", "attributes", "bytes"),
)
