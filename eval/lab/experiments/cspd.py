"""CSPD (arXiv 2411.11925): does a small model's draft of continuous tokens spare passes of a larger one, does
it matter that both denoise the same noise, and which law is drawn from?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from scipy.stats import ks_2samp
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
)
from unified.eval.lab.ground.latents import (
    CHANNELS,
    NO_WORDS,
    TOKENS,
    CaptionEmbedding,
    Scale,
    batch_of,
    drawn,
    in_blocks,
    scored,
)
from unified.eval.lab.ground.training import Course, train

from unified.decoding.noise import PositionNoise
from unified.decoding.strategies.gaussian import verify_values
from unified.heads.diffusion import DiffusionConfig, DiffusionHead
from unified.heads.distribution import Gaussian
from unified.heads.transformer_layers import Block, Seen

SHARE, RATE = 1.2, 3e-3
PARTS = {"target": (0.5, 0.5), "draft": (0.25, 0.25)}  # of a base model's width and layers
SAMPLING = (1,) * 19 + (0,)  # diffusion steps that are kept: 19
GAMMA, RELAXED = 8, 42.0
DROPPED = 0.1  # of training captions
DIMENSIONS, SHIFT, TRIALED = 16, 1.0, 400  # of the test on Gaussians; samples for each prompt of a run


# Models -----------------------------------------------------------------------------------------------------


class Raster(nn.Module):
    """Tokens one after the other: hidden states of a causal transformer, each of which a diffusion head turns
    into the next token."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.told = CaptionEmbedding(width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, TOKENS, width))
        self.layers = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = DiffusionHead(
            width, CHANNELS, DiffusionConfig(inner=2 * width, sampling=SAMPLING, repeats=2)
        )

    def forward(self, captions: Tensor, tokens: Tensor) -> Tensor:
        """captions [B, 9], tokens [B, 64, C] -> [B, 64, D]: of each place, given the tokens before it."""
        before = self.head.embed(tokens[:, :-1])
        x = torch.cat([torch.zeros_like(before[:, :1]), before], dim=1)
        x = x + self.positions + self.told(captions)[:, None]
        seen = Seen(mask=torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril())
        for layer in self.layers:
            x = layer(x, None, seen)
        found: Tensor = self.norm(x)
        return found


def trained(trial: Trial, name: str, scale: Scale) -> Raster:
    sizes = trial.ground.sizes
    size = sizes.model.part(*PARTS[name])
    torch.manual_seed(trial.seed)
    model = Raster(size.width, size.layers, size.heads)
    tokens, captions = scale.tokens(trial.ground), trial.ground.captions()

    def loss(step: int) -> Tensor:
        chosen, generator = batch_of(trial, step, sizes.batch)
        given = captions[chosen]
        dropped = torch.rand(len(given), 1, generator=generator) < DROPPED
        hidden = model(given.masked_fill(dropped, NO_WORDS), tokens[chosen])
        return model.head.loss(hidden.flatten(0, 1), tokens[chosen].flatten(0, 1), generator).mean()

    course = Course(steps=sizes.steps(SHARE), rate=RATE, what=f"{name}, seed {trial.seed}")
    train(model, loss, course, trial.work / name, in_blocks)
    return model.requires_grad_(False)


# Decoding ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noises:
    """`path` [B, 64, K, C] of the denoising steps, `last` [B, 64, C] of the one that is told to a rule."""

    path: Tensor
    last: Tensor

    @staticmethod
    def of(noise: PositionNoise, rows: int, purpose: str) -> Noises:
        places = torch.arange(TOKENS).expand(rows, -1)
        steps = sum(SAMPLING)
        path = noise.normal(places, steps * CHANNELS, purpose).float().unflatten(-1, (steps, CHANNELS))
        return Noises(path, noise.normal(places, CHANNELS, f"{purpose} last").float())


def law_at(model: Raster, hidden: Tensor, path: Tensor) -> Gaussian:
    """Of hidden states [M, D] and their noise [M, K, C]: the law of the last denoising step."""
    law = model.head.distribution(hidden)
    *_, before, mean = law.trajectory(path, 1.0)
    *_, smallest, largest = law.schedule.table[0].tolist()
    place = law.predicted(before, int(law.schedule.steps[0]))[1]
    return Gaussian(mean, 0.5 * (smallest + (place + 1) / 2 * (largest - smallest)))


def values_of(law: Gaussian, last: Tensor) -> Tensor:
    return law.mean + law.log_std.exp() * last


