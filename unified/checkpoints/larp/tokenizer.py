"""LARP's video tokenizer behind the interface of all visual tokenizers, to be trained and used: clips of one
length and size as lines of codes.

Training draws codes from the stochastic quantiser; encoding takes the likeliest. The prior is trained along,
by rounds of scheduled sampling, and its loss reaches the encoder through its inputs. Its learning rate is a
multiple of the tokenizer's (`prior_rate`; published: 50 at 1e-4). Watch perplexity beside the prior's loss: a
collapsed code pleases the prior. Source: arXiv 2410.21264. Tests: tests/tokenizers/test_kinds.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unified.checkpoints.larp.network import (
    LARP,
    LARPConfig,
    PriorConfig,
    StochasticQuantised,
    draw,
    initialise,
)
from unified.checkpoints.larp.training import PriorScores, Sampling, prior_logits, prior_scores
from unified.tokenizers.kinds import Kind, Wanted
from unified.tokenizers.line import LineTokenizer, check_line, check_side
from unified.tokenizers.resize import Shape
from unified.tokenizers.visual import START, Book, Moment, TrainingPass


@dataclass(frozen=True, kw_only=True)
class LARPTokenizerConfig:
    """`temperature` of the draws; weights of the quantiser's loss (its commitment counts `commitment` in it)
    and of the prior's; `prior_rate`: factor on the prior's learning rate; `rounds` of scheduled sampling."""

    network: LARPConfig = field(default_factory=LARPConfig)
    temperature: float = 0.03
    quantiser: float = 0.1
    commitment: float = 0.25
    prior: float = 0.06
    prior_rate: float = 5.0
    rounds: int = 2

    def __post_init__(self) -> None:
        if min(self.quantiser, self.commitment, self.prior) < 0 or self.rounds < 1:
            raise ValueError("weights must not be negative, and rounds be at least 1")
        if self.temperature <= 0 or self.prior_rate <= 0:
            raise ValueError("temperature and prior_rate must be positive")


class LARPTokenizer(LineTokenizer):
    """Clips [B, 3, frames, side, side] in [-1, 1] <-> ids [B, line]. The decoder's output is not clamped."""

    def __init__(self, config: LARPTokenizerConfig) -> None:
        super().__init__()
        self.config, self.network = config, LARP(config.network)
        initialise(self.network)
        self.frames, self.side = config.network.clip
        self.stride, self.line = self.side, config.network.tokens
        self.codes, self.dim = config.network.codebook

    def codebook(self) -> Tensor:
        """The rows [codes, dim], of length 1."""
        return self.network.bottleneck.regularizer.rows()

    @torch.no_grad()
    def encode(self, images: Tensor, shapes: Sequence[Shape] | None = None) -> list[Tensor]:
        """The likeliest ids [B, line] of clips."""
        check_side(images, self.side, self.frames)
        check_line(shapes, self.line)
        return [self._quantised(self._projected(images.to(self._dtype()))).ids]

    def books(self) -> list[Book]:
        return [Book(self.network.bottleneck.regularizer.embedding.weight)]

    def learning_rates(self) -> dict[str, float]:
        """Factors on the learning rate, by the first letters of the names of parameters."""
        return {"network.prior_model.": self.config.prior_rate}

    def training_pass(
        self, images: Tensor, shapes: Sequence[Shape], entropy: float = 0.0, moment: Moment = START
    ) -> TrainingPass:
        """Codes are drawn with `moment.noise`. ValueError for an entropy term."""
        check_side(images, self.side, self.frames)
        if entropy:
            raise ValueError("the stochastic quantiser has no entropy term: set entropy to 0")
        projected = self._projected(images).float()
        likely = self._quantised(projected)
        found = self._quantised(projected, _drawn(likely.probabilities, moment.noise))
        tie = found.codebook_loss + self.config.commitment * found.commit_loss
        loss, terms = self.config.quantiser * tie, {"tie": tie}
        if self.config.prior and self.line > 1:
            scores = self._prior(found, moment)
            loss = loss + self.config.prior * scores.loss
            terms |= {"prior": scores.loss, "prior_top1": scores.top1, "prior_top5": scores.top5}
        candidates = [projected.detach().flatten(0, 1)]
        return TrainingPass([self._decoded(found.output)], [found.ids], candidates, loss, terms)

    def _prior(self, found: StochasticQuantised, moment: Moment) -> PriorScores:
        sampling = Sampling(rounds=self.config.rounds)
        replaced = None
        if sampling.rounds > 1:
            with torch.no_grad():
                logits = prior_logits(self.network, found.output, sampling.temperature)
                ids = _drawn(logits.softmax(dim=-1), moment.noise)
            ratio = sampling.ratio(moment.step, moment.steps)
            chance = torch.rand(len(ids), self.line - 1, 1, generator=moment.noise).to(ids.device)
            replaced = (chance < ratio, ids)
        return prior_scores(self.network, found.output, found.ids, sampling, replaced)

    def _projected(self, clips: Tensor) -> Tensor:
        out: Tensor = self.network.bottleneck.in_linear(self.network.encoded((clips + 1) / 2))
        return out

    def _quantised(self, projected: Tensor, ids: Tensor | None = None) -> StochasticQuantised:
        return self.network.bottleneck.quantise(projected, self.config.temperature, ids)

    def _decoded(self, vectors: Tensor) -> Tensor:
        return 2 * self.network.decode_vectors(vectors.to(self._dtype())) - 1

    def _dtype(self) -> torch.dtype:
        return self.network.bottleneck.in_linear.weight.dtype


def _drawn(probabilities: Tensor, noise: torch.Generator | None) -> Tensor:
    """On the CPU, where the generator is."""
    return draw(probabilities.detach().cpu(), noise).to(probabilities.device)


def of_network(network: LARP) -> LARPTokenizer:
    """A tokenizer around a published network."""
    tokenizer = LARPTokenizer(LARPTokenizerConfig(network=network.config))
    tokenizer.network = network
    return tokenizer


def _small(wanted: Wanted) -> LARPTokenizerConfig:
    """Patches of 2 frames and of the stride. ValueError for an odd number of frames."""
    width = 4 * wanted.width
    heads = max(1, width // 32)
    prior = PriorConfig(width=2 * wanted.width, heads=max(1, wanted.width // 16), longest=wanted.tokens)
    network = LARPConfig(
        clip=(wanted.frames, wanted.size),
        patch=(2 if wanted.frames > 1 else 1, wanted.stride),
        tokens=wanted.tokens,
        width=width,
        heads=heads,
        codebook=(wanted.codes, wanted.dim),
        prior=prior,
    )
    return LARPTokenizerConfig(network=network)


KIND = Kind(
    config=LARPTokenizerConfig,
    build=LARPTokenizer,
    small=_small,
    pixels="l1",
    restarts=True,
    clips=True,
)
