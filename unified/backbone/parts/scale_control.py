"""Control added slot by slot before some frozen layers, refined by what the image's own states say.

ECM: Efficient Conditional Generation on Scale-based Visual Autoregressive Models, arXiv 2510.05610, known
here from its abstract and reviews. Every adapter attends over the states and the control of the slots of a
step, then runs a feed-forward network that all adapters share, and is added through a gate of its own, which
is zero at the start: the model is then left bit for bit as it is. Simplified: attention is within a step,
which needs no cache; the paper's also sees earlier steps. Test: tests/unified/backbone/test_controls.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

from unified.backbone.layer_pass import LayerPart, Pass
from unified.backbone.parts.controls import at_slots, check_control, rows_of, slots_of
from unified.backbone.parts.steps import steps_of
from unified.orders import Plan


@dataclass(frozen=True, kw_only=True)
class ScaleControlConfig:
    """`width` of the hidden states, `control` of the features, `inner` of the shared network; `heads`; the
    `layers` before which control is added."""

    width: int = 64
    control: int = 8
    inner: int = 64
    heads: int = 4
    layers: tuple[int, ...] = (0, 1)

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")


class ScaleControl(nn.Module):
    """hidden + gate * (c + ffn(norm(c))), where c attends over the control and the states of its step."""

    def __init__(self, config: ScaleControlConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        names = [str(n) for n in config.layers]
        self.enter = nn.Linear(config.control, width)
        self.attentions = nn.ModuleDict({n: _Attention(width, config.heads) for n in names})
        self.up, self.down = nn.Linear(width, config.inner), nn.Linear(config.inner, width)
        self.gates = nn.ParameterDict({n: nn.Parameter(torch.zeros(width)) for n in names})

    def reading(self, control: Tensor, plan: Plan) -> ReadingControl:
        """The part with the control [B, T, C] of images of this plan."""
        check_control(control, plan, self.config.control)
        return ReadingControl(self, self.enter(control))

    def added(self, name: str, hidden: Tensor, control: Tensor, together: Tensor) -> Tensor:
        """What an adapter adds to states [R, n, W] under a control [R, n, W]; `together` [R, n, n] bool:
        positions of one step of one image."""
        control = control + self.attentions[name](control, hidden, together)
        mixed = self.down(silu(self.up(rms_norm(control, control.shape[-1:]))))
        found: Tensor = self.gates[name] * (control + mixed)
        return found


class ReadingControl(LayerPart):
    """A `ScaleControl` with its control, entered already, [B, T, W]."""

    by_step = True

    def __init__(self, part: ScaleControl, control: Tensor) -> None:
        self.part, self.control = part, control

    def enter(self, layer: int, hidden: Tensor, run: Pass) -> Tensor:
        name = str(layer)
        if name not in self.part.gates:
            return hidden
        slots = slots_of(run).to(hidden.device)
        if not bool((slots >= 0).any()):
            return hidden
        control = at_slots(self.control, slots, rows_of(len(hidden), len(self.control), run))
        steps, segment = (x.to(hidden.device) for x in (steps_of(run), run.index.segment))
        together = (steps[:, :, None] == steps[:, None]) & (segment[:, :, None] == segment[:, None])
        added = self.part.added(name, hidden, control.to(hidden.dtype), together)
        return torch.where((slots >= 0)[..., None], hidden + added.to(hidden.dtype), hidden)


class _Attention(nn.Module):
    """Of the control over states and control of the same step."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.out = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.key_value = nn.Linear(width, 2 * width, bias=False)

    def forward(self, control: Tensor, hidden: Tensor, together: Tensor) -> Tensor:
        width = control.shape[-1:]
        normed = rms_norm(control, width)
        joint = torch.cat([rms_norm(hidden, width).to(control.dtype), normed], dim=1)  # [R, 2 n, W]
        query = self.query(normed).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(joint).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = torch.cat([together, together], dim=2)[:, None]
        found = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return out