@torch.no_grad()
def plain(model: Raster, captions: Tensor, noises: Noises) -> Tensor:
    """Tokens [B, 64, C], one pass each."""
    tokens = torch.zeros(len(captions), TOKENS, CHANNELS)
    for place in range(TOKENS):
        hidden = model(captions, tokens)[:, place]
        law = law_at(model, hidden, noises.path[:, place])
        tokens[:, place] = values_of(law, noises.last[:, place])
    return tokens


@dataclass
class Counts:
    """Of all rows: passes of the target, and drafted tokens that were judged, accepted and capped."""

    passes: float = 0
    judged: float = 0
    accepted: float = 0
    capped: float = 0


@dataclass(frozen=True)
class Speculation:
    """Rounds of GAMMA drafted tokens and a pass of the target over them; a row stands where its own last
    round ended. Everything after the first rejected token is drafted anew."""

    draft: Raster
    target: Raster
    own: Noises
    other: Noises  # of the draft: the same, or not
    noise: PositionNoise
    temperature: float
    counts: Counts

    @torch.no_grad()
    def __call__(self, captions: Tensor) -> Tensor:
        """Tokens [B, 64, C]."""
        rows = torch.arange(len(captions))
        tokens = torch.zeros(len(captions), TOKENS, CHANNELS)
        known = torch.zeros(len(captions), dtype=torch.long)
        while bool((known < TOKENS).any()):
            places = (known[:, None] + torch.arange(GAMMA)).clamp(max=TOKENS - 1)  # [B, g]
            drafted, q = self.drafted(captions, tokens, places)
            hidden = self.target(captions, drafted)[rows[:, None], places]
            law = law_at(
                self.target, hidden.flatten(0, 1), self.own.path[rows[:, None], places].flatten(0, 1)
            )
            shape = (*places.shape, CHANNELS)
            p = Gaussian(law.mean.view(shape), law.log_std.view(shape))
            verdict = verify_values(
                p, q, drafted[rows[:, None], places], self.noise, places, temperature=self.temperature
            )
            for row in (known < TOKENS).nonzero()[:, 0].tolist():
                room = min(GAMMA, TOKENS - int(known[row]))
                agreed = verdict.accepted[row, :room].long().cumprod(0).sum()
                taken = min(int(agreed) + 1, room)
                tokens[row, known[row] : known[row] + taken] = verdict.values[row, :taken]
                known[row] += taken
                self.counts.passes += 1
                self.counts.judged += taken
                self.counts.accepted += int(agreed)
                self.counts.capped += int(verdict.capped[row, :taken].sum())
        return tokens

    def drafted(self, captions: Tensor, tokens: Tensor, places: Tensor) -> tuple[Tensor, Gaussian]:
        """Tokens [B, 64, C] with drafts at `places` [B, g], and their laws."""
        rows, work, laws = torch.arange(len(tokens)), tokens.clone(), []
        for place in places.unbind(dim=1):
            hidden = self.draft(captions, work)[rows, place]
            laws.append(law_at(self.draft, hidden, self.other.path[rows, place]))
            work[rows, place] = values_of(laws[-1], self.other.last[rows, place])
        means, log_stds = [x.mean for x in laws], [x.log_std for x in laws]
        return work, Gaussian(torch.stack(means, dim=1), torch.stack(log_stds, dim=1))


