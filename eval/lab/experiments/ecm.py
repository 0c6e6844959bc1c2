"""ECM (arXiv 2510.05610): does a small control adapter beside a frozen next-scale model do what full tuning
does, is it learnt from coarse maps, and does a lower temperature of late maps pay only then?"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
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
    holds,
    not_applicable,
)
from unified.eval.lab.ground.measures import scores
from unified.eval.lab.ground.scenes import pictures
from unified.eval.lab.ground.steering import (
    PLAN,
    WIDTH,
    chosen,
    control_of,
    drawn_under,
    edge_f1,
    edge_maps,
    frozen,
    nats,
    rows_of,
    scores_of,
    teach_part,
)
from unified.eval.lab.ground.training import Course, train

from unified.backbone.layer_pass import LayerPart
from unified.backbone.parts import ScaleControl, ScaleControlConfig
from unified.decoding.scale_temperature import ScaleTemperature
from unified.model import UnifiedModel
from unified.objectives.early_centric import EarlyCentric
from unified.objectives.objective import Progress

SHARE, RATE = 0.1, 3e-3  # of the base models' steps
PICTURES = 2048  # that controls are learnt from
EVERY = 3  # layers from one adapter to the next
LEAST = 0.02  # of F1 by which full tuning must pass the base, or there is no control to compare


class Separate(nn.Module):
    """An adapter for each layer, whose networks are its own."""

    def __init__(self, config: ScaleControlConfig) -> None:
        super().__init__()
        inner = max(1, config.inner // len(config.layers))
        self.parts = nn.ModuleList(
            ScaleControl(ScaleControlConfig(width=config.width, control=config.control, inner=inner,
                                            heads=config.heads, layers=(layer,)))
            for layer in config.layers
        )  # fmt: skip

    def reading(self, control: Tensor, plan: Any) -> list[LayerPart]:
        return [part.reading(control, plan) for part in self.parts]  # type: ignore[operator]


def adapter(trial: Trial, model: UnifiedModel, separate: bool = False) -> nn.Module:
    size = trial.ground.sizes.model
    torch.manual_seed(trial.seed)
    config = ScaleControlConfig(
        width=size.width,
        control=WIDTH,
        inner=size.width // 4,  # so that all adapters have less than a tenth of what full tuning trains
        heads=size.heads,
        layers=tuple(range(0, model.layer_count, EVERY)),
    )
    return Separate(config) if separate else ScaleControl(config)


def read_by(part: nn.Module, control: Tensor) -> list[LayerPart]:
    found: Any = part.reading(control, PLAN)  # type: ignore[operator]
    return found if isinstance(found, list) else [found]


def of_control(early: bool, separate: bool, full: bool, trial: Trial) -> Numbers:
    """An adapter beside the frozen base, or trained with it; `early`: mostly by coarse maps."""
    model = trial.ground.base("residual") if full else frozen(trial)
    part = adapter(trial, model, separate)
    controls = control_of(edge_maps(trial.ground.pictures()[:PICTURES]))
    batch = max(2, trial.ground.sizes.batch // 2)
    objective = EarlyCentric()

    def loss(step: int) -> Tensor:
        numbers = chosen(trial, step, batch, len(controls))
        told, parts = rows_of(trial, model, numbers), read_by(part, controls[numbers])
        if not early:
            return nats(model, told, parts)
        found = scores_of(model, told, parts)
        given = objective.prepare({"rows": len(told.ids)}, Progress(step=step, seed=trial.seed))
        return objective.loss(found, None, given).loss / PLAN.length

    steps = trial.ground.sizes.steps(SHARE)
    zero = start_is_base(trial, model, part)
    if full:
        both = nn.ModuleDict({"model": model, "part": part})
        done = train(both, loss, Course(steps=steps, rate=RATE / 3, what="full tuning"), trial.work)
    else:
        done = teach_part(trial, part, loss, steps, "control", RATE)
    trained = [*part.parameters(), *(model.parameters() if full else ())]
    return {
        "parameters": sum(p.numel() for p in trained),
        "tokens": learnt(trial, steps) if early else 1.0,
        "training": done.seconds,
        "zero": zero,
        **drawn_both(trial, model, part),
    }


def learnt(trial: Trial, steps: int) -> float:
    """The mean share of the codes that is learnt, by steps that are mostly about coarse maps."""
    objective, counts, found = EarlyCentric(), PLAN.labels.bincount().tolist(), list[float]()
    for step in range(steps):
        drawn = objective.prepare({}, Progress(step=step, seed=trial.seed))["drawn"]
        found.append(float((PLAN.labels < objective.steps(counts, drawn)).float().mean()))
    return float(np.mean(found))


@torch.no_grad()
def start_is_base(trial: Trial, model: UnifiedModel, part: nn.Module) -> float:
    """The largest difference of log-probabilities that an untrained adapter makes."""
    numbers = torch.arange(2)
    told = rows_of(trial, model, numbers)
    control = control_of(edge_maps(trial.ground.pictures()[:2]))
    with_part, alone = scores_of(model, told, read_by(part, control)), scores_of(model, told)
    return float((with_part.log_probs - alone.log_probs).abs().max())


def drawn_both(trial: Trial, model: UnifiedModel, part: nn.Module | None) -> Numbers:
    """Drawings under edges, at one temperature and at a falling one."""
    scenes = trial.ground.prompts(trial.seed)
    wanted = edge_maps(pictures(scenes))
    control = control_of(wanted)
    found: Numbers = {}
    for name, guidance in (("flat", None), ("falling", ScaleTemperature(first=1.0, last=0.8))):
        parts = None if part is None else lambda numbers: read_by(part, control[numbers])
        began = time.perf_counter()
        made = drawn_under(trial, model, scenes, parts, guidance=guidance)
        seconds = (time.perf_counter() - began) / len(scenes)
        told = scores(scenes, made.pictures)
        found[name] = {**told, "f1": edge_f1(made.pictures, wanted), "seconds": seconds}
    return found


def untouched(trial: Trial) -> Numbers:
    return drawn_both(trial, frozen(trial), None)


def judge(results: Results) -> list[Criterion]:
    def f1(arm: str) -> list[float]:
        return results.values(arm, "flat/f1")

    def gained(arm: str) -> list[float]:
        """Points of colour or of F1, whichever gains more, by a falling temperature."""
        return [
            100 * max(results.of(arm, seed, f"falling/{name}") - results.of(arm, seed, f"flat/{name}")
                      for name in ("colour", "f1"))
            for seed in results.seeds
        ]  # fmt: skip

    zero = holds(
        "an untrained adapter leaves the base as it is", [x < 1e-5 for x in results.values("ecm", "zero")]
    )
    over = [a - b for a, b in zip(f1("full tuning"), f1("base"), strict=True)]
    what = "(a) F1 of edges against full tuning"
    if sum(over) / len(over) < LEAST:
        why = f"full tuning follows edges by {sum(over) / len(over):.3f} of F1 more than no control at all"
        return [zero, not_applicable(what, why, central=True)]
    share = [a / b for a, b in zip(*(results.values(arm, "parameters") for arm in ("ecm", "full tuning")),
                                   strict=True)]  # fmt: skip
    gain = [a - b for a, b in zip(f1("ecm"), f1("base"), strict=True)]
    other = [a - b for a, b in zip(f1("all maps"), f1("base"), strict=True)]
    tokens = [
        a / b for a, b in zip(*(results.values(arm, "tokens") for arm in ("ecm", "all maps")), strict=True)
    ]
    return [
        zero,
        at_least(what, [a - b for a, b in zip(f1("ecm"), f1("full tuning"), strict=True)], -0.05),
        at_most("(a) of the trained parameters, share", share, 0.1),
        at_least("(b) of what all maps gain, coarse maps gain, share", [a / max(b, 1e-6) for a, b in
                 zip(gain, other, strict=True)], 0.95),
        at_most("(b) with a share of the codes learnt", tokens, 0.6),
        at_least("(c) a falling temperature gains, points", gained("ecm"), 1.0),
        at_most("(c) and with all maps learnt, points", gained("all maps"), 0.3),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="ecm",
    what="edges as control of the frozen residual base model, by adapters that share a network",
    arms={
        "base": untouched,
        "ecm": partial(of_control, True, False, False),
        "all maps": partial(of_control, False, False, False),
        "separate networks": partial(of_control, True, True, False),
        "full tuning": partial(of_control, True, False, True),
    },
    judge=judge,
    minutes=18,
    scaled="the residual base model of two million parameters, edges of 32 x 32 pictures, 60 steps of 16; "
    "adapters attend within a step; later maps stay in the pass, so that learnt codes are counted, not "
    "saved; gains of F1 over the base are compared where the note has F1 itself",
    shown=("f1", "colour", "attributes", "parameters", "tokens", "training"),
)
