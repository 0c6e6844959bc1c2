"""Where a recipe runs: folders, processes, devices, and how a model is cut to pieces."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from unified.train.checkpoints import latest_checkpoint, problem


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """How processes cut the model to pieces: `deepspeed` (a configuration), `fsdp` (FSDP2), or neither.
    ValueError for both."""

    deepspeed: dict[str, Any] | None = None
    fsdp: bool = False

    def __post_init__(self) -> None:
        if self.fsdp and self.deepspeed:
            raise ValueError("--fsdp and --deepspeed both cut the model to pieces: give one of them")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a recipe runs; none of it changes what is computed. `data`: folder of prepared ids (default
    OUT/data), which may be shared by runs. `workers` make data, `loaders` read it. `compile`: layers go
    through torch.compile."""

    out: Path
    data: Path | None = None
    resume: str = "auto"
    sharding: Sharding = field(default_factory=Sharding)
    workers: int = 1
    loaders: int = 0
    cpu: bool = False
    compile: bool = False

    @property
    def deepspeed(self) -> dict[str, Any] | None:
        return self.sharding.deepspeed

    @property
    def fsdp(self) -> bool:
        return self.sharding.fsdp

    @property
    def device(self) -> str:
        return "cpu" if self.cpu or not torch.cuda.is_available() else "cuda"


def stage_folder(recipe: Any, machine: Machine, number: int) -> Path:
    return machine.out / "stages" / f"{number}-{recipe.stages[number].name}"


def stage_checkpoint(machine: Machine, folder: Path) -> Path | None:
    """The checkpoint that a stage resumes from."""
    if machine.resume in ("auto", "none"):
        return latest_checkpoint(folder)
    path = Path(machine.resume)
    if path.parent.resolve() != folder.resolve():  # of another stage: that one is done
        return latest_checkpoint(folder)
    if reason := problem(path):
        raise ValueError(f"{path} cannot be resumed: {reason}")
    return path