def everything(trial: Trial) -> Numbers:
    """A target and a draft for a seed; plain decoding of both, exact speculation with one noise and with two,
    and relaxed speculation."""
    scale = Scale.of(trial.ground)
    target, draft = (trained(trial, name, scale) for name in PARTS)
    count = max(2, trial.ground.sizes.prompts // 2)
    scenes = trial.ground.scenes("test", count, trial.seed * count)
    found: Numbers = {"gaussians": gaussians(trial), "attributes_of_true": true_accuracy(trial, scale)}
    kept: dict[str, Tensor] = {}
    for name, model in (("target", target), ("draft", draft)):
        kept[name] = drawn(trial, scenes, partial(plainly, model))
        found[name] = {**scored(trial, scale, scenes, kept[name]), "passes": float(TOKENS)}
    ways: dict[str, tuple[bool, float]] = {
        "aligned": (True, 1.0),
        "apart": (False, 1.0),
        "relaxed": (True, RELAXED),
    }
    for name, way in ways.items():
        counts = Counts()
        kept[name] = drawn(trial, scenes, partial(speculated, (draft, target), way, counts))
        found[name] = {
            **scored(trial, scale, scenes, kept[name]),
            "passes": counts.passes / count,
            "acceptance": counts.accepted / max(counts.judged, 1),
            "capped": counts.capped / max(counts.judged - counts.accepted, 1),
        }
    near: Any = {name: float((kept["relaxed"] - kept[name]).square().mean().sqrt()) for name in PARTS}
    return {**found, "relaxed_from": near}


def plainly(model: Raster, told: Tensor, noise: PositionNoise) -> Tensor:
    return plain(model, told, _own(noise, told))


def speculated(
    models: tuple[Raster, Raster],
    way: tuple[bool, float],
    counts: Counts,
    told: Tensor,
    noise: PositionNoise,
) -> Tensor:
    """By draft and target; `way`: whether both denoise the same noise, and the temperature of acceptance."""
    (draft, target), (aligned, temperature) = models, way
    own = _own(noise, told)
    other = own if aligned else Noises.of(noise, len(told), "draft")
    return Speculation(draft, target, own, other, noise, temperature, counts)(told)


def _own(noise: PositionNoise, told: Tensor) -> Noises:
    return Noises.of(noise, len(told), "value")


def true_accuracy(trial: Trial, scale: Scale) -> float:
    """Attribute accuracy of true pictures through the KL-VAE: what drawings can reach."""
    tokens = scale.tokens(trial.ground, "validation")
    scenes = trial.ground.scenes("validation", len(tokens))
    return scored(trial, scale, scenes, tokens)["attributes"]


def gaussians(trial: Trial) -> Numbers:
    """The exact rule on Gaussians that differ by a shift: acceptance beside 1 - total variation, and whether
    what is drawn follows the target along the shift (Kolmogorov and Smirnov)."""
    count = TRIALED * trial.ground.sizes.prompts
    generator = torch.Generator().manual_seed(trial.seed)
    shape = (1, count, DIMENSIONS)
    q = Gaussian(torch.zeros(shape), torch.zeros(shape))
    p = Gaussian(torch.full(shape, SHIFT / DIMENSIONS**0.5), torch.zeros(shape))
    drafted = torch.randn(shape, generator=generator)
    places = torch.arange(count)[None]
    verdict = verify_values(p, q, drafted, PositionNoise([trial.seed]), places)
    along = verdict.values[0].sum(dim=1) / DIMENSIONS**0.5 - SHIFT
    direct = torch.randn(count, generator=generator)
    overlap = math.erfc(SHIFT / (2 * 2**0.5))
    return {
        "off": abs(float(verdict.accepted.float().mean()) - overlap),
        "p_value": float(ks_2samp(along.numpy(), direct.numpy()).pvalue),
        "capped": float(verdict.capped.float().mean()),
    }


def judge(results: Results) -> list[Criterion]:
    def values(name: str) -> list[float]:
        return results.values("all", name)

    aligned = zip(values("aligned/acceptance"), values("apart/acceptance"), strict=True)
    passes = [a / TOKENS for a in values("aligned/passes")]
    pairs = zip(values("target/attributes"), values("aligned/attributes"), strict=True)
    near = zip(values("relaxed_from/draft"), values("relaxed_from/target"), strict=True)
    return [
        at_most(
            "(a) acceptance of Gaussians differs from 1 - total variation by", values("gaussians/off"), 0.01
        ),
        holds(
            "(a) what is drawn of Gaussians follows the target",
            [x > 0.01 for x in values("gaussians/p_value")],
        ),
        at_most(
            "(b) residuals for which no proposal was kept, %",
            [100 * x for x in values("aligned/capped")],
            0.1,
        ),
        at_least(
            "(c) one noise for both raises acceptance, times", [a / max(b, 1e-3) for a, b in aligned], 2.0
        ),
        at_most("(d) accuracy differs from the target's, points", [100 * abs(a - b) for a, b in pairs], 1.0),
        at_most("(e) passes of the target beside one a token", passes, 0.7),
        holds("(f) relaxed acceptance is nearer to the draft than to the target", [a < b for a, b in near]),
    ]


EXPERIMENT = Experiment(
    name="cspd",
    what="drafts of continuous tokens verified by the law of the last denoising step, exactly and relaxed",
    arms={"all": everything},
    judge=judge,
    minutes=27,
    scaled="8 x 8 tokens of 8 channels in raster order, each given those before it, so that what is drawn "
    "after a rejection is drawn anew; 19 denoising steps, the last one with noise; models of an "
    "eighth and a seventieth of a base model's inner size, 720 steps; passes without a cache, which "
    "are counted, not timed",
    shown=("attributes", "all", "passes", "acceptance", "capped"),
)
