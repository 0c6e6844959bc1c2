"""ScaleWeaver (arXiv 2510.14882): is it enough that slots read a control which reads nothing of them, and
does starting from zero spare the base model?"""

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
from unified.eval.lab.experiments.ecm import adapter, read_by
from unified.eval.lab.ground.measures import scores
from unified.eval.lab.ground.scenes import pictures
from unified.eval.lab.ground.steering import (
    WIDTH,
    chosen,
    control_of,
    drawn_under,
    edge_f1,
    edge_maps,
    frozen,
    nats,
    rows_of,
    teach_part,
)

from unified.backbone.parts import ReferenceAttention, ReferenceAttentionConfig

SHARE, EARLY, RATE = 0.1, 0.02, 3e-3  # shares of the base models' steps: whole, and where the start is judged
PICTURES, RANK = 2048, 16
LEAST = 0.02  # of F1 by which any control must pass the base


def reference(trial: Trial, layers: int, zero: bool) -> nn.Module:
    """In the first half of the layers, or in all; starting from nothing or not."""
    size = trial.ground.sizes.model
    torch.manual_seed(trial.seed)
    config = ReferenceAttentionConfig(
        width=size.width,
        control=WIDTH,
        rank=min(RANK, size.width),
        heads=size.heads,
        layers=tuple(range(layers)),
    )
    part = ReferenceAttention(config)
    if not zero:
        for block in part.blocks.values():
            nn.init.normal_(block.out.weight, std=size.width**-0.5)  # type: ignore[union-attr,arg-type]
    return part


def of_part(kind: str, share: float, trial: Trial) -> Numbers:
    """A control of one kind, trained beside the frozen base."""
    model = frozen(trial)
    layers = model.layer_count if kind == "all layers" else max(1, model.layer_count // 2)
    part = adapter(trial, model) if kind == "two ways" else reference(trial, layers, kind != "not from zero")
    controls = control_of(edge_maps(trial.ground.pictures()[:PICTURES]))
    batch = max(2, trial.ground.sizes.batch // 2)

    def loss(step: int) -> Tensor:
        numbers = chosen(trial, step, batch, len(controls))
        return nats(model, rows_of(trial, model, numbers), read_by(part, controls[numbers]))

    done = teach_part(trial, part, loss, trial.ground.sizes.steps(share), "control", RATE)
    scenes = trial.ground.prompts(trial.seed)
    wanted = edge_maps(pictures(scenes))
    control = control_of(wanted)
    made = drawn_under(trial, model, scenes, lambda numbers: read_by(part, control[numbers]))
    return {
        **scores(scenes, made.pictures),
        "f1": edge_f1(made.pictures, wanted),
        "seconds": made.seconds / len(scenes),
        "parameters": sum(p.numel() for p in part.parameters()),
        "training": done.seconds,
    }


def untouched(trial: Trial) -> Numbers:
    scenes = trial.ground.prompts(trial.seed)
    made = drawn_under(trial, frozen(trial), scenes)
    wanted = edge_maps(pictures(scenes))
    return {**scores(scenes, made.pictures), "f1": edge_f1(made.pictures, wanted),
            "seconds": made.seconds / len(scenes)}  # fmt: skip


def judge(results: Results) -> list[Criterion]:
    def ratio(one: str, other: str, name: str) -> list[float]:
        pairs = zip(results.values(one, name), results.values(other, name), strict=True)
        return [a / max(b, 1e-9) for a, b in pairs]

    def kept(arm: str) -> list[float]:
        return [100 * x for x in ratio(arm, "base", "attributes")]

    best = max(
        sum(results.difference(arm, "base", "f1")) / len(results.seeds) for arm in ("reference", "two ways")
    )
    what = "(a) F1 of edges against a control that reads the image too"
    if best < LEAST:
        return [not_applicable(what, f"the best control passes none by {best:.3f} of F1", central=True)]
    time = sum(ratio("reference", "two ways", "seconds")) / len(results.seeds)
    why = f"the other control is no attention of both streams in every block; over its time: {time:.2f}"
    gains = zip(results.difference("reference", "base", "f1"), results.difference("all layers", "base", "f1"),
                strict=True)  # fmt: skip
    return [
        at_least(what, results.difference("reference", "two ways", "f1"), -0.03),
        at_least("(b) accuracy against it, points",
                 [100 * x for x in results.difference("reference", "two ways", "attributes")], 0.0),
        at_most("(c) time of a drawing over the base's", ratio("reference", "base", "seconds"), 1.4),
        not_applicable("(c) and over that of attention of both streams", why),
        at_least("(d) accuracy soon after a start from zero, % of the base's", kept("early, zero"), 98.0),
        at_most("(d) and after another start, % of the base's", kept("early, not zero"), 95.0),
        at_least("(e) of what all layers gain, the first half gains, share",
                 [a / max(b, 1e-6) for a, b in gains], 0.95),
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="scaleweaver",
    what="edges read by reference attention beside the frozen residual base model",
    arms={
        "base": untouched,
        "reference": partial(of_part, "reference", SHARE),
        "all layers": partial(of_part, "all layers", SHARE),
        "two ways": partial(of_part, "two ways", SHARE),
        "early, zero": partial(of_part, "reference", EARLY),
        "early, not zero": partial(of_part, "not from zero", EARLY),
    },
    judge=judge,
    minutes=14,
    scaled="the residual base model of two million parameters, edges of 32 x 32 pictures, 60 steps of 16; "
    "keys of the control come from low-rank maps, not from the backbone's layers; the control that also "
    "reads the image is ECM's adapter, not attention of both streams in every block; early: after 12 steps; "
    "gains of F1 over the base are compared in (e)",
    shown=("f1", "attributes", "seconds", "parameters"),
)
