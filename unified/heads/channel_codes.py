"""Vectors channel by channel: a small causal transformer over the quantised channels of a hidden state's
vector.

The likelihood of the quantised vector is exact, and only softmaxes over the levels of one scalar are
needed. Guidance acts on hidden states. Source: Wang et al., TokenBridge, arXiv 2503.16430
(YuqingWang1029/TokenBridge, MIT), whose parameter names the predictor has. Different from the release,
unless asked for: sampling starts as training does, so that what is drawn has the likelihood that is scored;
keys and values are cached. Tests: tests/unified/heads/test_channel_codes.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from unified.finite import check_values
from unified.heads.distribution import Drawn, check_continuous
from unified.heads.transformer_layers import (
    Block,
    BlockParts,
    Modulation,
    Seen,
    bare_layer_norm,
    layer_norm,
    modulated,
    modulation_layer,
    stores_for,
)
from unified.tokenizers.scalar_quantiser import ScalarQuantiser

if TYPE_CHECKING:
    from unified.decoding.noise import Noise
    from unified.decoding.sampling import Sampler

PARTS = BlockParts(head_norm=layer_norm, modulated=True)


@dataclass(frozen=True, kw_only=True)
class ChannelConfig:
    """`inner`, `depth`, `heads`: width, blocks and attention heads of the predictor; `bits` of a scalar,
    whose values lie within `range`. Released: 1024, 4 or 6, 8; 6 bits."""

    inner: int = 32
    depth: int = 2
    heads: int = 4
    bits: int = 6
    range: float = 5.0

    def __post_init__(self) -> None:
        if min(self.inner, self.depth, self.heads, self.bits) < 1 or self.inner % self.heads:
            raise ValueError(
                "a channel head needs inner, depth, heads and bits of at least 1 and an inner width that "
                f"heads divide, got {self.inner}, {self.depth}, {self.heads} and {self.bits}"
            )


class FinalNorm(nn.Module):
    """A layer norm scaled and shifted by a condition; here the scale comes first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = bare_layer_norm(width)
        self.adaLN_modulation = modulation_layer(width, 2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.adaLN_modulation(condition).chunk(2, dim=-1)
        return modulated(self.norm(x), shift, scale)


class ChannelPredictor(nn.Module):
    """Logits of `levels` codes for each of `channels`, given hidden states of `width` and the channels
    before; `hidden`: width of the feed-forward."""

    def __init__(
        self,
        width: int,
        channels: int,
        levels: int,
        inner: int,
        depth: int = 2,
        heads: int = 4,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.condition_proj = nn.Linear(width, inner)
        self.token_embeddings = nn.ModuleList(nn.Embedding(levels, inner) for _ in range(channels - 1))
        self.channel_embed = nn.Parameter(0.02 * torch.randn(1, channels, inner))
        self.timesteps_embeddings = nn.Parameter(0.02 * torch.randn(1, channels, inner))
        self.channel_blocks = nn.ModuleList(Block(inner, heads, hidden, PARTS) for _ in range(depth))
        self.channel_norm = layer_norm(inner)
        self.channel_final = FinalNorm(inner)
        self.channel_heads = nn.ModuleList(nn.Linear(inner, levels) for _ in range(channels))

    def forward(self, hidden: Tensor, codes: Tensor, *, shifted: bool = False) -> Tensor:
        """hidden [M, D], codes [M, C] -> logits [M, C, V] of all channels, each given those before it.
        `shifted`: the sequence starts with the first position's condition instead of the hidden state's
        alone."""
        told = self.condition_proj(hidden)
        parts = [table(codes[:, n]) for n, table in enumerate(self.token_embeddings)]
        x = torch.stack([self._start(told, shifted), *parts], dim=1)
        mask = torch.ones(self.channels, self.channels, dtype=torch.bool, device=x.device).tril()
        x = self._through(x, told, 0, Seen(mask=mask))
        return torch.stack([head(x[:, n]) for n, head in enumerate(self.channel_heads)], dim=1)

    def sample(
        self, hidden: Tensor, uniform: Tensor, temperature: float = 1.0, *, shifted: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Codes [M, C] and their log-probabilities [M] at a temperature (0: the most probable codes, 0),
        channel by channel, from uniform numbers [M, C] in [0, 1)."""
        told = self.condition_proj(hidden)
        stores = stores_for(len(self.channel_blocks), self.channels)
        x, codes, total = self._start(told, shifted), list[Tensor](), hidden.new_zeros(len(hidden))
        for channel, head in enumerate(self.channel_heads):
            states = self._through(x[:, None], told, channel, Seen(stores=stores, kept=1))
            logits = head(states[:, 0]).float()
            if temperature:
                probs = torch.softmax(logits / temperature, dim=-1)
                found = (probs.cumsum(dim=-1) < uniform[:, channel, None]).sum(dim=-1)
                codes.append(found.clamp(max=logits.shape[-1] - 1))
                total = total + probs.gather(1, codes[-1][:, None])[:, 0].log()
            else:
                codes.append(logits.argmax(dim=-1))
            if channel + 1 < self.channels:
                x = self.token_embeddings[channel](codes[-1])
        return torch.stack(codes, dim=1), total

    def _start(self, told: Tensor, shifted: bool) -> Tensor:
        return told + self.timesteps_embeddings[:, 0] if shifted else told

    def _through(self, x: Tensor, told: Tensor, first: int, seen: Seen) -> Tensor:
        """Positions [M, n, W] from channel `first` on."""
        channels = slice(first, first + x.shape[1])
        condition = told[:, None] + self.timesteps_embeddings[:, channels]
        x = x + self.channel_embed[:, channels]
        for layer, block in enumerate(self.channel_blocks):
            x = block(x, Modulation.of(block.adaLN_modulation(condition)), seen, layer)  # type: ignore[operator]
        found: Tensor = self.channel_final(self.channel_norm(x), condition)
        return found


class ChannelHead(nn.Module):
    """`channels` values for hidden states of `width`, quantised."""

    def __init__(self, width: int, channels: int, config: ChannelConfig | None = None) -> None:
        super().__init__()
        self.channels, self.config = channels, config or ChannelConfig()
        own = self.config
        self.quantiser = ScalarQuantiser(own.bits, low=-own.range, high=own.range)
        self.embedding = nn.Linear(channels, width)
        self.predictor = ChannelPredictor(
            width, channels, self.quantiser.codes, own.inner, own.depth, own.heads, 4 * own.inner
        )

    def embed(self, codes: Tensor) -> Tensor:
        """Vectors [..., C] -> [..., D]."""
        return self.embedding(codes.to(self.embedding.weight.dtype))

    def distribution(self, hidden: Tensor) -> ChannelDistribution:
        return ChannelDistribution(self.predictor, self.quantiser, hidden)

    def loss(self, hidden: Tensor, values: Tensor, generator: torch.Generator) -> Tensor:
        """Mean over channels of the cross-entropy of the quantised values [..., C] given hidden [..., D] ->
        [...]."""
        return -self.distribution(hidden).log_prob(values) / self.channels


@dataclass(frozen=True, eq=False)
class ChannelDistribution:
    """Of vectors whose channels take the quantiser's levels, given hidden states [..., D]."""

    predictor: ChannelPredictor
    quantiser: ScalarQuantiser
    hidden: Tensor

    def log_prob(self, values: Tensor) -> Tensor:
        """[..., C] -> [...]: the log-probability of their codes."""
        codes = self.quantiser.encode(values.float()).flatten(0, -2)
        logits = self.predictor(self.hidden.flatten(0, -2), codes).float()
        found = logits.log_softmax(dim=-1).gather(-1, codes[..., None])[..., 0].sum(dim=-1)
        return found.view(values.shape[:-1])

    def sample(self, noise: Noise, places: Tensor, sampler: Sampler) -> Drawn:
        check_continuous(sampler)
        hidden = self.hidden.flatten(0, -2)
        check_values(hidden)
        uniform = noise.uniform(places, self.predictor.channels, device=hidden.device).float()
        codes, total = self.predictor.sample(hidden, uniform.flatten(0, -2), sampler.temperature)
        values = self.quantiser.decode(codes).view(*places.shape, -1)
        return Drawn(values, total.view(places.shape))

    def guided(self, null: Self, weight: float) -> Self:
        """Of hidden states."""
        return replace(self, hidden=torch.lerp(null.hidden, self.hidden, 1 + weight))

    def combined(self, others: Sequence[Self]) -> Self:
        """Hidden states are averaged."""
        states = torch.stack([self.hidden, *(other.hidden for other in others)])
        return replace(self, hidden=states.mean(dim=0))
