"""Selftok's quantiser: codes of unit length that follow the vectors by exponential averages, kept apart by
the entropy of their use at each place of the sequence.

Quirk of the release, kept: the codebook is updated in place between forward and backward, so that the
gradient of the similarities uses the updated codes while their values use the old ones. Dead codes are
replaced where `revive` is called.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 64  # of places for the second entropy; fewer places than that make it NaN
SHARPNESS = 10.0  # of similarities in the softmax
FIRST_DECAY = 0.3
EPS = 1e-5


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """`decay` of averages; weights of commitment and diversity; `mixed`: share of the averaged use in the
    entropy; `limits`: use of the codebook below which diversity counts fully, and from which not at all;
    `groups` of places for the second entropy (published: 64)."""

    decay: float = 0.99
    commit: float = 1.0
    diversity: float = 1.0
    mixed: float = 0.8
    limits: tuple[float, float] = (0.1, 0.3)
    groups: int = GROUPS


class Averages(nn.Module):
    """The codebook and its running state, under the published names; `embed` [1, V, d]."""

    embed: Tensor
    embed_avg: Tensor
    cluster_size: Tensor
    timestep_p_over_c: Tensor
    tpc_initted: Tensor

    def __init__(self, places: int, codes: int, dim: int) -> None:
        super().__init__()
        embed = F.normalize(torch.randn(1, codes, dim), dim=-1)
        self.register_buffer("initted", torch.ones(1))
        self.register_buffer("tpc_initted", torch.zeros(1))
        self.register_buffer("cluster_size", torch.ones(1, codes))
        self.register_buffer("cluster_size_wo_react", torch.ones(1, codes))
        self.register_buffer("embed_avg", embed.clone())
        self.register_buffer("embed", embed)
        self.register_buffer("timestep_p_over_c", torch.full((1, places, codes), 1 / codes))

    @torch.no_grad()
    def update(self, ids: Tensor, vectors: Tensor, decay: float) -> Tensor:
        """After a step with `ids` [B, K] of `vectors` [B, K, d]; the squared change of the codes."""
        chosen = F.one_hot(ids, self.embed.shape[1]).to(vectors.dtype)  # [B, K, V]
        rate = decay if self.tpc_initted.item() else FIRST_DECAY
        self.timestep_p_over_c += (1 - rate) * (chosen.mean(dim=0) - self.timestep_p_over_c)
        self.tpc_initted.fill_(1)
        self.cluster_size.mul_(decay).add_((1 - decay) * chosen.sum(dim=(0, 1)))
        sums = torch.einsum("bkv,bkd->vd", chosen, vectors)
        self.embed_avg.mul_(decay).add_((1 - decay) * sums)
        before = self.embed.clone()
        self.settle()
        return (self.embed - before).square().sum()

    @torch.no_grad()
    def settle(self) -> None:
        """The codes from their averages."""
        total, codes = self.cluster_size.sum(), self.embed.shape[1]
        smooth = (self.cluster_size + EPS) / (total + codes * EPS) * total
        self.embed.copy_(F.normalize(self.embed_avg / smooth[..., None], dim=-1))

    @torch.no_grad()
    def revive(self, least: float, vectors: Tensor, generator: torch.Generator | None) -> int:
        """Codes whose average count lies below `least` take the place of random ones of unit vectors [N, d];
        how many did."""
        dead = (self.cluster_size[0] < least).nonzero()[:, 0]
        chosen = torch.randint(len(vectors), (len(dead),), generator=generator).to(vectors.device)
        rows = vectors[chosen].to(self.embed)
        self.embed[0, dead], self.embed_avg[0, dead] = rows, rows
        self.cluster_size[0, dead] = 1.0
        return len(dead)


@dataclass(frozen=True, eq=False)
class QuantiserStep:
    """Of one training step: `output` [B, K, context], `loss` and its parts, and the squared change of the
    codes."""

    ids: Tensor
    output: Tensor
    loss: Tensor
    commit: Tensor
    place_entropy: Tensor
    certainty: Tensor  # mean entropy of the soft assignment
    perplexity: Tensor  # mean over places of that of the averaged use
    change: Tensor


class Quantiser(nn.Module):
    """Query vectors [B, K, D] -> ids [B, K] and code vectors of the context's width."""

    def __init__(self, width: int, places: int, codebook: tuple[int, int], context: int) -> None:
        super().__init__()
        codes, dim = codebook
        self.project_in, self.project_out = nn.Linear(width, dim), nn.Linear(dim, context)
        self._codebook = Averages(places, codes, dim)
        self.register_buffer("continuous", torch.zeros(1))
        self.register_buffer("count", torch.zeros(1, codes))
        self.register_buffer("steps", torch.zeros(1))

    def vectors(self, queries: Tensor) -> Tensor:
        return F.normalize(self.project_in(queries), dim=-1)

    def ids(self, vectors: Tensor) -> Tensor:
        return (vectors @ self._codebook.embed[0].T).argmax(dim=-1)

    def entries(self, ids: Tensor) -> Tensor:
        """Ids [B, K] -> [B, K, context]."""
        out: Tensor = self.project_out(F.embedding(ids, self._codebook.embed[0]))
        return out

    def step(self, queries: Tensor, config: TrainingConfig) -> QuantiserStep:
        """A training step, which changes the codebook. ValueError for fewer places than groups."""
        if queries.shape[1] < config.groups:
            raise ValueError(
                f"training needs at least {config.groups} codes an image, got {queries.shape[1]}"
            )
        vectors, book = self.vectors(queries), self._codebook
        before = book.embed[0].clone()
        ids = self.ids(vectors)
        codes = F.embedding(ids, before)
        change = book.update(ids, vectors.detach(), config.decay)
        similar = vectors @ book.embed[0].clone().T
        similar = similar + (vectors @ before.T - similar).detach()
        soft = (SHARPNESS * similar).softmax(dim=-1)  # [B, K, V]
        use = book.timestep_p_over_c[0].clone()
        commit = (codes - vectors).square().mean()
        mixed = config.mixed * use + (1 - config.mixed) * soft.mean(dim=0)
        entropy = _entropy(mixed)
        grouped = torch.stack([part.mean(dim=0) for part in mixed.tensor_split(config.groups)])
        perplexity = (-(use * (use + 1e-10).log()).sum(dim=-1)).exp().mean()
        weight = diversity_weight(float(perplexity) / len(before), config.limits)
        diversity = weight * 0.5 * (entropy + _entropy(grouped))
        return QuantiserStep(
            ids,
            self.project_out(vectors + (codes - vectors).detach()),
            config.commit * commit - config.diversity * diversity,
            commit,
            entropy,
            _entropy(soft),
            perplexity,
            change,
        )


def _entropy(shares: Tensor) -> Tensor:
    """Of distributions [..., V], mean."""
    return -(shares * shares.log()).sum(dim=-1).mean()


def diversity_weight(use: float, limits: tuple[float, float]) -> float:
    """0.5 while less than `limits[0]` of the codebook is in use, falling to 0 at `limits[1]`."""
    low, high = limits
    return 0.5 if use < low else max(0.5 - 0.5 * (use - low) / (high - low), 0.0)
