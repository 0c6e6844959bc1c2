"""FLASH's drafter: one attention layer, and an MLP that predicts the next k hidden states of the target at
every position.

Names of parameters are the published ones, but for `A` (`compression.queries`). As released there is no
residual and no norm, the padding mask is ignored, and every query head attends to every group of keys and
values; what it gathers is summed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unified.checkpoints.state_dict import load_strict
from unified.heads.latent_pooling import LatentPooling

BASE = 10000.0  # of the rotary embedding
TABLE = "layers.rotary_emb.inv_freq"


@dataclass(frozen=True, kw_only=True)
class FlashConfig:
    """`ahead`: hidden states that are predicted at each position; `latents`: what an image becomes; `pad`:
    the number that fills what is not predicted."""

    codes: int = 41
    width: int = 32
    heads: int = 4
    groups: int = 4
    ahead: int = 3
    latents: int = 3
    pad: int = 0

    def __post_init__(self) -> None:
        least = min(self.codes, self.width, self.heads, self.groups, self.ahead, self.latents)
        if least < 1 or self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"sizes must be at least 1, and heads of an even width, got {self}")

    @property
    def head_width(self) -> int:
        return self.width // self.heads


class SemiAutoregressive(nn.Module):
    """x [B, L, D] -> [B, L, k, D]: at position j, hidden states j + 1 to j + k."""

    def __init__(self, config: FlashConfig) -> None:
        super().__init__()
        self.config = config
        width, shared = config.width, config.groups * config.head_width
        self.q_proj, self.o_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.k_proj, self.v_proj = nn.Linear(width, shared), nn.Linear(width, shared)
        self.ar_proj = nn.Sequential(
            nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, config.ahead * width)
        )

    def rotated(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [B, H, L, c] and keys [B, G, L, c] with the rotary embedding of positions 0 to L - 1."""
        width = self.config.head_width
        frequencies = BASE ** (-torch.arange(0, width, 2).float() / width)
        angles = torch.outer(torch.arange(x.shape[1]).float(), frequencies).repeat(1, 2)  # [L, c]
        return tuple(  # type: ignore[return-value]
            part * angles.cos() + _half_turned(part) * angles.sin()
            for part in (self._split(self.q_proj(x)), self._split(self.k_proj(x)))
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.rotated(x)
        v = self._split(self.v_proj(x))
        scores = torch.einsum("bhlc,bgmc->bhglm", q, k) * self.config.head_width**-0.5
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        weights = scores.masked_fill(~causal, float("-inf")).softmax(dim=-1)
        out = torch.einsum("bhglm,bgmc->blhc", weights, v).flatten(2)
        found: Tensor = self.ar_proj(self.o_proj(out))
        return found.unflatten(-1, (self.config.ahead, -1))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.config.head_width)).transpose(1, 2)


class FlashDrafter(nn.Module):
    def __init__(self, config: FlashConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.codes, config.width)
        self.fc = nn.Linear(2 * config.width, config.width)
        self.layers = SemiAutoregressive(config)
        self.compression = LatentPooling(config.latents, config.width)

    def inputs(self, ids: Tensor, hidden: Tensor) -> Tensor:
        """ids [B, L] and hidden states of the target [B, L, D] -> [B, L, D]. An id is the one after its
        hidden state."""
        return self.fc(torch.cat([self.embed_tokens(ids).to(hidden), hidden], dim=-1))

    def forward(self, ids: Tensor, hidden: Tensor) -> Tensor:
        """-> [B, L k, D], `aligned`."""
        return aligned(self.layers(self.inputs(ids, hidden)), self.config.pad)

    def compressed(self, ids: Tensor, hidden: Tensor, image: slice) -> Tensor:
        """The released draft sequence [B, L - N + C, D] of text with an image of N positions, of which C
        are left: text before it as the target's hidden states, latents, zeros in the rest of its place, and
        text after it where it stood; the end is cut off."""
        before, latents = hidden[:, : image.start], self.compression(hidden[:, image])
        zeros = torch.zeros_like(hidden[:, image])[:, latents.shape[1] :]
        after = self.inputs(ids, hidden)[:, image.stop :]
        whole = torch.cat([before, latents, zeros, after], dim=1)
        return whole[:, : whole.shape[1] - zeros.shape[1]]


def shortened(before: Tensor, latents: Tensor, after: Tensor) -> Tensor:
    """The draft sequence as the paper has it: the text after an image follows the latents."""
    return torch.cat([before, latents, after], dim=1)


def aligned(predicted: Tensor, pad: float = 0.0) -> Tensor:
    """[B, L, k, D] -> [B, k L, D]: k copies of the sequence; row j + i of copy i is what position j predicts
    for offset i, its first i rows are `pad`."""
    length = predicted.shape[1]
    copies = []
    for offset, part in enumerate(predicted.unbind(dim=2)):
        start = part.new_full((len(part), min(offset, length), part.shape[-1]), pad)
        copies.append(torch.cat([start, part[:, : max(length - offset, 0)]], dim=1))
    return torch.cat(copies, dim=1)


def _half_turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def load(state: Mapping[str, Tensor], config: FlashConfig) -> FlashDrafter:
    """Of published weights. ValueError if they do not fit."""
    model = FlashDrafter(config)
    load_strict(model, {k: v for k, v in state.items() if k != TABLE}, _own)
    return model.eval()


def _own(name: str) -> str:
    return "compression.queries" if name == "A" else name
