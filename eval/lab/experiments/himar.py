"""Hi-MAR (arXiv 2505.20288): do hidden states of a few pivots, drawn first, make a masked model of the whole
grid better in equally many steps?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    holds,
    not_applicable,
)
from unified.eval.lab.experiments.tokenbridge import orders_for, trained_masked
from unified.eval.lab.ground.latents import (
    CHANNELS,
    TOKENS,
    CaptionEmbedding,
    Scale,
    batch_of,
    begin,
    drawn,
    in_blocks,
    masked_batch,
    scored,
)
from unified.eval.lab.ground.measures import FRECHET, layout_of
from unified.eval.lab.ground.tokenizers import as_images, as_pictures
from unified.eval.lab.ground.training import Course, train

from unified.checkpoints.himar.grid_head import GridDenoiser
from unified.checkpoints.himar.network import DENSE, HiMAR, HiMARConfig
from unified.checkpoints.himar.sampling import Entered, TwoPhaseDecoding, sample
from unified.checkpoints.himar.training import Draws, Masks, losses
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.checkpoints.mar.sampling import sample as sample_mar
from unified.decoding.noise import PositionNoise
from unified.heads.denoiser import Denoiser
from unified.orders.masked_schedule import first_masked, shuffled_orders

SHARE, RATE, DROPPED, REPEATS = 1.2, 3e-3, 0.1, 2
PIVOT_SIDE = 4
PIVOTS = PIVOT_SIDE**2
HANDED = 0.9  # of samples in which the second phase is given hidden states
KEPT = (1,) * 19 + (0,)
STEPS = (8, 4)  # of pivots and of the grid
SETTINGS = TwoPhaseDecoding(
    pivots=MaskedDecoding(steps=STEPS[0], sections=KEPT), dense=MaskedDecoding(steps=STEPS[1], sections=KEPT)
)
SINGLE = MaskedDecoding(steps=sum(STEPS), sections=KEPT)
LEAST = 0.3


@torch.no_grad()
def pivots_of(trial: Trial, scale: Scale) -> Tensor:
    """[N, 16, C]: latents of training pictures at half their size."""
    coder, found = trial.ground.tokenizer("kl_vae"), []
    for part in as_images(trial.ground.pictures()).split(256):
        half = F.interpolate(part, scale_factor=0.5, mode="area")
        found.append(coder.latent(half).flatten(2).transpose(1, 2))
    return (torch.cat(found) - scale.mean) / scale.spread


@torch.no_grad()
def previews(trial: Trial, scale: Scale, pivots: Tensor) -> np.ndarray:
    """Pivots [N, 16, C] -> pictures uint8 [N, 32, 32, 3], enlarged."""
    vectors = (pivots * scale.spread + scale.mean).transpose(1, 2).unflatten(2, (PIVOT_SIDE, PIVOT_SIDE))
    images = trial.ground.tokenizer("kl_vae").decode_vectors(vectors)
    return as_pictures(F.interpolate(images, scale_factor=2.0, mode="bicubic"))


def new_himar(trial: Trial) -> HiMAR:
    size = trial.ground.sizes.model.part(0.5, 0.5)
    half = max(1, size.layers // 2)
    config = HiMARConfig(
        channels=CHANNELS,
        pivots=PIVOTS,
        tokens=TOKENS,
        classes=1,
        width=size.width,
        buffer=4,
        depth=(half, half),
        heads=size.heads,
        hidden=4 * size.width,
    )
    torch.manual_seed(trial.seed)
    grid = GridDenoiser(size.width, CHANNELS, TOKENS, size.width, 2, size.heads, 4 * size.width)
    nn.init.normal_(grid.pos_embed, std=0.5)  # fixed: places of the grid
    model = HiMAR(config, Denoiser(size.width, CHANNELS, 2 * size.width, 3), grid)
    begin(model)
    told: nn.Module = CaptionEmbedding(size.width)
    model.class_emb = told  # type: ignore[assignment]
    return model


def two_phases(trial: Trial) -> Numbers:
    """Pivots, then the grid."""
    scale, sizes = Scale.of(trial.ground), trial.ground.sizes
    model = new_himar(trial)
    tokens, captions = scale.tokens(trial.ground), trial.ground.captions()
    pivots = pivots_of(trial, scale)

    def loss(step: int) -> Tensor:
        chosen, generator = batch_of(trial, step, sizes.batch)
        rows = len(chosen)
        dense, dropped = masked_batch(rows, generator, DROPPED)
        count = min(PIVOTS, int(dense[0].sum()) * PIVOTS // TOKENS + 1)
        few = first_masked(torch.rand(rows, PIVOTS, generator=generator).argsort(dim=1), count)
        told = model.classes(captions[chosen], rows, dropped)
        draws = Draws(
            torch.randint(1000, (REPEATS * rows * PIVOTS,), generator=generator),
            torch.randn(REPEATS * rows * PIVOTS, CHANNELS, generator=generator),
            torch.randint(1000, (REPEATS * rows,), generator=generator),
            torch.randn(REPEATS * rows, TOKENS, CHANNELS, generator=generator),
        )
        masks = Masks(few, dense, torch.rand(rows, generator=generator) >= HANDED)
        return losses(model, pivots[chosen], tokens[chosen], masks, (told, told), draws).total

    course = Course(steps=sizes.steps(SHARE), rate=RATE, what=f"two phases, seed {trial.seed}")
    done = train(model, loss, course, trial.work, in_blocks)
    scenes, shown, kept = trial.ground.prompts(trial.seed), list[Tensor](), list[bool]()

    def made_by(told: Tensor, noise: PositionNoise) -> Tensor:
        watched = Committed()
        orders = shuffled_orders(len(told), (PIVOTS, TOKENS), trial.seed)
        found = sample(model, told, orders, noise, SETTINGS, watched)
        shown.append(found.pivots)
        kept.append(watched.kept and watched.agrees(found.tokens))
        return found.tokens

    made = drawn(trial, scenes, made_by)
    final = [layout_of(picture) for picture in scale.pictures(trial.ground, made)]
    early = [layout_of(picture) for picture in previews(trial, scale, torch.cat(shown))]
    agree = [a == b for a, b in zip(early, final, strict=True)]
    return {
        **scored(trial, scale, scenes, made),
        "kept": all(kept),
        "preview": float(np.mean(agree)),
        "training": done.seconds,
    }


class Committed:
    """Watches the second phase: whether tokens that were known stay what they were."""

    def __init__(self) -> None:
        self.kept, self.known, self.tokens = True, torch.zeros(0, dtype=torch.bool), torch.zeros(0)

    def __call__(self, now: Entered) -> None:
        if now.phase != DENSE:
            return
        self.kept = self.kept and (not len(self.tokens) or self.agrees(now.tokens))
        self.known, self.tokens = ~now.mask, now.tokens.clone()

    def agrees(self, tokens: Tensor) -> bool:
        return bool(torch.equal(tokens[self.known], self.tokens[self.known]))


def one_phase(trial: Trial) -> Numbers:
    """The grid alone, in as many steps, by a head for single tokens."""
    model, seconds = trained_masked(trial, SHARE, "one phase")
    scale, scenes = Scale.of(trial.ground), trial.ground.prompts(trial.seed)

    def made_by(told: Tensor, noise: PositionNoise) -> Tensor:
        return sample_mar(model, told, orders_for(trial.seed, len(told)), noise, SINGLE)

    return {**scored(trial, scale, scenes, drawn(trial, scenes, made_by)), "training": seconds}


def judge(results: Results) -> list[Criterion]:
    two, one = results.values("two phases", "attributes"), results.values("one phase", "attributes")
    kept = holds(
        "(a) known tokens of the grid stay what they were",
        [bool(x) for x in results.values("two phases", "kept")],
    )
    best = max(sum(two), sum(one)) / len(two)
    what = "(b) accuracy of 8 + 4 steps against 12 of one phase, points"
    if best < LEAST:
        return [kept, not_applicable(what, f"neither passes an accuracy of {best:.2f}", central=True)]
    wrong = [[1 - x for x in results.values(arm, "count")] for arm in ("two phases", "one phase")]
    fewer = [100 * (1 - a / max(b, 1e-9)) for a, b in zip(*wrong, strict=True)]
    return [
        kept,
        at_least(what, [100 * (a - b) for a, b in zip(two, one, strict=True)], 3.0),
        at_least("(d) pictures with a wrong number of shapes, % fewer", fewer, 20.0),
        at_least(
            "(e) previews that show what the picture shows", results.values("two phases", "preview"), 0.8
        ),
    ]


EXPERIMENT = Experiment(
    name="himar",
    what="pivots of half the size and then the grid, beside the grid alone in equally many steps",
    arms={"two phases": two_phases, "one phase": one_phase},
    judge=judge,
    minutes=25,
    scaled="4 x 4 pivots and 8 x 8 tokens of 8 channels, told by captions; a backbone of an eighth of a "
    "base model's inner size, 720 steps; no guidance, 19 denoising steps; a model that is handed "
    "drawn pivots in place of hidden states (c) is not built",
    shown=("attributes", "all", "count", FRECHET, "preview"),
)
