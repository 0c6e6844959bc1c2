"""Reference attention: slots of an image read a control of their own and of coarser maps, which reads nothing
of them.

ScaleWeaver, arXiv 2510.14882, known here from its abstract and reviews: since the control does not depend on
what is written, its keys and values are computed once and serve all steps and both branches of guidance. What
is read is added through a linear map that is zero at the start. Simplified: keys and values come from the
control's features by low-rank maps, not from the backbone's layers with adapters; and in place of a common
rotary embedding a penalty on the distance of two places on the last map's grid, learnt for each head, keeps
attention local. Test: tests/unified/backbone/test_controls.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention, softplus

from unified.backbone.layer_pass import LayerPart, Pass
from unified.backbone.parts.controls import check_control, rows_of, slots_of
from unified.orders import Plan


@dataclass(frozen=True, kw_only=True)
class ReferenceAttentionConfig:
    """`width` of the hidden states, `control` of the features, `rank` of the maps to keys and values;
    `heads`; the `layers` before which it stands (published: the first half)."""

    width: int = 64
    control: int = 8
    rank: int = 8
    heads: int = 4
    layers: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads or self.rank < 1:
            raise ValueError(
                f"width must be a multiple of heads, and rank at least 1, got {self.width}, {self.heads} and "
                f"{self.rank}"
            )


class ReferenceAttention(nn.Module):
    """hidden + out(attention(norm(hidden), control)), seen: the control of the slot's own and earlier
    steps."""

    def __init__(self, config: ReferenceAttentionConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleDict({str(n): _Block(config) for n in config.layers})

    def reading(self, control: Tensor, plan: Plan) -> ReadingReference:
        """The part with the control [B, T, C] of images of this plan; its keys and values are computed
        here, once."""
        check_control(control, plan, self.config.control)
        pairs = {name: block.keys_of(control) for name, block in self.blocks.items()}  # type: ignore[operator]
        return ReadingReference(self.blocks, pairs, plan)


class ReadingReference(LayerPart):
    """A reference attention with keys and values [B, H, T, D] of each layer."""

    by_step = True

    def __init__(self, blocks: nn.ModuleDict, pairs: dict[str, tuple[Tensor, Tensor]], plan: Plan) -> None:
        self.blocks, self.pairs, self.plan = blocks, pairs, plan

    def enter(self, layer: int, hidden: Tensor, run: Pass) -> Tensor:
        name = str(layer)
        if name not in self.pairs:
            return hidden
        slots = slots_of(run).to(hidden.device)
        if not bool((slots >= 0).any()):
            return hidden
        rows = rows_of(len(hidden), len(self.pairs[name][0]), run).to(hidden.device)
        key, value = (x[rows] for x in self.pairs[name])
        labels, places = (x.to(hidden.device) for x in (self.plan.labels, self.plan.coordinates))
        own = slots.clamp(min=0)
        seen = labels[own][..., None] >= labels  # [R, n, T]
        apart = (places[own][:, :, None] - places).square().sum(dim=-1)  # [R, n, T]
        added = self.blocks[name](hidden, key, value, seen, apart)
        return torch.where((slots >= 0)[..., None], hidden + added.to(hidden.dtype), hidden)


class _Block(nn.Module):
    def __init__(self, config: ReferenceAttentionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.down = nn.Linear(config.control, config.rank, bias=False)
        self.up = nn.Linear(config.rank, 2 * config.width, bias=False)
        self.locality = nn.Parameter(torch.zeros(config.heads))
        self.out = nn.Linear(config.width, config.width, bias=False)
        nn.init.zeros_(self.out.weight)

    def keys_of(self, control: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, C] -> keys and values [B, H, T, D]."""
        both = self.up(self.down(control)).unflatten(2, (2, self.heads, -1))
        key, value = both.permute(2, 0, 3, 1, 4)
        return key, value

    def forward(self, hidden: Tensor, key: Tensor, value: Tensor, seen: Tensor, apart: Tensor) -> Tensor:
        asked = self.query(rms_norm(hidden, hidden.shape[-1:]))
        query = asked.unflatten(2, (self.heads, -1)).transpose(1, 2)
        bias = -softplus(self.locality)[:, None, None] * apart[:, None]  # [R, H, n, T]
        bias = bias.masked_fill(~seen[:, None], float("-inf")).to(query.dtype)
        found = scaled_dot_product_attention(
            query, key.to(query.dtype), value.to(query.dtype), attn_mask=bias
        )
        out: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return out
