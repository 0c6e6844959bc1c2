"""Skywork UniPic (arXiv 2508.03320): does an encoder of its own help reading and spare drawing, how much of
the words' gradient may reach a shared one, what does a source in the decoder keep, and do filtered pairs
teach more?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    not_applicable,
)
from unified.eval.lab.experiments.harmon import tokens_of
from unified.eval.lab.experiments.varedit import Edit, edit_of
from unified.eval.lab.ground.codecs import held_out
from unified.eval.lab.ground.latents import TOKENS, Scale, batch_of, drawn, in_blocks
from unified.eval.lab.ground.measures import FRECHET, pixel_psnr
from unified.eval.lab.ground.sandwich import (
    EDIT,
    GRID,
    NONE,
    RATE,
    REPEAT,
    SETTINGS,
    SPAN,
    Lessons,
    Reader,
    captions_of,
    diffusion_loss,
    levels,
    new_harmon,
    pictures_drawn,
    prompts_of,
    shared,
    taught,
    words_said,
)
from unified.eval.lab.ground.scenes import pictures, score
from unified.eval.lab.ground.teacher import FEATURES, Teacher
from unified.eval.lab.ground.teacher import taught as taught_teacher
from unified.eval.lab.ground.training import Course, train

from unified.checkpoints.harmon.network import Harmon, Prompts
from unified.checkpoints.harmon.sampling import sample as draw
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.checkpoints.unipic.editing import SourceImage, source_image, with_source
from unified.decoding.noise import PositionNoise
from unified.orders.masked_schedule import shuffled_orders

SHARE, EDITS, PAIRS = 0.25, 1024, 2048  # of the base models' steps, for each task; pairs of pictures
BATCH = 0.5  # of the ground's
WRONG, DROPPED = 0.3, 0.3  # of captions are another picture's; of pairs are left out by the checker
EMPTY, REPEATED = 0.1, 0.1  # of edits are trained without words, and as "repeat"
GUIDED = MaskedDecoding(steps=SETTINGS.steps, scale=3.0, linear=False, sections=SETTINGS.sections)
LEAST = 0.15  # of edits succeed, and of attributes are drawn, or nothing is compared


# Reading and drawing ----------------------------------------------------------------------------------------


def by_teacher(teacher: Teacher) -> Reader:
    """Features of a frozen encoder of its own, through a projection."""

    def read(model: Harmon, tokens: Tensor, shown: Tensor) -> Tensor:
        with torch.no_grad():
            features = teacher(shown).flatten(2).mT
        found: Tensor = model.siglip2_proj(features)
        return found

    return read


def both_tasks(scale: float | None, trial: Trial) -> Numbers:
    """Drawing and reading by one encoder, with so much of the words' gradient; None: by an encoder each."""
    latents, ground = Scale.of(trial.ground), trial.ground
    reader = by_teacher(taught_teacher(trial, trial.work / "teacher")) if scale is None else shared(scale)
    model, shown = new_harmon(trial, FEATURES if scale is None else 0), ground.pictures()
    lessons = Lessons(
        tokens=latents.tokens(ground),
        pictures=lambda numbers: levels(shown[numbers.numpy()]),
        captions=ground.captions(),
        reader=reader,
    )
    done = taught(trial, model, lessons, SHARE, f"gradient {scale}", BATCH)
    scenes, true = held_out(trial)
    tokens = tokens_of(trial, latents, true)
    words = words_said(model, reader, tokens, levels(true), captions_of(scenes))
    return {**pictures_drawn(trial, model, latents, scenes), "words": words, "training": done.seconds}


