"""The layers of Infinity: self-attention over the maps with rotary rows and columns, cross-attention to the
text, and shifts, scales and gates from a pooled text vector (AdaLN).

Source: Han et al., Infinity: Scaling Bitwise AutoRegressive Modeling, arXiv 2412.04431;
FoundationVision/Infinity (MIT), infinity/models/basic.py. Parameter names are the published ones. Different
from the published code: what depends on the text alone is computed once per image (`TextCondition`), with it
the keys and values of cross-attention; keys of the maps are kept in a `KVCache`.
Tests: tests/unified/checkpoints/test_infinity.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.backbone.attention import Attend, sdpa
from unified.backbone.layer_pass import Pass
from unified.checkpoints.adaln import LARGEST_LOG_SCALE, drop_path, modulated
from unified.checkpoints.infinity_rope import rotate
from unified.checkpoints.linear import Linear, LinearGELU
from unified.layout.attention import Seen

EPS = 1e-6


@dataclass(frozen=True, eq=False)
class TextCondition:
    """What the texts of R rows decide. `start` [R, 1, D] float32, the pooled text. For each block
    `modulations`, (gamma1, gamma2, 1 + scale1, 1 + scale2, shift1, shift2), and for the `head` (1 + scale,
    shift), all [R, 1, D]. `memory`: for each block keys and values [R, H, T, C] of cross-attention, of which
    `mask` [R, 1, 1, T] marks each row's own (None: all)."""

    start: Tensor
    modulations: tuple[tuple[Tensor, ...], ...]
    head: tuple[Tensor, ...]
    memory: tuple[tuple[Tensor, ...], ...]
    mask: Tensor | None

    def stack(self, below: TextCondition) -> TextCondition:
        """These rows and then those of `below`."""
        length = max(self.memory[0][0].shape[2], below.memory[0][0].shape[2])
        above, below = self.padded(length), below.padded(length)
        mask = None
        if above.mask is not None or below.mask is not None:
            mask = torch.cat([above._seen(), below._seen()])
        return TextCondition(
            start=torch.cat([above.start, below.start]),
            modulations=_stacked(above.modulations, below.modulations),
            head=_stacked((above.head,), (below.head,))[0],
            memory=_stacked(above.memory, below.memory),
            mask=mask,
        )

    def padded(self, length: int) -> TextCondition:
        """The same with room for a text of `length`."""
        more = length - self.memory[0][0].shape[2]
        if not more:
            return self
        memory = tuple(tuple(F.pad(x, (0, 0, 0, more)) for x in pair) for pair in self.memory)
        return replace(self, memory=memory, mask=F.pad(self._seen(), (0, more)))

    def _seen(self) -> Tensor:
        if self.mask is not None:
            return self.mask
        keys = self.memory[0][0]
        return torch.ones(len(keys), 1, 1, keys.shape[2], dtype=torch.bool, device=keys.device)


def _stacked(
    above: tuple[tuple[Tensor, ...], ...], below: tuple[tuple[Tensor, ...], ...]
) -> tuple[tuple[Tensor, ...], ...]:
    return tuple(
        tuple(torch.cat(pair) for pair in zip(mine, other, strict=True))
        for mine, other in zip(above, below, strict=True)
    )


@dataclass(frozen=True, eq=False)
class Shared:
    """What all layers of a pass share: the texts' `condition`, cos and sin [n, C / 2] of the `rotation`, and
    the embeddings `levels` [1, n, D] of the slots' maps, if layers add them again."""

    condition: TextCondition
    rotation: tuple[Tensor, Tensor]
    levels: Tensor | None


class SelfAttention(nn.Module):
    """Queries and keys of unit length, a learnt scale per head, then the rotation; keys are kept rotated."""

    def __init__(self, width: int, heads: int, raw_queries: bool = False) -> None:
        super().__init__()
        self.heads, self.raw_queries = heads, raw_queries
        self.mat_qkv = Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.scale_mul_1H11 = nn.Parameter(torch.full((1, heads, 1, 1), 4.0).log())
        self.proj = Linear(width, width)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], run: Pass, layer: int) -> Tensor:
        rows, n, width = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])  # keys have none
        q, k, v = self._split(self.mat_qkv(x, bias))
        scale = self.scale_mul_1H11.clamp(max=LARGEST_LOG_SCALE).exp()
        q = rotate(F.normalize(q, dim=-1) * scale, *rotation)
        k = rotate(F.normalize(k, dim=-1), *rotation)
        out = run.attention(layer, q, k, v, 1.0)
        if self.raw_queries and run.queries is not None:
            run.queries[layer] = self._split(self.mat_qkv(x))[0]
        return self.proj(out.reshape(rows, n, width))

    def _split(self, qkv: Tensor) -> Tensor:
        """[R, n, 3 D] -> queries, keys and values [3, R, H, n, C]."""
        return qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)


