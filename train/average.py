"""A running mean of the trained weights (EMA), kept in float32 and saved with every checkpoint.

Under ZeRO 3 and FSDP2 each process averages the shard it owns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

FILE = "average-{rank}.safetensors"


class Average(TrainerCallback):
    """After every step `mean += (1 - decay) * (weights - mean)`; the decay rises to its value over the first
    steps, so that the beginning is soon forgotten. Decay 0 keeps no mean."""

    def __init__(self, decay: float, resume: Path | None = None) -> None:
        self.decay, self.resume = decay, resume
        self.mean: dict[str, Tensor] = {}
        self.live: list[Any] = []  # the parameters that are averaged: to walk through a model takes long

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if self.decay:
            trained = _trained(model)
            self.mean = {name: local(p).detach().float().clone() for name, p in trained}
            self.live = [p for _, p in trained]
        if self.decay and self.resume is not None:
            stored = load_file(self.resume / _file(model))
            for name, value in self.mean.items():
                value.copy_(stored[name])

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if self.decay:
            decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
            mean = list(self.mean.values())
            live = [local(p).to(value) for p, value in zip(self.live, mean, strict=True)]
            torch._foreach_lerp_(mean, live, 1 - decay)

    def save(self, folder: Path, model: nn.Module) -> None:
        """Write the mean into a checkpoint; whole tensors are written by the first process alone."""
        if self.mean and (is_sharded(model) or rank() == 0):
            found = {name: value.cpu().contiguous() for name, value in self.mean.items()}
            save_file(found, folder / _file(model))

    def whole(self, model: nn.Module) -> dict[str, Tensor]:
        """Averaged tensors in full, by name. All processes must call it."""
        return {name: _gathered(p, self.mean[name]) for name, p in _trained(model) if name in self.mean}


def local(parameter: Any) -> Tensor:
    """What this process holds of a parameter: all of it, or its shard under ZeRO 3 or FSDP2."""
    held: Tensor = getattr(parameter, "ds_tensor", parameter).data
    return held.to_local() if isinstance(held, DTensor) else held


def is_sharded(model: nn.Module) -> bool:
    """Whether processes hold parts of the model: under ZeRO 3 and FSDP2."""
    return any(hasattr(p, "ds_tensor") or isinstance(p, DTensor) for p in model.parameters())


def rank() -> int:
    distributed = torch.distributed
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def _trained(model: nn.Module) -> list[tuple[str, Any]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _file(model: nn.Module) -> str:
    return FILE.format(rank=rank() if is_sharded(model) else 0)


def _gathered(parameter: Any, value: Tensor) -> Tensor:
    if isinstance(parameter, DTensor):
        share = value.to(parameter.to_local())
        placed = DTensor.from_local(
            share,
            parameter.device_mesh,
            parameter.placements,
            shape=parameter.shape,
            stride=parameter.stride(),
        )
        return placed.full_tensor()
    if not hasattr(parameter, "ds_tensor"):
        return value
    world = torch.distributed.get_world_size()
    shard = value.to(parameter.device)
    parts = [torch.empty_like(shard) for _ in range(world)]
    torch.distributed.all_gather(parts, shard)
    return torch.cat(parts)[: parameter.ds_numel].view(parameter.ds_shape)
