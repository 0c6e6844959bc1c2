"""CoRe^2: a small weak model learns what guidance does, and then replaces it or is guided away from.

    fast step (no null branch):  W(c)
    slow step:                   W(c) + g (e - W(c)),   e = null + scale (c - null)
W maps the conditional prediction c to the guided one; g = 1 is classifier-free guidance, g = 0 the fast step.
Slow steps come first, since only they have a null branch. Xie et al., arXiv 2503.09662, whose code covers
diffusion models; for codes W adds a low-rank change to the logits, made from the hidden state and the step,
and starts as W(c) = c. `unified/checkpoints/core2_verify.py` compares the steps with the published loop,
tests/unified/decoding/test_weak_guidance.py holds g = 1 to guidance and g = 0 to one branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unified.decoding.guidance import Guidance, check_scales, guide
from unified.finite import check_number
from unified.heads.distribution import Categorical, Distribution, first_rows
from unified.orders import Plan

LARGEST = 100.0  # of g


class WeakModel(nn.Module):
    """Hidden states of `width`, logits of `symbols` times `values`, `steps` of the plan; `rank` of the
    change."""

    def __init__(self, width: int, symbols: int, values: int, *, steps: int, rank: int = 32) -> None:
        super().__init__()
        self.shape = (symbols, values)
        self.inner = nn.Sequential(nn.Linear(width, rank), nn.GELU())
        self.step = nn.Embedding(steps, rank)
        self.outer = nn.Linear(rank, symbols * values)
        nn.init.zeros_(self.step.weight)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, logits: Tensor, hidden: Tensor, step: Tensor) -> Tensor:
        """logits [..., S, V] and hidden [..., D] of slots that are decided at `step` [...] -> [..., S, V]."""
        inner = self.inner(hidden.float())
        change: Tensor = self.outer(inner * (1 + self.step(step)))
        return logits + change.unflatten(-1, self.shape)


@dataclass(frozen=True)
class WeakToStrong(Guidance):
    """`weak`: W; `scale`: of the guidance at slow steps; `strength`: g; `slow`: how many steps are slow, from
    the first. ValueError for numbers out of range."""

    weak: Any
    scale: float
    strength: float = 1.5
    slow: int = 1000

    def __post_init__(self) -> None:
        check_scales(self.scale)
        check_number("the strength of weak-to-strong guidance", self.strength, 0, LARGEST)
        if self.slow < 0:
            raise ValueError(f"slow must be a number of steps of at least 0, got {self.slow}")

    def weight(self, plan: Plan, step: int) -> float:
        return self.scale - 1 if step < self.slow and self.strength else 0.0

    def predicted(
        self, found: Distribution, states: Sequence[Tensor], plan: Plan, step: int, rows: int
    ) -> Distribution:
        """`Guidance.predicted`. ValueError for an order that reads slots out elsewhere, or a head without
        logits."""
        conditional = first_rows(found, 0, rows)
        if not plan.own or not isinstance(conditional, Categorical):
            raise ValueError(
                "weak-to-strong guidance is for heads of codes that are read out at their own slot"
            )
        steps = torch.full(conditional.logits.shape[:2], step, device=conditional.logits.device)
        weak = Categorical(self.weak(conditional.logits, states[0][:rows], steps))
        weight = self.weight(plan, step)
        return guide(found, weight, rows).guided(weak, self.strength - 1) if weight else weak
