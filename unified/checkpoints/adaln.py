"""The transformer of VAR and FlexVAR: blocks whose norms are shifted, scaled and gated by the class (AdaLN).

Source: Tian et al., Visual Autoregressive Modeling, arXiv 2404.02905 (FoundationVision/VAR, MIT). Parameter
names are the published ones. Different from the published code: everything that depends on the class alone is
computed once per image (`condition`), keys are kept in a `KVCache`, nothing is remembered inside modules, the
residual stream has the type of the weights. Tests: tests/unified/checkpoints/test_transformers.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.backbone.layer_pass import Pass
from unified.checkpoints.linear import Linear, LinearGELU
from unified.heads.distribution import Categorical
from unified.orders.shapes import Shapes

LARGEST_LOG_SCALE = float(torch.tensor(100.0).log())


@dataclass(frozen=True, kw_only=True)
class Drops:
    """Rates, all acting in training mode only: hidden units, attention weights, whole branches (growing
    linearly from 0 in the first block to `path` in the last)."""

    hidden: float = 0.0
    attention: float = 0.0
    path: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """`shapes`: the maps (rows, columns) it is made for. `shared_modulation`: one modulation layer for all
    blocks. `unit_attention`: queries and keys of unit length with a learnt scale per head."""

    codes: int = 64
    code_width: int = 8
    classes: int = 10
    depth: int = 2
    width: int = 64
    heads: int = 4
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6
    shared_modulation: bool = False
    unit_attention: bool = True
    shapes: Shapes = ((1, 1), (2, 2), (3, 3), (4, 4))
    drops: Drops = field(default_factory=Drops)

    def __post_init__(self) -> None:
        least = {"codes": 2, "code_width": 1, "classes": 1, "depth": 1, "width": 1, "heads": 1}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise ValueError(f"{name} must be at least {number}, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        if not self.shapes:
            raise ValueError("shapes must hold at least one map")


@dataclass(frozen=True, eq=False)
class Condition:
    """What the classes of R rows decide: `start` [R, 1, D] in float32 and, all [R, 1, D] in the type of the
    weights, for each block (gamma1, gamma2, 1 + scale1, 1 + scale2, shift1, shift2) and for the head (1 +
    scale, shift)."""

    start: Tensor
    blocks: tuple[tuple[Tensor, ...], ...]
    head: tuple[Tensor, ...]

    def stack(self, below: Condition) -> Condition:
        """These rows and then those of `below`."""
        blocks = zip(self.blocks, below.blocks, strict=True)
        return Condition(
            start=torch.cat([self.start, below.start]),
            blocks=tuple(_stacked(mine, other) for mine, other in blocks),
            head=_stacked(self.head, below.head),
        )


def _stacked(above: tuple[Tensor, ...], below: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(pair) for pair in zip(above, below, strict=True))


class Attention(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.drops = config.heads, config.drops
        head_width = config.width // config.heads
        self.mat_qkv = Linear(config.width, 3 * config.width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(config.width))
        self.v_bias = nn.Parameter(torch.zeros(config.width))
        self.proj = Linear(config.width, config.width)
        # The published code divides by 4 sqrt(head width) where attention is not normalised.
        self.scale = 1.0 if config.unit_attention else 0.25 / head_width**0.5
        if config.unit_attention:
            self.scale_mul_1H11 = nn.Parameter(torch.full((1, config.heads, 1, 1), 4.0).log())
        self.unit = config.unit_attention

    def forward(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        rows, n, width = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])  # keys have none
        qkv = self.mat_qkv(x, bias).view(rows, n, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [R, H, n, c] each
        if self.unit:
            q = F.normalize(q, dim=-1) * self.scale_mul_1H11.clamp(max=LARGEST_LOG_SCALE).exp()
            k = F.normalize(k, dim=-1)
        if self.training and self.drops.attention:
            rate, mask = self.drops.attention, run.seen_in(layer).mask
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale, dropout_p=rate)
            out = out.transpose(1, 2)
        else:
            out = run.attention(layer, q, k, v, self.scale)
        out = self.proj(out.reshape(rows, n, width))
        return F.dropout(out, self.drops.hidden, self.training)


class FeedForward(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        inner = round(config.width * config.mlp_ratio)
        self.fc1 = LinearGELU(config.width, inner)
        self.fc2 = Linear(inner, config.width)
        self.drop = config.drops.hidden

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.fc2(self.fc1(x)), self.drop, self.training)


class Block(nn.Module):
    """x [R, n, D] -> the same. Six modulations [R, 1, D] as in `Condition`."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.eps = layer, config.norm_eps
        self.path = config.drops.path * layer / max(config.depth - 1, 1)
        self.attn = Attention(config)
        self.ffn = FeedForward(config)
        if config.shared_modulation:
            self.ada_gss = nn.Parameter(torch.zeros(1, 1, 6, config.width))
        else:
            self.ada_lin = nn.Sequential(nn.SiLU(), Linear(config.width, 6 * config.width))

    def modulations(self, classes: Tensor, shared: Tensor | None) -> tuple[Tensor, ...]:
        """classes [R, D]; `shared` [R, 1, 6, D] is the common layer's output, where there is one."""
        own = self.ada_lin(classes).view(len(classes), 1, 6, -1) if shared is None else self.ada_gss + shared
        gamma1, gamma2, scale1, scale2, shift1, shift2 = own.unbind(dim=2)
        return gamma1, gamma2, 1 + scale1, 1 + scale2, shift1, shift2

    def forward(self, x: Tensor, modulations: tuple[Tensor, ...], run: Pass) -> Tensor:
        rate = self.path if self.training else 0.0
        gamma1, gamma2, scale1, scale2, shift1, shift2 = modulations
        attended = self.attn(modulated(x, scale1, shift1, self.eps), run, self.layer)
        x = torch.addcmul(x, gamma1, drop_path(attended.to(x.dtype), rate))
        mixed = self.ffn(modulated(x, scale2, shift2, self.eps))
        return torch.addcmul(x, gamma2, drop_path(mixed.to(x.dtype), rate))


def drop_path(branch: Tensor, rate: float) -> Tensor:
    """Stochastic depth (arXiv 1603.09382): a branch [R, n, D] is dropped in each row with probability
    `rate`, and what stays is scaled so that the mean does not change."""
    if rate == 0:
        return branch
    kept = torch.rand(len(branch), 1, 1, device=branch.device) >= rate
    return branch * kept / (1 - rate)


class CodeHead(Linear):
    """A hidden state to logits of one symbol per code: a head as `unified.heads.Head` has it, without
    embeddings."""

    @property
    def symbols(self) -> int:
        return 1

    @property
    def values(self) -> int:
        return self.out_features

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., 1, V], float32."""
        return self(hidden.to(self.weight.dtype)).float().unsqueeze(-2)

    def distribution(self, hidden: Tensor) -> Categorical:
        return Categorical(self.logits(hidden))

    def to_symbols(self, codes: Tensor) -> Tensor:
        return codes.unsqueeze(-1)

    def to_codes(self, symbols: Tensor) -> Tensor:
        return symbols.squeeze(-1)


class HeadNorm(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.ada_lin = nn.Sequential(nn.SiLU(), Linear(config.width, 2 * config.width))

    def forward(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """classes [R, D] -> (1 + scale, shift), each [R, 1, D]: here the scale comes first."""
        scale, shift = self.ada_lin(classes)[:, None].chunk(2, dim=-1)
        return 1 + scale, shift


def modulated(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """LayerNorm without weights, times `scale` (1 + the learnt one), plus `shift`."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=eps), scale)
