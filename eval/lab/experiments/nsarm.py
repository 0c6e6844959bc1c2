"""NSARM (arXiv 2510.00820): does a next-scale model restore pictures whose coarse maps are told from a
damaged one, and must the labels of later maps follow what was told?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
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
from unified.eval.lab.ground.bases import rows
from unified.eval.lab.ground.codecs import pixels
from unified.eval.lab.ground.measures import pixel_psnr
from unified.eval.lab.ground.scenes import SIDE, pictures, score
from unified.eval.lab.ground.steering import BASE, PLAN, chosen, drawn_under, frozen, scores_of, teach_part
from unified.eval.lab.ground.tokenizers import DIM, SCHEDULE
from unified.eval.lab.ground.training import Course, train
from unified.tokenizers.quantise import nearest
from unified.tokenizers.resize import area, flatten, unflatten

from unified.checkpoints.nsarm.network import Transformation, TransformationConfig
from unified.decoding.drawing import Choice, Hook
from unified.decoding.editing import give_maps
from unified.decoding.sampling import Sampler
from unified.model import UnifiedModel
from unified.objectives import build_objective

FIRST, SHARE, RATE = 0.6, 0.1, 1e-3  # shares of the base models' steps: of the network alone, and of both
GIVEN = 3  # maps that are told
GIVEN_CODES = sum(side * side for side in SCHEDULE[:GIVEN])
PICTURES = 2048
SAMPLER = Sampler(temperature=0.5)
FAILED = 0.5  # accuracy of attributes below which a picture counts as failed
LEAST = 0.05  # of pictures fail with the frozen model, or there is nothing to halve
INVARIANT = 0.05  # by which relabelled codes may restore a latent worse


# Damage -----------------------------------------------------------------------------------------------------


def damaged(pictures_: np.ndarray, kind: str, seed: int) -> np.ndarray:
    """uint8 [N, 32, 32, 3] blurred, made smaller and noisy: "mild" or "strong"; "unseen" is by blocks of few
    colours instead."""
    rng = np.random.default_rng([41, seed])
    found = []
    for picture in pictures_:
        factor, noise = (2, 4.0) if kind == "mild" else (4, 12.0)
        how = Image.Resampling.NEAREST if kind == "unseen" else Image.Resampling.BOX
        small = Image.fromarray(picture).resize((SIDE // factor, SIDE // factor), how)
        if kind == "unseen":
            small = small.quantize(8).convert("RGB")
        levels = np.asarray(small, dtype=float) + noise * rng.standard_normal(
            (SIDE // factor, SIDE // factor, 3)
        )
        back = Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))
        found.append(np.asarray(back.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
    return np.stack(found)


def mixed(pictures_: np.ndarray, seed: int) -> np.ndarray:
    """Half mild, half strong: what is trained on."""
    half = len(pictures_) // 2
    return np.concatenate(
        [damaged(pictures_[:half], "mild", seed), damaged(pictures_[half:], "strong", seed + 1)]
    )


# The network that tells coarse maps -------------------------------------------------------------------------


def new_network(trial: Trial) -> Transformation:
    """Without dropout: steps are to depend on their number alone."""
    torch.manual_seed(trial.seed)
    network = Transformation(
        TransformationConfig(
            channels=DIM,
            grid=(SCHEDULE[-1],) * 2,
            trunk=(32, 32),
            shapes=tuple((side, side) for side in SCHEDULE[:GIVEN]),
            widths=(32,) * GIVEN,
            layers=(1,) * GIVEN,
            heads=(2,) * GIVEN,
        )
    )
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return network


@torch.no_grad()
def latents_of(trial: Trial, pictures_: np.ndarray) -> Tensor:
    coder = trial.ground.tokenizer(BASE.tokenizer)
    return torch.cat([coder.latent(part).float() for part in pixels(pictures_).split(256)])


@torch.no_grad()
def told_maps(trial: Trial, network: Transformation, latents: Tensor) -> list[Tensor]:
    """The codes [N, n] of the first maps, those nearest to what the network gives."""
    table = trial.ground.tokenizer(BASE.tokenizer).codebook().float()
    return [nearest(found, table) for found in network.eval()(latents)]


@torch.no_grad()
def relabelled(trial: Trial, latents: Tensor, given: list[Tensor], follow: bool = True) -> Tensor:
    """Codes [N, T] of latents whose first maps are given; the later ones add what these leave, or with
    `follow` false what the true first maps leave."""
    coder = trial.ground.tokenizer(BASE.tokenizer)
    table, shape, steps = coder.codebook().float(), (latents.shape[2], latents.shape[3]), len(SCHEDULE)
    rest, ids = latents.clone(), list[Tensor]()
    for step, side in enumerate(SCHEDULE):
        size = (side, side)
        own = nearest(flatten(rest if step == steps - 1 else area(rest, size)), table)
        kept = given[step] if step < len(given) else own
        used = kept if follow else own
        rest = rest - coder.contribution(unflatten(F.embedding(used, table), size), step, steps, shape)
        ids.append(kept)
    return torch.cat(ids, dim=1)


def trained_network(trial: Trial, low: Tensor, high: Tensor) -> Transformation:
    """By the squared distance to true residual maps."""
    network, coder = new_network(trial), trial.ground.tokenizer(BASE.tokenizer)
    with torch.no_grad():
        codes = coder.quantise(high, PLAN.shapes)
        targets = [coder.vectors(ids).float() for ids in codes.ids[:GIVEN]]

    def loss(step: int) -> Tensor:
        numbers = chosen(trial, step, trial.ground.sizes.batch, len(low))
        found = network(low[numbers])
        errors = [F.mse_loss(a, b[numbers]) for a, b in zip(found, targets, strict=True)]
        return torch.stack(errors).mean()

    teach_part(trial, network, loss, trial.ground.sizes.steps(FIRST), "network", 2e-3)
    return network.eval()


# Arms -------------------------------------------------------------------------------------------------------


def restored(tune: bool, follow: bool, trial: Trial) -> Numbers:
    """The network alone beside the frozen base, or the base tuned on what the network tells."""
    shown = trial.ground.pictures()[:PICTURES]
    low, high = (latents_of(trial, x) for x in (mixed(shown, trial.seed), shown))
    network = trained_network(trial, low, high)
    model = trial.ground.base("residual") if tune else frozen(trial)
    if tune:
        codes = relabelled(trial, high, told_maps(trial, network, low), follow)
        tuned(trial, model, codes)
    scenes = trial.ground.prompts(trial.seed)
    true = pictures(scenes)
    found: Numbers = {"invariant": invariant(trial, latents_of(trial, true), network)}
    for kind in ("mild", "strong", "unseen"):
        given = told_maps(trial, network, latents_of(trial, damaged(true, kind, 1000 + trial.seed)))
        made = drawn_under(
            trial, model, scenes, sampler=SAMPLER, hook=each_batch(given, trial.ground.sizes.rows)
        )
        own = [score(one, picture)["attributes"] for one, picture in zip(scenes, made.pictures, strict=True)]
        found[kind] = {
            "psnr": pixel_psnr(made.pictures, true),
            "attributes": float(np.mean(own)),
            "variance": float(np.var(own)),
            "failed": float(np.mean(np.array(own) < FAILED)),
            "seconds": made.seconds / len(scenes),
        }
    plain = drawn_under(trial, model, scenes, sampler=SAMPLER)
    return {**found, "plain seconds": plain.seconds / len(scenes)}


def each_batch(given: list[Tensor], rows_: int) -> Hook:
    """Gives the first maps of pictures that are drawn some rows at once, in their order."""
    batches = iter(list(zip(*(part.split(rows_) for part in given), strict=True)))
    hook: list[Callable[[Choice], Choice]] = []

    def give(choice: Choice) -> Choice:
        if choice.step == 0:
            hook[:] = [give_maps(next(batches))]
        return hook[0](choice)

    return give


def tuned(trial: Trial, model: UnifiedModel, codes: Tensor) -> None:
    """All weights, on codes of later maps alone."""
    captions = trial.ground.captions()[: len(codes)]
    weights = {"weights": (0.0,) * GIVEN, "rest": 1.0}
    objective = build_objective("scale_weighted", weights)

    def loss(step: int) -> Tensor:
        numbers = chosen(trial, step, max(2, trial.ground.sizes.batch // 2), len(codes))
        batch = rows(model.vocabulary, captions[numbers], codes[numbers], BASE.order, BASE.shapes)
        found = objective.loss(scores_of(model, batch), None, {"rows": len(batch.ids)}).loss
        return found / (PLAN.length - GIVEN_CODES)

    both: nn.Module = model
    train(
        both,
        loss,
        Course(steps=trial.ground.sizes.steps(SHARE), rate=RATE, what="tuning"),
        trial.work / "base",
    )


@torch.no_grad()
def invariant(trial: Trial, latents: Tensor, network: Transformation) -> float:
    """The error of latents from relabelled codes over that from plain ones, less 1."""
    coder = trial.ground.tokenizer(BASE.tokenizer)
    errors = []
    for codes in (
        relabelled(trial, latents, told_maps(trial, network, latents)),
        relabelled(trial, latents, []),
    ):
        parts = list(codes.split([side * side for side in SCHEDULE], dim=1))
        errors.append(float((coder.totals(parts, PLAN.shapes)[-1] - latents).square().mean()))
    return errors[0] / errors[1] - 1


def judge(results: Results) -> list[Criterion]:
    own, old, alone = "relabelled", "old labels", "frozen"
    failed = results.values(alone, "unseen/failed")
    sharper = [
        sum(results.of(own, seed, f"{kind}/psnr") - results.of(old, seed, f"{kind}/psnr")
            for kind in ("mild", "strong")) / 2
        for seed in results.seeds
    ]  # fmt: skip
    what = "(b) failures on unseen damage, of those of the frozen model, share"
    if sum(failed) / len(failed) < LEAST:
        why = f"the frozen model fails on {100 * sum(failed) / len(failed):.1f} %: nothing to halve"
        fewer = not_applicable(what, why)
    else:
        pairs = zip(results.values(own, "unseen/failed"), failed, strict=True)
        fewer = at_most(what, [a / max(b, 1e-9) for a, b in pairs], 0.5)
    times = (results.values(own, name) for name in ("strong/seconds", "plain seconds"))
    slower = [a / b for a, b in zip(*times, strict=True)]
    return [
        at_least("(a) PSNR of labels that follow, above labels that do not, dB", sharper, 0.5),
        fewer,
        at_most("(c) time of a picture over plain drawing", slower, 2.0),
        at_most(
            "(d) relabelled codes restore a latent worse, by", results.values(own, "invariant"), INVARIANT
        ),
    ]


EXPERIMENT = Experiment(
    name="nsarm",
    what="damaged pictures restored by the residual base model from told coarse maps",
    arms={
        "frozen": partial(restored, False, True),
        "old labels": partial(restored, True, False),
        "relabelled": partial(restored, True, True),
    },
    judge=judge,
    minutes=16,
    scaled="the residual base model and its codebook in place of bits, three told maps of six, networks of "
    "one layer and 32 channels, 360 steps; tuning of 60 steps of 16, in which the network stays as it is; "
    "pictures of 32 pixels from 8 and 16; the arm with the source as a prefix is VAREdit's experiment",
    shown=("psnr", "attributes", "failed", "variance", "seconds"),
)
