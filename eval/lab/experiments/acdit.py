"""ACDiT (arXiv 2412.07720): does denoising block after block against clean blocks draw as well as denoising
the whole, for less attention, and is the cache exact?"""

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
from unified.eval.lab.ground.latents import (
    CHANNELS,
    NO_WORDS,
    SIDE,
    TOKENS,
    CaptionEmbedding,
    Scale,
    batch_of,
    begin,
    drawn,
    in_blocks,
    scored,
)
from unified.eval.lab.ground.measures import FRECHET
from unified.eval.lab.ground.training import Course, train

from unified.checkpoints.acdit.network import ACDiT, ACDiTConfig, BlockLayout
from unified.checkpoints.acdit.sampling import BlockDecoding, sample
from unified.decoding.noise import PositionNoise
from unified.heads.diffusion_solvers import linear_kept
from unified.orders.units import Units, units

SHARE, RATE, DROPPED = 0.75, 3e-3, 0.1
BLOCKS = {"whole": 8, "blocks 4": 4}  # side of a block
JUDGED = "blocks 4"
SETTINGS = BlockDecoding(steps=20)
LEAST = 0.3  # attribute accuracy of the whole, below which nothing is told apart


def cells(side: int) -> Units:
    return units("cell", SIDE, SIDE, side)


def new_acdit(trial: Trial, side: int) -> ACDiT:
    size = trial.ground.sizes.model.part(0.5, 0.5)
    torch.manual_seed(trial.seed)
    layout = BlockLayout(count=TOKENS // side**2, size=side**2, spatial=TOKENS)
    model = ACDiT(
        ACDiTConfig(
            layout=layout,
            channels=CHANNELS,
            classes=NO_WORDS,
            width=size.width,
            depth=size.layers,
            heads=size.heads,
            hidden=4 * size.width,
        )
    )
    begin(model)
    told: nn.Module = CaptionEmbedding(size.width)
    model.y_embedder["embedding_table"] = told
    return model


def noised(values: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
    """Blocks [B, T, P, C] with the noise of steps [B, T]."""
    kept = linear_kept()[steps].float()[..., None, None]
    return kept.sqrt() * values + (1 - kept).sqrt() * noise


def of_blocks(side: int, noisy_context: bool, trial: Trial) -> Numbers:
    """One size of blocks. `noisy_context`: clean twins have noise of their own in training."""
    scale, sizes = Scale.of(trial.ground), trial.ground.sizes
    model, order = new_acdit(trial, side), cells(side)
    tokens, captions = scale.tokens(trial.ground), trial.ground.captions()

    def loss(step: int) -> Tensor:
        chosen, generator = batch_of(trial, step, sizes.batch)
        dropped = torch.rand(len(chosen), 1, generator=generator) < DROPPED
        labels = captions[chosen].masked_fill(dropped, NO_WORDS)
        values = order.split(tokens[chosen])
        steps = torch.randint(1000, values.shape[:2], generator=generator)
        noise = torch.randn(values.shape, generator=generator)
        clean = values
        if noisy_context:
            other = torch.randint(500, values.shape[:2], generator=generator)
            clean = noised(values, other, torch.randn(values.shape, generator=generator))
        made = model(
            clean.flatten(1, 2), noised(values, steps, noise).flatten(1, 2), model.condition(labels, steps)
        )
        return (made - noise.flatten(1, 2)).square().mean()

    course = Course(steps=sizes.steps(SHARE), rate=RATE, what=f"blocks of side {side}, seed {trial.seed}")
    done = train(model, loss, course, trial.work, in_blocks)
    scenes = trial.ground.prompts(trial.seed)

    def made_by(told: Tensor, noise: PositionNoise) -> Tensor:
        return order.join(sample(model, told, noise, SETTINGS))

    found: Numbers = scored(trial, scale, scenes, drawn(trial, scenes, made_by))
    found |= {
        "attention": attention(side),
        "attention_16": attention(2),
        "training": done.seconds,
        "loss": done.losses[-1],
    }
    if side == BLOCKS[JUDGED] and not noisy_context:
        found |= exactness(trial, model, scale)
    return found


def attention(side: int) -> float:
    """Pairs of positions in the solver steps of a picture, beside those of the whole."""
    count, size = TOKENS // side**2, side**2
    return sum(size * size * (number + 1) for number in range(count)) / TOKENS**2


@torch.no_grad()
def exactness(trial: Trial, model: ACDiT, scale: Scale) -> Numbers:
    """By how much one block against the cache differs from the pass over all twins, and by how much clean
    blocks differ at another time of the noisy ones."""
    layout, order = model.config.layout, cells(BLOCKS[JUDGED])
    values = order.split(scale.tokens(trial.ground, "validation")[:4])
    labels = trial.ground.captions("validation")[: len(values)]
    generator = torch.Generator().manual_seed(trial.seed)
    noise = torch.randn(values.shape, generator=generator)
    steps = torch.full(values.shape[:2], 300)
    noisy, condition = noised(values, steps, noise), model.condition(labels, steps)
    whole = model(values.flatten(1, 2), noisy.flatten(1, 2), condition).view(values.shape)
    stores, largest = model.stores(), 0.0
    for block in range(layout.count):
        before = values[:, block - 1] if block else None
        made = model.step(noisy[:, block], condition[:, block : block + 1], block, stores, before)
        largest = max(largest, float((made - whole[:, block]).abs().max()))
    other = model.condition(labels, steps + 400)
    states = [
        model.hidden(values.flatten(1, 2), noisy.flatten(1, 2), told)[:, :TOKENS]
        for told in (condition, other)
    ]
    return {"cached": largest, "clean": float((states[0] - states[1]).abs().max())}


def judge(results: Results) -> list[Criterion]:
    whole = results.values("whole", "attributes")
    lost = [100 * x for x in results.difference(JUDGED, "whole", "attributes")]
    what = "(d) accuracy of four blocks against the whole, points"
    exact = [
        at_most(
            "(b) a block against the cache differs from one pass by", results.values(JUDGED, "cached"), 1e-4
        ),
        at_most(
            "(c) clean blocks change with the time of noisy ones by", results.values(JUDGED, "clean"), 0.0
        ),
        at_least(
            "(d) attention of the whole beside that of 16 blocks",
            [1 / x for x in results.values(JUDGED, "attention_16")],
            1.8,
        ),
    ]
    if sum(whole) / len(whole) < LEAST:
        why = f"the whole is drawn with an accuracy of {sum(whole) / len(whole):.2f}"
        return [*exact, not_applicable(what, why, central=True)]
    return [*exact, at_least(what, lost, -3.0)]


EXPERIMENT = Experiment(
    name="acdit",
    what="pictures denoised as a whole, in 4 blocks against clean ones, and against noisy ones",
    arms={
        **{name: partial(of_blocks, side, False) for name, side in BLOCKS.items()},
        "noisy context": partial(of_blocks, BLOCKS[JUDGED], True),
    },
    judge=judge,
    minutes=22,
    scaled="pictures of 8 x 8 tokens, told by captions, in place of clips of frames and actions, so that "
    "(f) is not asked; models of an eighth of a base model's inner size, 450 steps; 20 solver steps "
    "a block without guidance; noisy context (e) is shown, not judged; the table of the mask (a) is "
    "a test",
    shown=("attributes", "all", FRECHET, "attention", "loss"),
)
