"""Which optimiser steps which weights: Adam for all, or Muon for the inner matrices and Adam for the rest.

Muon (Jordan et al. 2024; scaled to Adam's step size by Liu et al. 2025, arXiv 2502.16982) moves a matrix
along its orthogonalised momentum, so that every direction learns at the same rate. Tables, heads and vectors
stay with Adam. It needs whole matrices, and DeepSpeed's stages hold flat pieces: there AdamW is the only
choice.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unified.precision import fast_bf16

OPTIMISERS = ("adamw", "muon")
BETAS = (0.9, 0.95)


class Together(Optimizer):
    """Several optimisers as one: their groups, one step, one state."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._join()

    def _join(self) -> None:
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self.state = ChainMap(*(part.state for part in self.parts))  # type: ignore[assignment, arg-type]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = closure() if closure else None
        for part in self.parts:
            part.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._join()  # loading made new groups


class FlatMuon(torch.optim.Muon):
    """Muon for weights [out, ...] of any rank, as matrices [out, rest] that share their memory. Matrices of
    one shape are orthogonalised together: one by one, a GPU waits for launches through most of a step."""

    def __init__(self, weights: Iterable[Tensor], rate: float, decay: float) -> None:
        self.weights = list(weights)
        flat = [nn.Parameter(weight.detach().view(len(weight), -1)) for weight in self.weights]
        super().__init__(flat, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
        self.flat = flat

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        group = self.param_groups[0]
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for weight, flat in zip(self.weights, self.flat, strict=True):
            if weight.grad is not None:
                by_shape.setdefault(flat.shape, []).append((flat, weight.grad.reshape(flat.shape)))
        for shape, pairs in by_shape.items():
            weights, grads = (list(part) for part in zip(*pairs, strict=True))
            moments = [self._moment(weight) for weight in weights]
            torch._foreach_lerp_(moments, grads, 1 - group["momentum"])
            updates = torch.stack(torch._foreach_lerp(grads, moments, group["momentum"]))
            found = orthogonal(updates, group["ns_coefficients"], group["ns_steps"], group["eps"])
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            rate = group["lr"] * 0.2 * max(shape) ** 0.5  # "match_rms_adamw"
            torch._foreach_add_(weights, list(found.to(updates.dtype).unbind()), alpha=-rate)
        return None

    def _moment(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        return state["momentum_buffer"]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for weight in self.weights:
            weight.grad = None


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Nearly orthogonal matrices of the directions of [n, rows, columns], by Newton and Schulz's iteration in
    bfloat16 where that is fast (as `torch.optim.Muon` does for one)."""
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16() if fast_bf16(matrices.device) else matrices.float()
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def muon(
    named: Iterable[tuple[str, Tensor]], inner: Callable[[str], bool], rate: float, decay: float
) -> Optimizer:
    """Muon for the trained weights of rank two or more whose name is `inner`, AdamW for the other trained
    ones. `decay` is that of matrices; vectors have none."""
    trained = [(name, p) for name, p in named if p.requires_grad]
    chosen = [p for name, p in trained if p.ndim >= 2 and inner(name)]
    taken = {id(p) for p in chosen}
    rest = [p for _, p in trained if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    parts: list[Optimizer] = [torch.optim.AdamW(groups, lr=rate, betas=BETAS)]
    return Together([*parts, FlatMuon(chosen, rate, decay)] if chosen else parts)


INNER = ("merging.", "extras.grid.", "extras.reference.", "extras.own_state.")


def is_inner(name: str) -> bool:
    """Whether a weight maps states to states: no table, no head."""
    return ".layers." in name or name.startswith(INNER)


def splits(model: nn.Module, optimiser: str) -> set[str]:
    """Names of the trained weights that Muon steps."""
    if optimiser != "muon":
        return set()
    return {
        name for name, p in model.named_parameters() if p.requires_grad and p.ndim >= 2 and is_inner(name)
    }


def check_optimiser(name: str) -> None:
    """ValueError for an unknown name."""
    if name not in OPTIMISERS:
        raise ValueError(f"unknown optimiser {name!r}: choose one of {', '.join(OPTIMISERS)}")
