"""What changes while a tokenizer is trained, and its checkpoints: interrupted training goes on unharmed."""

from __future__ import annotations

import json
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass
class State:
    """Everything that changes while training."""

    tokenizer: Any
    optimiser: torch.optim.Optimizer
    losses: Any
    restarts: Any
    mean: Any
    window: Any
    records: list[dict[str, Any]]
    generator: torch.Generator

    def pack(self) -> dict[str, Any]:
        parts = {"tokenizer": self.tokenizer, "optimiser": self.optimiser, "mean": self.mean}
        parts |= {"discriminator": self.losses.discriminator}
        parts |= {"critic": self.losses.optimiser if self.losses.discriminator else None}
        packed: dict[str, Any] = {name: part.state_dict() for name, part in parts.items() if part}
        packed |= {"use": [each.use for each in self.restarts], "window": self.window.ids}
        return {**packed, "records": self.records, "generator": self.generator.get_state()}

    def unpack(self, packed: dict[str, Any]) -> None:
        self.tokenizer.load_state_dict(packed["tokenizer"])
        self.optimiser.load_state_dict(packed["optimiser"])
        if self.mean is not None:
            self.mean.load_state_dict(packed["mean"])
        if self.losses.discriminator is not None:
            self.losses.discriminator.load_state_dict(packed["discriminator"])
            self.losses.optimiser.load_state_dict(packed["critic"])
        use = packed["use"] if isinstance(packed["use"], list) else [packed["use"]]  # one table, formerly
        for each, counted in zip(self.restarts, use, strict=False):
            each.use.copy_(counted)
        self.window.ids = packed["window"]
        self.records.extend(packed["records"])
        self.generator.set_state(packed["generator"])


class Saving:
    """A checkpoint at `path` every `every` steps, and the one before it beside it: a damaged one is skipped
    with a warning."""

    def __init__(self, path: Path, every: int = 100) -> None:
        self.path, self.every = Path(path), every
        self._loaded: dict[str, Any] | None = None

    def step(self) -> int:
        """Steps that the latest whole checkpoint has behind it; 0 without one."""
        return self._load().get("step", 0)

    def save(self, state: State, step: int) -> None:
        partial = self.path.with_name(f"{self.path.name}.part")
        torch.save({**state.pack(), "step": step}, partial)
        if self.path.is_file():
            self.path.replace(self._before())
        partial.replace(self.path)

    def restore(self, state: State, log: Path | None) -> int:
        """Puts a state back where the latest checkpoint left it; records after it leave the log."""
        packed = self._load()
        if not packed:
            return 0
        state.unpack(packed)
        if log is not None and Path(log).is_file():
            Path(log).write_text("".join(json.dumps(record) + "\n" for record in state.records))
        return packed["step"]

    def _before(self) -> Path:
        return self.path.with_name(f"{self.path.name}.before")

    def _load(self) -> dict[str, Any]:
        if self._loaded is None:
            self._loaded = next(filter(None, map(_whole, (self.path, self._before()))), {})
        return self._loaded


def _whole(path: Path) -> dict[str, Any] | None:
    """A checkpoint, or None if there is none or it is damaged."""
    if not path.is_file():
        return None
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        warnings.warn(f"{path} is damaged and skipped: {str(error).splitlines()[0]}", stacklevel=2)
        return None