class CrossAttention(nn.Module):
    """From the maps to the text: no rotation, no unit length. Another `attend` may take the place of SDPA."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mat_q = Linear(width, width)
        self.mat_kv = Linear(width, 2 * width, bias=False)
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = Linear(width, width)
        self.attend: Attend = sdpa

    def keys_values(self, memory: Tensor) -> tuple[Tensor, ...]:
        """Text [R, T, D] -> keys and values [R, H, T, C]."""
        bias = torch.cat([torch.zeros_like(self.v_bias), self.v_bias])
        kv = self.mat_kv(memory, bias).unflatten(-1, (2, self.heads, -1))
        return kv.permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, x: Tensor, memory: tuple[Tensor, ...], mask: Tensor | None) -> Tensor:
        rows, n, width = x.shape
        q = self.mat_q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        keys, values = memory
        out = self.attend(q, keys, values, Seen(mask), q.shape[-1] ** -0.5)
        return self.proj(out.to(x.dtype).reshape(rows, n, width))


class TextPool(nn.Module):
    """One learnt query per head over a text of `channels` -> one vector of `width`."""

    def __init__(self, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mat_q = nn.Parameter(torch.zeros(1, heads, width // heads))
        self.mat_kv = Linear(channels, 2 * width, bias=False)
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = Linear(width, width)
        self.attend: Attend = sdpa

    def forward(self, text: Tensor, mask: Tensor | None) -> Tensor:
        """text [R, T, Ct], mask [R, 1, 1, T] -> [R, D]."""
        bias = torch.cat([torch.zeros_like(self.v_bias), self.v_bias])
        k, v = self.mat_kv(text, bias).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q = self.mat_q[:, :, None].expand(len(text), -1, -1, -1)  # [R, H, 1, C]
        out = self.attend(q, k, v, Seen(mask), q.shape[-1] ** -0.5)
        return self.proj(out.to(text.dtype).flatten(1))


class FeedForward(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = LinearGELU(width, inner)
        self.fc2 = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x))


class Block(nn.Module):
    """x [R, n, D] -> the same. `path`: the rate at which its gated branches are dropped in training."""

    def __init__(
        self, layer: int, width: int, heads: int, inner: int, path: float = 0.0, raw_queries: bool = False
    ) -> None:
        super().__init__()
        self.layer, self.path = layer, path
        self.ada_gss = nn.Parameter(torch.zeros(1, 1, 6, width))
        self.sa = SelfAttention(width, heads, raw_queries)
        self.ca = CrossAttention(width, heads)
        self.ca_norm = nn.LayerNorm(width, eps=EPS)
        self.ffn = FeedForward(width, inner)

    def modulations(self, shared: Tensor) -> tuple[Tensor, ...]:
        """Of the common layer's output [R, 1, 6, D], as in `TextCondition`."""
        gamma1, gamma2, scale1, scale2, shift1, shift2 = (self.ada_gss + shared).unbind(dim=2)
        return gamma1, gamma2, 1 + scale1, 1 + scale2, shift1, shift2

    def forward(self, x: Tensor, shared: Shared, run: Pass) -> Tensor:
        condition = shared.condition
        rate = self.path if self.training else 0.0
        gamma1, gamma2, scale1, scale2, shift1, shift2 = condition.modulations[self.layer]
        attended = self.sa(modulated(x, scale1, shift1, EPS), shared.rotation, run, self.layer)
        x = torch.addcmul(x, gamma1, drop_path(attended.to(x.dtype), rate))
        x = x + self.ca(self.ca_norm(x), condition.memory[self.layer], condition.mask)
        mixed = self.ffn(modulated(x, scale2, shift2, EPS))
        return torch.addcmul(x, gamma2, drop_path(mixed.to(x.dtype), rate))


class HeadNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ada_lin = nn.Sequential(nn.SiLU(), Linear(width, 2 * width))

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """The pooled text [R, D] -> (1 + scale, shift), each [R, 1, D]."""
        scale, shift = self.ada_lin(pooled)[:, None].chunk(2, dim=-1)
        return 1 + scale, shift
