"""What LARP is trained with: the prior's rounds of scheduled sampling, and a discriminator of clips with its
losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.larp.network import LARP, ClipPatches, Patch, Stack, clip_places


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How often inputs of later rounds are sampled: rises to `most` within the share `peak` of all steps."""

    rounds: int = 2
    most: float = 0.5
    peak: float = 0.3
    temperature: float = 1.0

    def ratio(self, step: int, steps: int) -> float:
        return min(step / (steps * self.peak) * self.most, self.most)


@dataclass(frozen=True, eq=False)
class PriorScores:
    """`loss`: cross-entropy, mean over rounds; of the first round the `logits` [B, N - 1, V] of codes 2 to N,
    and the shares of codes that are the likeliest, or among five, in percent."""

    loss: Tensor
    logits: Tensor
    top1: Tensor
    top5: Tensor


def prior_logits(tokenizer: LARP, vectors: Tensor, temperature: float) -> Tensor:
    """The codebook counts as a constant."""
    rows = tokenizer.bottleneck.regularizer.rows().detach()
    logits: Tensor = tokenizer.prior_model(vectors)[:, 1:] @ rows.T / temperature
    return logits


def prior_scores(
    tokenizer: LARP,
    vectors: Tensor,
    ids: Tensor,
    sampling: Sampling,
    replaced: tuple[Tensor, Tensor] | None = None,
) -> PriorScores:
    """`vectors` [B, N, d]: straight-through codes of `ids` [B, N]; `replaced`: for later rounds which codes,
    a mask [B, N - 1, 1], and by which ids, [B, N - 1] or [rounds - 1, B, N - 1]. ValueError where they are
    missing."""
    if sampling.rounds > 1 and replaced is None:
        raise ValueError(f"{sampling.rounds} rounds need a mask and drawn ids")
    targets = ids[:, 1:]
    rounds = [prior_logits(tokenizer, vectors, sampling.temperature)]
    for number in range(sampling.rounds - 1):
        assert replaced is not None
        rounds.append(_later(tokenizer, vectors, replaced, number, sampling.temperature))
    losses = [F.cross_entropy(logits.flatten(0, 1), targets.flatten()) for logits in rounds]
    first = rounds[0]
    best = first.topk(min(5, first.shape[-1]), dim=-1).indices == targets[..., None]
    return PriorScores(
        torch.stack(losses).mean(),
        first,
        100 * best[..., 0].float().mean(),
        100 * best.any(dim=-1).float().mean(),
    )


def _later(
    tokenizer: LARP, vectors: Tensor, replaced: tuple[Tensor, Tensor], number: int, temperature: float
) -> Tensor:
    """A round whose inputs are partly drawn, always mixed with the true vectors."""
    mask, drawn = replaced
    rows = tokenizer.bottleneck.regularizer.rows().detach()
    codes = F.embedding(drawn[number] if drawn.dim() == 3 else drawn, rows)
    mixed = torch.cat([vectors[:, :1], torch.where(mask, codes, vectors[:, 1:])], dim=1)
    return prior_logits(tokenizer, mixed, temperature)


def perplexity(ids: Tensor, codes: int) -> Tensor:
    """Of the distribution of ids, in [1, codes]."""
    shares = F.one_hot(ids.flatten(), codes).float().mean(dim=0)
    return (-(shares * (shares + 1e-10).log()).sum()).exp()


# The discriminator ------------------------------------------------------------------------------------------


class Discriminator(nn.Module):
    """Video in [0, 1] -> one logit [B, 1]."""

    encoder_pos_embed: Tensor

    def __init__(self, patch: Patch, grid: Patch, width: int, *, depth: int, heads: int) -> None:
        super().__init__()
        self.x_embedder = ClipPatches(patch, width)
        self.register_buffer("encoder_pos_embed", clip_places(grid, width))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.transformer_encoder = Stack(depth, width, heads)
        self.norm_final = nn.LayerNorm(width, eps=1e-6)
        self.fc = nn.Linear(width, 1)

    def forward(self, video: Tensor) -> Tensor:
        patches = self.x_embedder(video) + self.encoder_pos_embed
        x = torch.cat([self.cls_token.expand(len(video), -1, -1), patches], dim=1)
        out: Tensor = self.fc(self.norm_final(self.transformer_encoder(x)[:, 0]))
        return out


def non_saturating_generator(fake: Tensor) -> Tensor:
    return F.softplus(-fake).mean()


def non_saturating_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """The sum, not half of it."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def smoothed_discriminator(real: Tensor, fake: Tensor, noise: tuple[Tensor, Tensor]) -> Tensor:
    """The same with soft targets near 1 and 0, moved by `noise`, one value for each logit."""
    target = (1 - 0.15 * noise[0].abs()).clamp(min=0.7)
    other = (0.15 * noise[1].abs()).clamp(max=0.3)
    entropy = F.binary_cross_entropy_with_logits
    return entropy(real, target) + entropy(fake, other)


@dataclass(frozen=True)
class LeCam:
    """Running means of real and fake logits, to which both are kept near. The published trainer applies the
    weight twice: `penalty` is weighted once, a discriminator's total has it times `weight` again."""

    real: float
    fake: float
    weight: float = 0.01
    decay: float = 0.999

    def penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        above, below = F.relu(real.mean() - self.fake), F.relu(self.real - fake.mean())
        return self.weight * (above.square() + below.square())

    def updated(self, real: Tensor, fake: Tensor) -> LeCam:
        means = [
            self.decay * old + (1 - self.decay) * float(logits.mean())
            for old, logits in ((self.real, real), (self.fake, fake))
        ]
        return LeCam(means[0], means[1], self.weight, self.decay)
