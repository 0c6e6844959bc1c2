"""LANTERN's drafter: one decoder layer that continues the hidden states of the target (EAGLE, Li et al.,
arXiv 2401.15077) for LlamaGen's transformers.

Position t is fed the target's hidden state t and the embedding of id t + 1, and predicts hidden state t + 1;
the target's head turns it into logits. The layer has no norm before attention and none at its end. Names of
parameters are the published ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.nar_blocks import rotated
from unified.checkpoints.state_dict import load_strict

KINDS = {"c2i": (0, 24), "t2i": (119, 16), "t2i_stage2": (119, 32)}  # conditions before the image, its side
MORE = 20  # rows of zeros after the image
ROPE_BASE = 10000.0


@dataclass(frozen=True, kw_only=True)
class DrafterConfig:
    """`prefix`: rows of zeros of the rotary table before those of the image, of `side` x `side` codes."""

    codes: int = 48
    width: int = 32
    inner: int = 64
    heads: int = 2
    kv_heads: int = 2
    bias: bool = True
    prefix: int = 0
    side: int = 24

    def __post_init__(self) -> None:
        least = min(self.codes, self.width, self.inner, self.heads, self.kv_heads, self.side)
        if least < 1 or self.width % self.heads or self.heads % self.kv_heads or self.head_width % 4:
            raise ValueError(
                f"a drafter of width {self.width} needs positive sizes, {self.heads} heads that divide it, a "
                f"multiple of 4 channels a head, and key heads ({self.kv_heads}) that divide the heads"
            )

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def config_from(options: Mapping[str, Any], state: Mapping[str, Tensor]) -> DrafterConfig:
    """Of the published config. ValueError for a missing option or an unknown kind of image."""
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")
    missing = [name for name in names if not isinstance(options.get(name), int)]
    if missing:
        raise ValueError(f"the drafter's config lacks {missing[0]}")
    kind = options.get("input_type")
    if kind not in KINDS:
        raise ValueError(f"unknown input_type {kind!r} of a drafter: known are {', '.join(KINDS)}")
    codes, width, inner, heads = (options[name] for name in names)
    prefix, side = KINDS[kind]
    return DrafterConfig(
        codes=codes,
        width=width,
        inner=inner,
        heads=heads,
        kv_heads=options.get("num_key_value_heads", heads),
        bias="fc.bias" in state,
        prefix=prefix,
        side=side,
    )


def rope_table(config: DrafterConfig) -> Tensor:
    """[prefix + side^2 + 20, c / 2, 2] cosines and sines by running position: rows of the image, then its
    columns. Where it is 0, queries and keys vanish."""
    half = config.head_width // 2
    frequencies = 1.0 / ROPE_BASE ** (torch.arange(0, half, 2)[: half // 2].float() / half)
    angles = torch.outer(torch.arange(config.side).float(), frequencies)  # [side, c / 4]
    shape = (config.side, config.side, half // 2)
    both = torch.cat([angles[:, None].expand(shape), angles[None].expand(shape)], dim=-1)
    table = torch.stack([both.cos(), both.sin()], dim=-1).flatten(0, 1)
    blank = [table.new_zeros(count, *table.shape[1:]) for count in (config.prefix, MORE)]
    return torch.cat([blank[0], table, blank[1]])


KeysValues = tuple[Tensor, Tensor]  # each [R, G, n, c]


class DrafterAttention(nn.Module):
    def __init__(self, config: DrafterConfig) -> None:
        super().__init__()
        self.config = config
        keys = config.kv_heads * config.head_width
        self.q_proj = nn.Linear(config.width, config.width, bias=False)
        self.k_proj = nn.Linear(config.width, keys, bias=False)
        self.v_proj = nn.Linear(config.width, keys, bias=False)
        self.o_proj = nn.Linear(config.width, config.width, bias=False)

    def forward(
        self, x: Tensor, rotary: Tensor, seen: Tensor, cache: KeysValues | None
    ) -> tuple[Tensor, KeysValues]:
        """x [R, n, D], rotary [n, c / 2, 2], seen [R or 1, 1, n, all] bool -> the same, all keys and
        values."""
        q, k, v = (
            project(x).unflatten(-1, (-1, self.config.head_width))
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = (rotated(part, rotary[None]) for part in (q, k))
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        if cache is not None:
            k, v = torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)
        groups = self.config.heads // self.config.kv_heads
        keys, values = (part.repeat_interleave(groups, dim=1) for part in (k, v))
        scores = q @ keys.transpose(-1, -2) / self.config.head_width**0.5
        scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
        out = (scores.float().softmax(dim=-1).to(values) @ values).transpose(1, 2).flatten(-2)
        return self.o_proj(out), (k, v)


class DrafterMLP(nn.Module):
    def __init__(self, config: DrafterConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.inner, bias=False)
        self.up_proj = nn.Linear(config.width, config.inner, bias=False)
        self.down_proj = nn.Linear(config.inner, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DrafterLayer(nn.Module):
    def __init__(self, config: DrafterConfig) -> None:
        super().__init__()
        self.self_attn = DrafterAttention(config)
        self.mlp = DrafterMLP(config)
        self.post_attention_layernorm = nn.RMSNorm(config.width, eps=1e-6)


class Drafter(nn.Module):
    """`cache`, where there is one, holds the keys and values of earlier positions; it is never changed."""

    rope: Tensor

    def __init__(self, config: DrafterConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.codes, config.width)
        self.fc = nn.Linear(2 * config.width, config.width, bias=config.bias)
        self.layers = nn.ModuleList([DrafterLayer(config)])
        self.register_buffer("rope", rope_table(config), persistent=False)

    def forward(
        self,
        ids: Tensor,
        hidden: Tensor,
        *,
        positions: Tensor | None = None,
        seen: Tensor | None = None,
        cache: KeysValues | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """ids [R, n] and hidden states [R, n, D] -> predicted hidden states [R, n, D], keys and values of all
        positions. `positions` [n]: rows of the rotary table; default: after those of the cache. `seen` [R or
        1, n, all] bool, default causal."""
        before = 0 if cache is None else cache[0].shape[2]
        count = ids.shape[1]
        if positions is None:
            positions = torch.arange(before, before + count)
        if seen is None:
            seen = causal(count, before)
        if int(positions.max()) >= len(self.rope):
            raise ValueError(f"position {int(positions.max())} is outside of the {len(self.rope)} there are")
        layer: Any = self.layers[0]
        x = self.fc(torch.cat([self.embed_tokens(ids).to(hidden), hidden], dim=-1))
        attended, cache = layer.self_attn(x, self.rope[positions], seen[:, None], cache)
        x = x + attended
        return x + layer.mlp(layer.post_attention_layernorm(x)), cache


def causal(count: int, before: int = 0) -> Tensor:
    """[1, count, before + count] bool."""
    return torch.ones(count, before + count, dtype=torch.bool).tril(before)[None]


def load(options: Mapping[str, Any], state: Mapping[str, Tensor]) -> Drafter:
    """Of the published config and weights. ValueError if they do not fit."""
    model = Drafter(config_from(options, state))
    load_strict(model, dict(state))
    return model.eval()