def filtered(by_checker: bool, trial: Trial) -> Numbers:
    """Drawing alone, from pairs of which some captions are wrong; the checker leaves out the worst, or as
    many are left out blindly."""
    latents, ground = Scale.of(trial.ground), trial.ground
    count = min(PAIRS, ground.sizes.scenes)
    scenes, tokens = ground.scenes("train")[:count], latents.tokens(ground)[:count]
    rng = np.random.default_rng([61, trial.seed])
    told = np.where(rng.random(count) < WRONG, rng.permutation(count), np.arange(count))
    marks = np.arange(count) % 97
    if by_checker:
        own = [
            score(scenes[number], picture)
            for number, picture in zip(told, ground.pictures()[:count], strict=True)
        ]
        marks = np.array([one["attributes"] for one in own])
    kept = torch.from_numpy(np.argsort(-marks, kind="stable")[: max(1, round((1 - DROPPED) * count))].copy())
    captions = ground.captions()[torch.from_numpy(told)]
    same = (captions == ground.captions()[:count]).all(dim=1)
    lessons = Lessons(tokens=tokens[kept], pictures=lambda n: n, captions=captions[kept], reader=None)
    model = new_harmon(trial)
    done = taught(trial, model, lessons, SHARE, "pairs", BATCH)
    true = float(same[kept].float().mean())
    drawings = pictures_drawn(trial, model, latents, ground.prompts(trial.seed))
    return {**drawings, "true captions": true, "training": done.seconds}


# Editing ----------------------------------------------------------------------------------------------------


def words_for(edits: Sequence[Edit]) -> Tensor:
    return torch.tensor([one.words for one in edits])


def edited(in_decoder: bool, trial: Trial) -> Numbers:
    """A model of edits, with the source in the decoder or in the prompt alone, and two null branches."""
    latents, sizes = Scale.of(trial.ground), trial.ground.sizes
    edits = [edit_of(number, "train") for number in range(min(EDITS, sizes.scenes))]
    before, after = (
        tokens_of(trial, latents, pictures([getattr(one, side) for one in edits]))
        for side in ("source", "target")
    )
    words, model = words_for(edits), new_harmon(trial)

    def loss(step: int) -> Tensor:
        chosen, generator = batch_of(trial, step, max(2, round(BATCH * sizes.batch)))
        chosen = chosen % len(edits)
        kind = torch.rand(len(chosen), generator=generator)
        repeated, empty = kind < REPEATED, (kind >= REPEATED) & (kind < REPEATED + EMPTY)
        target = torch.where(repeated[:, None, None], before[chosen], after[chosen])
        prompts = prompts_of(EDIT, words[chosen].masked_fill((repeated | empty)[:, None], NONE), SPAN)
        prompts.ids[repeated, 0] = REPEAT
        source = source_image(model, before[chosen], GRID)
        told = with_source(prompts, source, prompts.image)
        return diffusion_loss(model, told, target, generator, source.encoded if in_decoder else None)

    course = Course(steps=sizes.steps(SHARE), rate=RATE, what=f"edits, seed {trial.seed}")
    done = train(model, loss, course, trial.work, in_blocks)
    found: Numbers = {"training": done.seconds}
    for name, task in (("repeat", REPEAT), ("empty", EDIT)):
        found[name] = figures(trial, model.eval(), latents, task, in_decoder)
    return found


