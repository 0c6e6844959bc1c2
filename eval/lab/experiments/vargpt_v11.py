"""VARGPT-v1.1 (arXiv 2504.02949): do rounds of tuning and preference in turn draw better than as many steps
of tuning alone, and is editing learnt on top without losing drawing?"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.arms import SEED_STRIDE, output, scored, trained
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
from unified.eval.lab.ground import scenes as told
from unified.eval.lab.ground import streams
from unified.eval.lab.ground.bases import BASES, SQUARE, Rows, layout_of, rows
from unified.eval.lab.ground.drawing import SAMPLER, decode, draw
from unified.eval.lab.ground.training import Course, train
from unified.tasks.scenes.generate import HELD_OUT
from unified.tasks.scenes.scene import COLOURS, Scene
from unified.tasks.worlds.scoring import psnr

from unified.decoding.session import Session
from unified.layout.layout import IGNORED
from unified.model import UnifiedModel
from unified.objectives import Scores, build_objective
from unified.orders.shapes import area

NAME = "next_scale"
BASE = BASES[NAME]
TUNING, PREFERENCE, EDITING = 0.03, 0.02, 0.06  # of the base model's steps: a round of each, and edits
RATE, SOFT = 3e-4, 1e-4  # learning rates of tuning and of preference
BETA = 0.02
BEST = 0.97  # of attributes, from which on there is nothing to gain
Pairs = tuple[Tensor, Tensor, Tensor]  # captions [M, 9], true codes [M, T], codes that were drawn [M, T]


# Rounds -----------------------------------------------------------------------------------------------------


def within(trial: Trial, name: str) -> Trial:
    """With a folder of its own for a stage."""
    return replace(trial, work=trial.work / name)


def tuned(trial: Trial, model: UnifiedModel, share: float, stage: str) -> None:
    """On captions and pictures, as the base model was trained."""
    steps = trial.ground.sizes.steps(share)
    trained(within(trial, stage), model, BASE, steps, stage, RATE)


def failed(trial: Trial, model: UnifiedModel, number: int) -> Pairs:
    """Training scenes that this model draws wrongly, beside what it drew."""
    ground, count = trial.ground, trial.ground.sizes.prompts
    captions, codes = ground.captions(), ground.codes("vq", BASE.shapes)
    rng = np.random.default_rng([trial.seed, number])
    chosen = rng.choice(len(captions), size=min(count, len(captions)), replace=False).tolist()
    scenes = [ground.scenes("train")[n] for n in chosen]
    seed = trial.seed * SEED_STRIDE + 1000 * (1 + number)
    coder = ground.tokenizer("vq")
    drawn = draw(model.eval(), coder, scenes, ground.how(NAME), seed=seed, rows=ground.sizes.rows)
    bad = [n for n, one in enumerate(scenes) if told.score(one, drawn.pictures[n])["all"] < 1]
    own = torch.tensor([chosen[n] for n in bad], dtype=torch.long)
    return captions[own], codes[own], drawn.codes[bad]


def preferred(trial: Trial, model: UnifiedModel, pairs: Pairs, share: float, stage: str) -> None:
    """DPO with the model as it comes as the reference; nothing where nothing was drawn wrongly."""
    captions, true, drawn = pairs
    if not len(captions):
        return
    reference = copy.deepcopy(model).requires_grad_(False).eval()
    objective = build_objective("dpo", {"beta": BETA})
    batch = max(1, trial.ground.sizes.batch // 2)

    def loss(step: int) -> Tensor:
        chosen = streams.drawn_rows(trial.seed, step, len(captions), batch)
        both = torch.stack([true[chosen], drawn[chosen]], dim=1).flatten(0, 1)
        given = captions[chosen].repeat_interleave(2, dim=0)
        line = rows(model.vocabulary, given, both, BASE.order, BASE.shapes)
        with torch.no_grad():
            fixed = scores(reference, line)
        return objective.loss(scores(model, line), fixed, {"input_ids": line.ids}).loss

    course = Course(steps=trial.ground.sizes.steps(share), rate=SOFT, what=stage)
    train(model, loss, course, within(trial, stage).work)


def scores(model: UnifiedModel, batch: Rows) -> Scores:
    return Scores.of(output(model, batch), batch.layout, batch.labels)


# Edits ------------------------------------------------------------------------------------------------------


def recoloured(one: Scene, number: int) -> Scene:
    """The first object in the next colour that may stand with its shape."""
    first, *others = one.objects
    names = tuple(COLOURS)
    turned = (names[(names.index(first.colour) + 1 + number + k) % len(names)] for k in range(len(names)))
    colour = next(name for name in turned if name != first.colour and (first.shape, name) not in HELD_OUT)
    return replace(one, objects=(replace(first, colour=colour), *others))


def prompt(words: Any, source: Sequence[int], caption: Sequence[int]) -> list[int]:
    """A picture, and the caption of what it is to become."""
    read = words.read_segment(source, SQUARE)
    return [words.begin, words.user, *read, *caption, words.end, words.assistant]


def edit_rows(words: Any, source: Tensor, captions: Tensor, codes: Tensor) -> Rows:
    """Rows of source codes [B, 64], captions [B, 9] and target codes [B, T] in slot order."""
    opened, blank = words.open_write(BASE.order, BASE.shapes), [words.visual_start] * area(BASE.shapes)
    lines = [
        [*prompt(words, *pair), *opened, *blank, words.close, words.end]
        for pair in zip(source.tolist(), captions.tolist(), strict=True)
    ]
    ids = torch.tensor(lines)
    span = slice(ids.shape[1] - 2 - len(blank), -2)
    ids[:, span] = codes + words.visual_start
    labels = torch.full_like(ids, IGNORED)
    labels[:, span] = ids[:, span]
    line = ids[0].clone()
    line[words.is_visual(line)] = words.visual_start
    line[line < words.text] = 0
    return Rows(ids, layout_of(words, tuple(line.tolist()), len(ids)), labels)


def editing(trial: Trial, model: UnifiedModel) -> None:
    """Teach edits: every second step is drawing from a caption alone, as before."""
    ground, sizes = trial.ground, trial.ground.sizes
    count = min(len(ground.scenes("train")), max(4, sizes.scenes // 8))
    before = ground.scenes("train")[:count]
    after = [recoloured(one, n) for n, one in enumerate(before)]
    coder = ground.tokenizer("vq")
    source = streams.codes_of(coder, told.pictures(before))
    target = streams.codes_of(coder, told.pictures(after), BASE.shapes)
    captions = torch.tensor([told.caption(one) for one in after])
    plain = ground.batches(BASE, trial.seed + 3)

    def loss(step: int) -> Tensor:
        if step % 2:
            batch = plain(step, model)
        else:
            chosen = streams.drawn_rows(trial.seed, step, count, sizes.batch)
            batch = edit_rows(model.vocabulary, source[chosen], captions[chosen], target[chosen])
        found = output(model, batch).loss
        assert found is not None
        return found

    course = Course(steps=sizes.steps(EDITING), rate=RATE, what="edits")
    train(model, loss, course, within(trial, "edits").work)


@torch.no_grad()
def edited(trial: Trial, model: UnifiedModel, foreign: bool = False) -> Numbers:
    """Edits of test scenes, or of other test scenes' pictures: how far the caption is met, and PSNR beside
    the source where the target is as it was."""
    ground = trial.ground
    before = ground.prompts(trial.seed)
    after = [recoloured(one, n) for n, one in enumerate(before)]
    coder, words = ground.tokenizer("vq"), model.vocabulary
    pictures = told.pictures(before)
    source = streams.codes_of(coder, pictures)
    source = source.roll(1, dims=0) if foreign else source
    shown = []
    for start in range(0, len(before), ground.sizes.rows):
        part = slice(start, start + ground.sizes.rows)
        asked = zip(source[part].tolist(), [told.caption(one) for one in after[part]], strict=True)
        lines = [prompt(words, *pair) for pair in asked]
        session = Session(model, rows=len(lines), seed=trial.seed * SEED_STRIDE + 7000 + start)
        session.feed(lines)
        drawing = session.draw(BASE.shapes, order=BASE.order, sampler=SAMPLER)
        shown.append(decode(coder, drawing.codes, BASE.shapes))
    found = np.concatenate(shown)
    met = [told.score(one, picture)["attributes"] for one, picture in zip(after, found, strict=True)]
    return {"attributes": float(np.mean(met)), "kept": kept(found, pictures, told.pictures(after))}


def kept(found: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    """Mean PSNR of pictures uint8 [N, H, W, 3] beside the sources, where the targets are as these were."""
    still = (before == after).all(axis=-1)  # [N, H, W]
    rows_ = zip(found, before, still, strict=True)
    return float(np.mean([psnr(one[same][None], other[same][None]) for one, other, same in rows_]))


# Arms -------------------------------------------------------------------------------------------------------


def base(trial: Trial) -> Numbers:
    return scored(trial, trial.ground.base(NAME), "vq", trial.ground.how(NAME))


def tuning_alone(trial: Trial) -> Numbers:
    """As many steps as the rounds have in all."""
    model = trial.ground.base(NAME)
    tuned(trial, model, 2 * (TUNING + PREFERENCE), "tuning")
    return scored(trial, model.eval(), "vq", trial.ground.how(NAME))


def in_turn(trial: Trial) -> Numbers:
    """Tuning and preference in two rounds; then edits."""
    model, found = trial.ground.base(NAME), Numbers()
    for number in range(2):
        tuned(trial, model, TUNING, f"tuning {number}")
        pairs = failed(trial, model, number)
        found[f"pairs {number}"] = len(pairs[0])
        preferred(trial, model, pairs, PREFERENCE, f"preference {number}")
    found |= scored(trial, model.eval(), "vq", trial.ground.how(NAME))
    editing(trial, model)
    model.eval()
    found["edits"] = edited(trial, model)
    found["foreign"] = edited(trial, model, foreign=True)
    return {**found, "after edits": scored(trial, model, "vq", trial.ground.how(NAME))}


def all_then_all(trial: Trial) -> Numbers:
    """All tuning first, then all preference, on pairs of one moment."""
    model = trial.ground.base(NAME)
    tuned(trial, model, 2 * TUNING, "tuning")
    preferred(trial, model, failed(trial, model, 0), 2 * PREFERENCE, "preference")
    return scored(trial, model.eval(), "vq", trial.ground.how(NAME))


def judge(results: Results) -> list[Criterion]:
    def points(other: str) -> list[float]:
        return [100 * x for x in results.difference("in turn", other, "attributes")]

    drawn, later = (results.values("in turn", name) for name in ("attributes", "after edits/attributes"))
    own, foreign = (results.values("in turn", f"{name}/kept") for name in ("edits", "foreign"))
    edits = [
        at_most(
            "(3) attributes that drawing loses by learning edits, points",
            [100 * (a - b) for a, b in zip(drawn, later, strict=True)],
            3.0,
        ),
        at_least(
            "(4) edits keep more of their source than of another picture's, dB",
            [a - b for a, b in zip(own, foreign, strict=True)],
            3.0,
        ),
    ]
    what = "(1) attributes after rounds in turn less tuning alone, points"
    start = results.values("base", "attributes")
    if sum(start) / len(start) > BEST:
        why = f"the base model draws {100 * sum(start) / len(start):.1f} % of attributes: nothing to gain"
        return [*edits, not_applicable(what, why, central=True)]
    return [
        at_least(what, points("tuning alone"), 5.0),
        at_least("(2) less all tuning, then all preference, points", points("all, then all"), -1.0),
        *edits,
    ]


EXPERIMENT = Experiment(
    name="vargpt_v11",
    what="tuning and preference in turn, one after the other, or tuning alone; then edits",
    arms={
        "base": base,
        "tuning alone": tuning_alone,
        "in turn": in_turn,
        "all, then all": all_then_all,
    },
    judge=judge,
    minutes=24,
    scaled="the next-scale base model, which draws and reads pictures as codes in place of a vision tower; "
    "one resolution, two rounds of 18 and 12 steps; winners are rendered, losers are own drawings with a "
    "fault; edits recolour the first object, told by the caption of the result; no questions about pictures, "
    "so what understanding loses is not measured",
    shown=("attributes", "all", "kept"),
)
