"""Low-rank changes of matrices (LoRA, arXiv 2106.09685) that are trained in place and kept as small tensors.

`tuned` puts W + (alpha / rank) B A in the place of some matrices of a frozen model while it is trained; B is
zero at the start, so the model then computes the same bits. Taken off, the matrices are the same tensors as
before. Adapters of `peft`: `unified.adapters`. Test: tests/unified/test_low_rank.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from unified.finite import check_count, check_number

FIRST, SECOND = ".lora_A", ".lora_B"


@dataclass(frozen=True, kw_only=True)
class LowRankConfig:
    """`rank` of the changes, `alpha` over the rank their factor; `matrices`: the last names of the modules
    that change."""

    rank: int = 8
    alpha: float = 16.0
    matrices: tuple[str, ...] = ("k_proj", "v_proj", "gate_proj", "up_proj", "down_proj")

    def __post_init__(self) -> None:
        check_count("rank", self.rank, 1)
        check_number("alpha", self.alpha)

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class _Change(nn.Module):
    """W -> W + scale B A, where it is on."""

    def __init__(self, weight: Tensor, config: LowRankConfig) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.first = nn.Parameter(torch.empty(config.rank, columns))
        self.second = nn.Parameter(torch.zeros(rows, config.rank))
        nn.init.normal_(self.first, std=columns**-0.5)
        self.scale, self.on = config.scale, True

    def forward(self, weight: Tensor) -> Tensor:
        if not self.on:
            return weight
        return weight + (self.scale * (self.second @ self.first)).to(weight)


class LowRank:
    """The changes of a model that is being trained, by the names of its weights."""

    def __init__(self, changes: Mapping[str, _Change]) -> None:
        self._changes = dict(changes)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [p for change in self._changes.values() for p in (change.first, change.second)]

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within it the model is the one that it was: the teacher of prior distillation."""
        for change in self._changes.values():
            change.on = False
        try:
            yield
        finally:
            for change in self._changes.values():
                change.on = True

    def tensors(self) -> dict[str, Tensor]:
        """What is to be kept."""
        pairs = ((FIRST, "first"), (SECOND, "second"))
        return {
            name + ending: getattr(change, which).detach().clone()
            for name, change in self._changes.items()
            for ending, which in pairs
        }


@contextmanager
def tuned(model: nn.Module, config: LowRankConfig) -> Iterator[LowRank]:
    """A frozen model with changes beside its matrices of these names, to be trained; afterwards it is what it
    was. ValueError for a model that has none of them."""
    chosen = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in config.matrices
    ]
    if not chosen:
        raise ValueError(f"the model has no matrices called {', '.join(config.matrices)}")
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    changes: dict[str, _Change] = {}
    for name, module in chosen:
        change = _Change(module.weight, config).to(module.weight.device)
        parametrize.register_parametrization(module, "weight", change)
        changes[f"{name}.weight"] = change
    try:
        yield LowRank(changes)
    finally:
        for _, module in chosen:
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
        for parameter in frozen:
            parameter.requires_grad_(True)


def changes_of(tensors: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """What the tensors of `LowRank.tensors` add to each weight: scale B A, in float32. ValueError for other
    tensors, or factors that do not fit one another."""
    found = {}
    for name in sorted({re.sub(r"\.lora_[AB]$", "", name) for name in tensors}):
        first, second = tensors.get(name + FIRST), tensors.get(name + SECOND)
        if first is None or second is None:
            raise ValueError(f"the change of {name} lacks one of its two matrices")
        if first.ndim != 2 or second.ndim != 2 or first.shape[0] != second.shape[1]:
            raise ValueError(
                f"the matrices of {name} do not fit: {tuple(second.shape)} and {tuple(first.shape)}"
            )
        found[name] = scale * (second.float() @ first.float())
    if not found:
        raise ValueError("it changes nothing")
    return found