@torch.no_grad()
def figures(trial: Trial, model: Harmon, latents: Scale, null: int, in_decoder: bool) -> Numbers:
    """`success` of edits, and `kept`: PSNR where nothing was to change; the null branch begins with
    `null`."""
    count = max(2, trial.ground.sizes.prompts // 2)
    edits = [edit_of(trial.seed * count + n, "test") for n in range(count)]
    by_row = iter(range(0, count, trial.ground.sizes.rows))
    sources = tokens_of(trial, latents, pictures([one.source for one in edits]))

    def made_by(_: Tensor, noise: PositionNoise) -> Tensor:
        start = next(by_row)
        part = slice(start, start + trial.ground.sizes.rows)
        words, source = words_for(edits[part]), source_image(model, sources[part], GRID)
        blind = prompts_of(null, torch.full_like(words, NONE), SPAN)
        ids = torch.cat([prompts_of(EDIT, words, SPAN).ids, blind.ids])
        both = SourceImage(*(x.repeat(2, 1, 1) for x in source))
        told = with_source(Prompts(ids, torch.ones_like(ids, dtype=torch.bool)), both, blind.image)
        orders = shuffled_orders(len(words), (TOKENS,), trial.seed)
        return draw(model, told, orders, GRID, noise, GUIDED, source=both.encoded if in_decoder else None)

    made = latents.pictures(trial.ground, drawn(trial, [one.target for one in edits], made_by))
    true = pictures([one.target for one in edits])
    same = (pictures([one.source for one in edits]) == true).all(axis=-1, keepdims=True)
    return {
        "success": float(np.mean([one.done(picture) for one, picture in zip(edits, made, strict=True)])),
        "kept": pixel_psnr(np.where(same, made, 0), np.where(same, true, 0)),
    }


# Criteria ---------------------------------------------------------------------------------------------------


def judge(results: Results) -> list[Criterion]:
    def points(one: str, other: str, name: str) -> list[float]:
        return [100 * x for x in results.difference(one, other, name)]

    def both(arm: str) -> list[float]:
        pairs = zip(results.values(arm, "words"), results.values(arm, "attributes"), strict=True)
        return [100 * (a + b) for a, b in pairs]

    found = [at_least("(a) words said right by an encoder of its own, points",
                      points("own encoder", "gradient 0.1", "words"), 3.0)]  # fmt: skip
    drawings = [
        sum(results.values(arm, "attributes")) / len(results.seeds) for arm in ("gradient 0.1", "filtered")
    ]
    if max(drawings) < LEAST:
        why = f"no arm draws with an accuracy above {max(drawings):.2f}"
        names = ("(a) and its drawings, points", "(b) a tenth of the gradient", "(e) filtered pairs")
        found += [not_applicable(name, why) for name in names]
    else:
        least = [min(x) for x in zip(*([a - b for a, b in zip(both("gradient 0.1"), both(arm), strict=True)]
                 for arm in ("gradient 0", "gradient 1")), strict=True)]  # fmt: skip
        found += [
            at_least("(a) and its drawings, points",
                     points("own encoder", "gradient 0.1", "attributes"), -1.0),
            at_least("(b) a tenth of the gradient against none and all, both tasks, points", least, 0.0),
            at_least("(e) filtered pairs against as many others, points",
                     points("filtered", "unfiltered", "attributes"), 2.0),
        ]  # fmt: skip
    return [*found, *_of_edits(results)]


def _of_edits(results: Results) -> list[Criterion]:
    names = (
        "(c) a source in the decoder keeps more, dB",
        "(d) the null branch that repeats: success, points",
    )
    success = results.values("edits, decoder", "repeat/success")
    if sum(success) / len(success) < LEAST:
        why = f"{100 * sum(success) / len(success):.0f} % of edits succeed"
        return [not_applicable(name, why) for name in names]
    pairs = zip(*(results.values(arm, "repeat/kept") for arm in ("edits, decoder", "edits, prompt alone")),
                strict=True)  # fmt: skip
    nulls = zip(success, results.values("edits, decoder", "empty/success"), strict=True)
    return [
        at_least(names[0], [a - b for a, b in pairs], 2.0),
        at_least(names[1], [100 * (a - b) for a, b in nulls], 3.0),
    ]


EXPERIMENT = Experiment(
    name="skywork_unipic",
    what="a masked encoder that draws, reads and edits: an encoder of its own for reading, scaled "
    "gradients, sources",
    arms={
        "own encoder": partial(both_tasks, None),
        "gradient 0.1": partial(both_tasks, 0.1),
        "gradient 0": partial(both_tasks, 0.0),
        "gradient 1": partial(both_tasks, 1.0),
        "edits, decoder": partial(edited, True),
        "edits, prompt alone": partial(edited, False),
        "filtered": partial(filtered, True),
        "unfiltered": partial(filtered, False),
    },
    judge=judge,
    minutes=28,
    scaled="Harmon's experiment with 150 steps of 16 of each task; captions of nine words for reading; the "
    "encoder of its own was taught words, not pairs; edits recolour an object or the ground, success and "
    "what is kept stand side by side; losses of the tasks have one weight and take turns; a third of "
    "captions is made wrong for the checker to find, and as many pairs are left out blindly beside it",
    shown=("attributes", FRECHET, "words", "success", "kept", "true captions"),
)
