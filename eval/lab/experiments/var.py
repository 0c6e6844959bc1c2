"""VAR (arXiv 2404.02905): as accurate as raster order in a tenth of the passes? Does the loss follow a power
law of the size? Does in-painting work without training for it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from unified.eval.lab.arms import SEED_STRIDE, scored, trained
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
from unified.eval.lab.ground.bases import BASES, new_model, prompt, rows
from unified.eval.lab.ground.drawing import decode, draw
from unified.eval.lab.ground.measures import likelihood, pixel_psnr
from unified.eval.lab.ground.scenes import SIDE, caption, pictures
from unified.eval.lab.ground.tokenizers import as_images
from unified.eval.lab.sizes import ModelSize
from unified.eval.lab.statistics import log_fit
from unified.tasks.scenes.generate import HELD_OUT
from unified.tasks.scenes.parser import parse
from unified.tasks.scenes.relations import cell, in_cell
from unified.tasks.scenes.scene import SHAPES, Scene

from unified.decoding.drawing import Choice
from unified.decoding.guidance import Ramp
from unified.decoding.session import Session
from unified.model import UnifiedModel

BASE = BASES["residual"]
SHARE = 0.15  # of the base models' steps, for each size
WIDTHS = {"size 1": 0.25, "size 2": 0.5, "size 3": 0.75, "size 4": 1.0}  # of the base models' width
RAMP = 2.0
LEAST = 4  # editable scenes that the plain drawing gets right, for a rate of edits


def compared(trial: Trial) -> Numbers:
    """The base models by residual and by raster order, guidance, and cached against full likelihoods."""
    model, raster = trial.ground.base("residual"), trial.ground.base("raster")
    how = trial.ground.how("residual")
    return {
        "var": scored(trial, model, BASE.tokenizer, how),
        "raster": scored(trial, raster, "vq", trial.ground.how("raster")),
        "guided": scored(trial, model, BASE.tokenizer, how.but(guidance=Ramp(RAMP))),
        "cached": cached_error(trial, model),
    }


@torch.no_grad()
def cached_error(trial: Trial, model: UnifiedModel) -> float:
    """The largest difference between log-probabilities of codes as they were drawn, step by step, and those
    of one pass over what was drawn."""
    scenes = trial.ground.prompts(trial.seed)[:8]
    told = torch.tensor([caption(one) for one in scenes])
    session = Session(model, rows=len(scenes), seed=trial.seed)
    session.feed([prompt(model.vocabulary, line.tolist()) for line in told])
    drawing = session.draw(BASE.shapes, order=BASE.order)
    batch = rows(model.vocabulary, told, drawing.codes, BASE.order, BASE.shapes)
    found = model(batch.ids, labels=batch.labels, layout=batch.layout, return_logits=False).log_probs
    start = int((batch.labels[0] >= 0).nonzero()[0])
    return float((found[:, start : start + drawing.codes.shape[1]] - drawing.log_probs).abs().max())


def size(factor: float, trial: Trial) -> Numbers:
    """A model of another width, trained from random weights on the same pictures."""
    own = trial.ground.sizes.model
    heads = max(1, round(own.heads * factor))
    width = own.width // own.heads * heads
    model = new_model(
        BASE, trial.ground.sizes, trial.seed, ModelSize(width=width, layers=own.layers, heads=heads)
    )
    done = trained(trial, model, BASE, trial.ground.sizes.steps(SHARE), f"width {width}, seed {trial.seed}")
    codes = trial.ground.codes(BASE.tokenizer, BASE.shapes, "validation")
    found = likelihood(model, trial.ground.captions("validation"), codes, BASE.order, BASE.shapes)
    inner = sum(p.numel() for p in model.library.layers.parameters())
    return {"parameters": inner, "last": found["by_step"][-1], "nll": found["nll"], "training": done.seconds}


# In-painting ------------------------------------------------------------------------------------------------


@dataclass
class Keep:
    """A hook that puts given codes [N, T] where `masks` (by map [N, h, w] bool) say so."""

    codes: Tensor
    masks: Sequence[Tensor]
    done: int = 0

    def __call__(self, choice: Choice) -> Choice:
        steps = len(choice.plan.steps)
        first = self.done // steps * len(choice.codes)
        rows_ = slice(first, first + len(choice.codes))
        mask = self.masks[choice.step][rows_].flatten(1)
        choice.codes = torch.where(mask, self.codes[rows_][:, choice.slots], choice.codes)
        self.done += 1
        return choice


def masks(kept: Tensor) -> list[Tensor]:
    """kept [N, h, w] bool on the finest grid -> by map: resized bilinearly, kept from one half on; the 1 x 1
    map is kept always."""
    found = []
    for height, width in BASE.shapes:
        resized = F.interpolate(kept[:, None].float(), (height, width), mode="bilinear", align_corners=False)[
            :, 0
        ]
        found.append(torch.ones_like(resized, dtype=torch.bool) if height * width == 1 else resized >= 0.5)
    return found


def edits(scenes: Sequence[Scene]) -> tuple[list[Scene], list[Scene], Tensor]:
    """Scenes of one object that lies in one half, the same with another shape, and what of the finest grid is
    kept [N, h, w]: the other half."""
    before, after, kept = [], [], []
    side = BASE.shapes[-1][0]
    for one in scenes:
        item = one.objects[0]
        if len(one.objects) > 1 or 0.35 < item.x < 0.65:
            continue
        names = [name for name in SHAPES if name != item.shape and (name, item.colour) not in HELD_OUT]
        shape = names[SHAPES.index(item.shape) % len(names)]
        before.append(one)
        after.append(Scene(background=one.background, objects=(replace(item, shape=shape),)))
        mask = torch.zeros(side, side, dtype=torch.bool)
        mask[:, side // 2 :] = item.x < 0.5
        mask[:, : side // 2] = item.x > 0.5
        kept.append(mask)
    return before, after, torch.stack(kept) if kept else torch.zeros(0, side, side, dtype=torch.bool)


def painted(trial: Trial) -> Numbers:
    """The half of a picture that shows its object is drawn anew, told of another shape."""
    model, coder = trial.ground.base("residual"), trial.ground.tokenizer(BASE.tokenizer)
    before, after, kept = edits(trial.ground.prompts(trial.seed))
    if not before:
        return {"scenes": 0, "right": 0.0, "edited": 0.0, "loss": None}
    true = pictures(before)
    codes = torch.cat(coder.encode(as_images(true), BASE.shapes), dim=1)
    plain_ = decode(coder, codes, BASE.shapes)
    options = {"seed": trial.seed * SEED_STRIDE + 3000, "rows": len(before)}
    how = trial.ground.how("residual")
    free = draw(model, coder, after, how, **options)
    made = draw(model, coder, after, how.but(hook=Keep(codes, masks(kept))), **options)
    inside = _beyond_edge(kept)
    flat = [image[where][None, :] for image, where in zip(made.pictures, inside, strict=True)]
    given = [image[where][None, :] for image, where in zip(plain_, inside, strict=True)]
    original = [image[where][None, :] for image, where in zip(true, inside, strict=True)]
    loss = pixel_psnr(given, original) - pixel_psnr(flat, original)
    right = [_shows(one, picture) for one, picture in zip(after, free.pictures, strict=True)]
    edited = [_shows(one, picture) for one, picture in zip(after, made.pictures, strict=True)]
    return {
        "scenes": len(before),
        "right": float(sum(right)),
        "edited": float(sum(a and b for a, b in zip(right, edited, strict=True))),
        "loss": loss,
    }


def _beyond_edge(kept: Tensor) -> np.ndarray:
    """[N, H, W] bool: pixels of kept cells that are more than one cell from the others."""
    hole = F.max_pool2d((~kept)[:, None].float(), 3, stride=1, padding=1)[:, 0] == 0
    scale = SIDE // kept.shape[1]
    return hole.repeat_interleave(scale, 1).repeat_interleave(scale, 2).numpy()


def _shows(one: Scene, picture: np.ndarray) -> bool:
    item = one.objects[0]
    return any(o.shape == item.shape and in_cell(o, cell(item)) for o in parse(picture).objects)


def judge(results: Results) -> list[Criterion]:
    def pairs(name: str) -> zip[tuple[float, float]]:
        return zip(
            results.values("compared", f"var/{name}"),
            results.values("compared", f"raster/{name}"),
            strict=True,
        )

    fits = [
        log_fit(
            [results.of(arm, seed, "parameters") for arm in WIDTHS],
            [results.of(arm, seed, "last") for arm in WIDTHS],
        )
        for seed in results.seeds
    ]
    right, edited = (sum(results.values("painted", name)) for name in ("right", "edited"))
    losses = [results.of("painted", seed, "loss") for seed in results.seeds]
    known = [loss for loss in losses if loss is not None]
    return [
        at_most(
            "(a) cached against full log-probabilities, nats", results.values("compared", "cached"), 1e-4
        ),
        at_most("(b) network calls beside raster order", [a / b for a, b in pairs("calls")], 6 / 64),
        at_least(
            "(c) attribute accuracy against raster, points",
            [100 * (a - b) for a, b in pairs("attributes")],
            -2.0,
        ),
        at_most("(d) Pearson's r of log loss of the last map and log size", [fit[2] for fit in fits], -0.95),
        at_most("(e) kept pixels lose beside plain reconstruction, dB", known, 1.0)
        if known
        else not_applicable("(e) kept pixels", "no scene has an object in one half"),
        at_least("(e) edits that show the asked shape, of drawings that do", [edited / right], 0.8)
        if right >= LEAST
        else not_applicable(
            "(e) edits that show the asked shape", f"the model draws {right:.0f} of these scenes right"
        ),
    ]


def losses_by_size(results: Results) -> dict[str, list[float]]:
    """Of every seed, the loss of the last map by size."""
    return {f"seed {seed}": [results.of(arm, seed, "last") for arm in WIDTHS] for seed in results.seeds}


EXPERIMENT = Experiment(
    name="var",
    what="next-scale prediction by residual beside raster order, four sizes of one model, in-painting",
    arms={
        "compared": compared,
        "painted": painted,
        **{name: partial(size, factor) for name, factor in WIDTHS.items()},
    },
    judge=judge,
    minutes=25,
    scaled="32 x 32 scenes of one and two shapes; sizes from a sixteenth to the base models' own, trained "
    "for 15 % of their steps; the edit asks for another shape in one half of a picture",
    shown=("attributes", "all", "calls", "seconds", "last", "parameters"),
    plots={"losses of the last map by size": losses_by_size},
)
