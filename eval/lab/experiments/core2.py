"""CoRe^2 (arXiv 2503.09662): can a small network stand in for guidance at half the calls, and does guiding
away from it go beyond guidance?"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from unified.eval.lab.arms import SEED_STRIDE, drawn_with, scored
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
from unified.eval.lab.ground.bases import BASES, rows
from unified.eval.lab.ground.drawing import draw
from unified.eval.lab.ground.measures import diversity, measured
from unified.eval.lab.ground.scenes import caption
from unified.eval.lab.ground.training import Course, train

from unified.decoding.guidance import Constant, Guidance
from unified.decoding.weak_guidance import WeakModel, WeakToStrong
from unified.model import UnifiedModel

NAME = "next_scale"
BASE = BASES[NAME]
STEPS = len(BASE.shapes)
SCALES = (1.5, 2.0, 3.0, 4.0)  # of guidance, chosen on validation prompts
STRENGTHS = (1.25, 1.5, 2.0)
RATE, TOP = 3e-3, 100
GAP = 0.01


class Collected:
    """Guided drawings of training captions, and what the base model predicts of them with and without the
    captions: states [N, T, D], conditional and guided logits [N, T, V]."""

    def __init__(self, trial: Trial, model: UnifiedModel, scale: float, count: int, split: str) -> None:
        scenes = trial.ground.scenes(split, count, 50_000 + trial.seed * count)
        how = trial.ground.how(NAME).but(guidance=Constant(scale))
        seed, most = trial.seed * SEED_STRIDE + 7000, trial.ground.sizes.rows
        codes = draw(model, trial.ground.tokenizer("vq"), scenes, how, seed=seed, rows=most).codes
        told = torch.tensor([caption(one) for one in scenes])
        self.codes, self.captions = codes, told

    def __len__(self) -> int:
        return len(self.codes)


def tuned(trial: Trial, model: UnifiedModel) -> float:
    """The scale of guidance that is most accurate on validation prompts."""
    how = trial.ground.how(NAME)
    found = {
        scale: scored(trial, model, "vq", how.but(guidance=Constant(scale)), "validation")["attributes"]
        for scale in SCALES
    }
    return max(SCALES, key=lambda scale: found[scale])


@torch.no_grad()
def predictions(
    model: UnifiedModel, captions: Tensor, codes: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States [B, T, D], conditional and guided logits [B, T, 1, V], and the steps [B, T] of the slots."""
    found = []
    for given in (captions, None):
        batch = rows(model.vocabulary, given, codes, BASE.order, BASE.shapes)
        places = (batch.labels[0] >= 0).nonzero()[:, 0]
        states = model.states(batch.ids, batch.layout)[0][:, places]
        found.append((states, model.head.logits(states), batch.layout.step[:, places]))
    (states, conditional, steps), (_, null, _) = found
    return states, conditional, torch.lerp(null, conditional, scale), steps


def divergence(guided: Tensor, other: Tensor) -> Tensor:
    """Mean KL(guided || other) over slots, of logits [B, T, 1, V]."""
    target, found = guided.log_softmax(dim=-1), other.log_softmax(dim=-1)
    return (target.exp() * (target - found)).sum(dim=-1).mean()


def objective(weak: WeakModel, found: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """The divergence, and a tenth of the mean squared error of the likeliest logits about their mean."""
    states, conditional, guided, steps = found
    made = weak(conditional, states, steps)
    top = guided.topk(min(TOP, guided.shape[-1]), dim=-1).indices
    ours, theirs = (x.gather(-1, top) - x.gather(-1, top).mean(dim=-1, keepdim=True) for x in (made, guided))
    return divergence(guided, made) + 0.1 * F.mse_loss(ours, theirs)


def reflected(trial: Trial, model: UnifiedModel, scale: float) -> tuple[WeakModel, Numbers]:
    """A weak model trained on collected drawings, and its figures on others."""
    sizes = trial.ground.sizes
    count = sizes.rows * max(1, round(16 * sizes.prompts / 128))
    kept = Collected(trial, model, scale, count, "train")
    torch.manual_seed(trial.seed)
    head = model.head
    weak = WeakModel(model.width, head.symbols, head.values, steps=STEPS)

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step + 1_000_000 * trial.seed)
        chosen = torch.randint(len(kept), (min(16, len(kept)),), generator=generator)
        return objective(weak, predictions(model, kept.captions[chosen], kept.codes[chosen], scale))

    course = Course(steps=sizes.steps(0.3), rate=RATE, what=f"weak model, seed {trial.seed}")
    done = train(weak, loss, course, trial.work / "weak")
    other = Collected(trial, model, scale, sizes.rows, "validation")
    states, conditional, guided, steps = predictions(model, other.captions, other.codes, scale)
    with torch.no_grad():
        made = divergence(guided, weak(conditional, states, steps))
    parameters = sum(p.numel() for p in weak.parameters())
    share = parameters / sum(p.numel() for p in model.parameters())
    return weak.requires_grad_(False), {
        "kl_fast": float(made),
        "kl_conditional": float(divergence(guided, conditional)),
        "share": share,
        "training": done.seconds,
    }


