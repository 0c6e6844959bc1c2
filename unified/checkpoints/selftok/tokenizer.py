"""Selftok's tokenizer behind the interface of all visual tokenizers, to be trained and used: images of one
size as lines of codes ordered by diffusion time, decoded by diffusion.

Lines lie in the order in which they are generated, coarse first, which is the reverse of the network's own
array. The latent is the image itself, `fold` x `fold` pixels folded into channels. Decoding starts from one
fixed noise, so an image is a function of its codes. Training compares velocities, not pixels; dead codes take
the place of random vectors. Source: arXiv 2505.07538. Simplified: no autoencoder around it, no guidance, no
one-step renderer. Tests: tests/tokenizers/test_kinds.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.checkpoints.selftok.network import Selftok, SelftokConfig, sample, velocity_loss
from unified.checkpoints.selftok.quantiser import TrainingConfig
from unified.checkpoints.selftok.schedule import STEPS, Schedule, noised, visible
from unified.tokenizers.kinds import Kind, Wanted
from unified.tokenizers.line import LineTokenizer, check_line, check_side
from unified.tokenizers.resize import Shape
from unified.tokenizers.visual import START, Moment, TrainingPass

ENDS = (200, 400, 600, 800, 1000)
SHARES = (192, 184, 72, 48, 16)  # of 512 codes, by stage of time from clean to noise, as published


@dataclass(frozen=True, kw_only=True)
class SelftokTokenizerConfig:
    """`side` of the images in pixels, `fold` a side of a folded square; `ends` and `counts`: stages of time
    and the codes that each adds; `steps` of decoding; codes used less than `dead` times a step (on average)
    are replaced."""

    network: SelftokConfig = field(default_factory=SelftokConfig)
    side: int = 16
    fold: int = 2
    ends: tuple[int, ...] = ENDS
    counts: tuple[int, ...] = (24, 23, 9, 6, 2)
    steps: int = 10
    dead: float = 0.2
    quantiser: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        channels, side = self.network.latent
        if channels != 3 * self.fold**2 or self.side != side * self.fold:
            raise ValueError(
                f"images of {self.side} pixels, folded by {self.fold}, are latents of {3 * self.fold**2} "
                f"channels and {self.side / self.fold:g} cells a side, got {channels} and {side}"
            )
        if side % 2 or side % self.network.patch:
            raise ValueError(f"latents of {side} cells a side cannot be cut into patches")
        if Schedule(self.ends, self.counts).codes != self.network.codes:
            raise ValueError(f"counts must add up to {self.network.codes} codes, got {self.counts}")
        if self.steps < 1 or self.dead < 0:
            raise ValueError("steps must be at least 1, and dead not negative")


class SelftokTokenizer(LineTokenizer):
    """Images [B, 3, side, side] in [-1, 1] <-> ids [B, line], coarse first. The decoder's output is
    not clamped."""

    def __init__(self, config: SelftokTokenizerConfig) -> None:
        super().__init__()
        self.config, self.network = config, Selftok(config.network)
        self.schedule = Schedule(config.ends, config.counts)
        self.side = self.stride = config.side
        self.line = config.network.codes
        self.codes, self.dim = config.network.codebook

    def codebook(self) -> Tensor:
        """The rows [codes, dim], of length 1."""
        return self.network.encoder.quantizer._codebook.embed[0]

    @torch.no_grad()
    def encode(self, images: Tensor, shapes: Sequence[Shape] | None = None) -> list[Tensor]:
        """Ids [B, line] of the only map."""
        check_side(images, self.side)
        check_line(shapes, self.line)
        return [self.network.encoder.encode(self.folded(images.to(self._dtype()))).flip(1)]

    def folded(self, images: Tensor) -> Tensor:
        """The latent [B, 3 * fold^2, side / fold, side / fold]."""
        return F.pixel_unshuffle(images, self.config.fold)

    def training_pass(
        self, images: Tensor, shapes: Sequence[Shape], entropy: float = 0.0, moment: Moment = START
    ) -> TrainingPass:
        """Times are logit-normal. It changes the codebook, which follows the vectors by averages. ValueError
        for an entropy term: the quantiser has its own."""
        check_side(images, self.side)
        if entropy:
            raise ValueError("the quantiser has a diversity term of its own: set entropy to 0")
        encoder, latent = self.network.encoder, self.folded(images)
        queries = encoder.queries(latent).float()
        vectors = encoder.quantizer.vectors(queries).detach()
        everyones = moment.gather(vectors.flatten(0, 1))
        revived = encoder.quantizer._codebook.revive(self.config.dead, everyones, moment.shared)
        step = encoder.quantizer.step(queries, self.config.quantiser)
        tokens = encoder.final_layer_norm3(step.output)
        times, noise = _times(latent, moment), _noise(latent, moment)
        seen = visible(self.schedule.index(STEPS * times), self.line)
        given = tokens * seen[..., None]
        velocity = self.network.model(noised(latent, noise, times), times, given, seen).float()
        diffusion = velocity_loss(velocity, latent, noise).mean()
        terms = {"diffusion": diffusion, "commit": step.commit, "revived": torch.tensor(float(revived))}
        ids = [step.ids.flip(1)]
        return TrainingPass([], ids, [vectors.flatten(0, 1)], diffusion + step.loss, terms)

    def settle(self) -> None:
        """After the buffers of several processes were averaged."""
        self.network.encoder.quantizer._codebook.settle()

    @torch.no_grad()
    def _decoded(self, vectors: Tensor) -> Tensor:
        """Vectors [B, line, dim], coarse first."""
        encoder, (channels, side) = self.network.encoder, self.config.network.latent
        project = encoder.quantizer.project_out
        tokens = encoder.final_layer_norm3(project(vectors.flip(1).to(self._dtype())))
        fixed = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0))
        noise = fixed.to(tokens).expand(len(tokens), -1, -1, -1)
        latent = sample(self.network.model, noise, tokens, self.schedule, self.config.steps)
        return F.pixel_shuffle(latent, self.config.fold)

    def _dtype(self) -> torch.dtype:
        return self.network.encoder.query_tokens.dtype


def _times(latent: Tensor, moment: Moment) -> Tensor:
    """[B] in (0, 1), the logit of which is standard normal."""
    return torch.randn(len(latent), generator=moment.noise).sigmoid().to(latent)


def _noise(latent: Tensor, moment: Moment) -> Tensor:
    return torch.randn(latent.shape, generator=moment.noise).to(latent)


def spread(tokens: int) -> tuple[int, ...]:
    """How many of `tokens` codes each stage adds, in the published shares, at least one. ValueError for fewer
    tokens than stages."""
    if tokens < len(SHARES):
        raise ValueError(f"an image needs at least {len(SHARES)} codes, got {tokens}")
    counts = [max(1, tokens * share // sum(SHARES)) for share in SHARES]
    counts[0] += tokens - sum(counts)
    return tuple(counts)


def _small(wanted: Wanted) -> SelftokTokenizerConfig:
    """Folded squares of half a stride: the decoder cuts 2 x 2 of them."""
    fold = max(1, wanted.stride // 2)
    side, width = wanted.size // fold, 2 * wanted.width
    heads = max(1, width // 32)
    network = SelftokConfig(
        latent=(3 * fold**2, side),
        codes=wanted.tokens,
        codebook=(wanted.codes, wanted.dim),
        streams=((width, heads), (width, heads)),
        context=width,
        decoder=(2 * width, heads, side // 2),
        depths=(2, 3),
    )
    groups = min(TrainingConfig().groups, wanted.tokens)
    return SelftokTokenizerConfig(
        network=network,
        side=wanted.size,
        fold=fold,
        counts=spread(wanted.tokens),
        quantiser=TrainingConfig(groups=groups),
    )


KIND = Kind(config=SelftokTokenizerConfig, build=SelftokTokenizer, small=_small)