def everything(trial: Trial) -> Numbers:
    """No guidance, guidance, fast and slow steps: one weak model for a seed, all drawn with one noise."""
    model = trial.ground.base(NAME)
    scale = tuned(trial, model)
    weak, found = reflected(trial, model, scale)
    found["scale"] = scale
    ways: dict[str, Guidance | None] = {
        "none": None,
        "guided": Constant(scale),
        "fast": WeakToStrong(weak, scale, 0.0),
        "one": WeakToStrong(weak, scale, 1.0),
        **{f"slow {g}": WeakToStrong(weak, scale, g) for g in STRENGTHS},
    }
    scenes, codes = trial.ground.prompts(trial.seed), {}
    few = scenes[: max(2, len(scenes) // 4)]
    for name, guidance in ways.items():
        how = trial.ground.how(NAME).but(guidance=guidance)
        drawn = drawn_with(trial, model, "vq", how)
        codes[name] = drawn.codes
        found[name] = measured(scenes, drawn)
        if name == "guided" or name.startswith("slow"):
            options: dict[str, Any] = {
                "seed": trial.seed * SEED_STRIDE + 5000,
                "rows": trial.ground.sizes.rows,
            }
            found[name]["diversity"] = diversity(model, trial.ground.tokenizer("vq"), few, how, **options)
    found["equal"] = bool(torch.equal(codes["one"], codes["guided"]))
    valid = partial(drawn_with, trial, model, "vq", split="validation")
    scores = {
        g: measured(
            trial.ground.prompts(trial.seed, "validation"),
            valid(how=trial.ground.how(NAME).but(guidance=WeakToStrong(weak, scale, g))),
        )["attributes"]
        for g in STRENGTHS
    }
    found["best"] = max(STRENGTHS, key=lambda g: scores[g])
    return found


def judge(results: Results) -> list[Criterion]:
    arm = "all"

    def accuracy(name: str) -> list[float]:
        return results.values(arm, f"{name}/attributes")

    best = [results.of(arm, seed, "best") for seed in results.seeds]
    slow = [
        results.of(arm, seed, f"slow {g}/attributes") for seed, g in zip(results.seeds, best, strict=True)
    ]
    varied = [
        results.of(arm, seed, f"slow {g}/diversity") / max(results.of(arm, seed, "guided/diversity"), 1e-9)
        for seed, g in zip(results.seeds, best, strict=True)
    ]
    gap = [a - b for a, b in zip(accuracy("guided"), accuracy("none"), strict=True)]
    gain = [100 * (a - b) for a, b in zip(slow, accuracy("guided"), strict=True)]
    calls = [
        a / b
        for a, b in zip(results.values(arm, "fast/calls"), results.values(arm, "guided/calls"), strict=True)
    ]
    left = [
        a / max(b, 1e-9)
        for a, b in zip(results.values(arm, "kl_fast"), results.values(arm, "kl_conditional"), strict=True)
    ]
    criteria = [
        holds(
            "(a) g = 1 draws what guidance draws, code for code",
            [bool(x) for x in results.values(arm, "equal")],
        ),
        at_most("(b) calls of the fast mode beside guidance", calls, 0.6),
        at_most("(c) KL(guided || fast) beside KL(guided || conditional)", left, 0.4),
        at_least("(d) slow mode against guidance, points", gain, -0.5),
        better(gain),
        at_least("(e) diversity of slow mode beside guidance", varied, 0.9),
    ]
    if sum(gap) / len(gap) < GAP:
        why = f"guidance adds {100 * sum(gap) / len(gap):.1f} points of accuracy here: nothing to recover"
        return [*criteria, not_applicable("(b) what the fast mode recovers", why, central=True)]
    share = sum(a - b for a, b in zip(accuracy("fast"), accuracy("none"), strict=True)) / sum(gap)
    return [*criteria, at_least("(b) share of the gap that the fast mode recovers", [share], 0.7)]


def better(gain: list[float]) -> Criterion:
    """The claim beyond guidance: a gain of less than a point says "faster only" and fails nothing."""
    what = "(d) slow mode is better than guidance by a point"
    found = at_least(what, gain, 1.0)
    return found if found.met else not_applicable(what, f"faster only: {found.measured}")


EXPERIMENT = Experiment(
    name="core2",
    what="no guidance, guidance, a weak model in its place (fast), and guidance away from it (slow)",
    arms={"all": everything},
    judge=judge,
    minutes=18,
    scaled="512 collected drawings of a seed in place of 20 000, a weak model of rank 32 at one scale of "
    "guidance, the best of four on validation prompts; a slow start with a fast end keeps its null rows",
    shown=("attributes", "all", "diversity", "calls", "bytes"),
)
