"""What a stage of training says: its data, batches, optimisation, parameters and loss.

Every group is a frozen dataclass of at most 8 fields; `train/aliases.py` keeps the names that fields had
before there were groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from unified.train.optimiser import check_optimiser
from unified.train.select import check_selection

from unified.finite import check_tree
from unified.objectives import build_objective

KINDS = ("text", "action", "image")


@dataclass(frozen=True, kw_only=True)
class StageData:
    """Which samples a stage sees, and what of them.

    `mixture`: share of the ids that each source gets; `mixture_end`: the shares at the end, reached linearly
    (a curriculum). `samples`: share of every source's samples that the stage needs, the first ones: it can
    begin while `prepare` makes the rest. `condition_dropout`: share of samples with a drawn image that lose
    the user's words, for guidance. `cut`: share of samples ending with a drawn image that end where it is
    written: nothing reads it any more but the end of the turn, and a third of a drawing's ids are saved.
    `coarse`: by source, the share of samples whose images are learned up to the map of side 4 alone, which
    says what is where; the backbone skips the rest.
    """

    mixture: Mapping[str, float]
    mixture_end: Mapping[str, float] = field(default_factory=dict)
    samples: float = 1.0
    condition_dropout: float = 0.1
    cut: float = 0.0
    coarse: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_weights("mixture", self.mixture)
        if self.mixture_end:
            _check_weights("mixture_end", self.mixture_end)
        if not 0 < self.samples <= 1:
            raise ValueError(f"samples must lie in (0, 1], got {self.samples}")
        check_shares(self, "condition_dropout", "cut")
        for name, share in self.coarse.items():
            if name not in self.names or not 0 <= share <= 1:
                raise ValueError(f"coarse gives sources of the mixture shares in [0, 1], got {name}: {share}")

    @property
    def names(self) -> list[str]:
        """The sources of both mixtures."""
        return list(dict.fromkeys([*self.mixture, *self.mixture_end]))

    def shares(self, progress: float) -> dict[str, float]:
        """The share of every source where `progress` in [0, 1] of the stage is done: they sum to 1."""
        end = progress if self.mixture_end else 0.0
        first, last = self.mixture, self.mixture_end
        mixed = {name: (1 - end) * first.get(name, 0.0) + end * last.get(name, 0.0) for name in self.names}
        return {name: weight / sum(mixed.values()) for name, weight in mixed.items()}


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """A step is `rows` rows of `length` ids, whatever the number of processes; at most `micro_rows` of them
    are run at once, in bfloat16 with `bf16`; `gradient_checkpointing` computes activations twice to save
    memory."""

    rows: int = 16
    length: int = 1024
    micro_rows: int = 8
    bf16: bool = True
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("rows", "length", "micro_rows"):
            at_least(name, getattr(self, name), 1)


@dataclass(frozen=True, kw_only=True)
class OptimisationConfig:
    """`optimiser`: "adamw" or "muon". `learning_rate` warms up over `warmup` steps and falls along a cosine
    to `final` of itself. `clip`: largest norm of the gradient."""

    optimiser: str = "adamw"
    learning_rate: float = 1e-3
    warmup: int = 100
    final: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.learning_rate <= 0 or self.clip <= 0 or self.weight_decay < 0:
            raise ValueError("learning_rate and clip must be positive, warmup and weight_decay not negative")
        check_shares(self, "final")
        check_optimiser(self.optimiser)


@dataclass(frozen=True, kw_only=True)
class ParameterConfig:
    """`trains`: names from `unified.train.select`. `adapter`: rank of LoRA. `average` > 0: decay of the
    exponential moving average of the weights, which a stage hands on."""

    trains: tuple[str, ...] = ("all",)
    adapter: int = 8
    average: float = 0.999

    def __post_init__(self) -> None:
        check_selection(self.trains)
        at_least("adapter", self.adapter, 1)
        if not 0 <= self.average < 1:
            raise ValueError(f"average must lie in [0, 1), got {self.average}")


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Factors on the loss of `kinds` ("text", "action", "image") and of `tasks`, 1 where not given.
    `balance`: between every code (0) and every map (1) of an image counting the same."""

    kinds: Mapping[str, float] = field(default_factory=dict)
    tasks: Mapping[str, float] = field(default_factory=dict)
    balance: float = 0.0

    def __post_init__(self) -> None:
        check_shares(self, "balance")
        for kind in self.kinds:
            if kind not in KINDS:
                raise ValueError(f"loss_weights.kinds names {kind!r}: the kinds are {', '.join(KINDS)}")


@dataclass(frozen=True, kw_only=True)
class ObjectiveChoice:
    """An objective of `unified.objectives` by name; `options` are fields of its configuration."""

    name: str = "cross_entropy"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        build_objective(self.name, self.options)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of training: `steps` optimiser steps that minimise `objective`."""

    name: str = "main"
    steps: int = 1000
    data: StageData
    batch: BatchConfig = field(default_factory=BatchConfig)
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)
    parameters: ParameterConfig = field(default_factory=ParameterConfig)
    loss_weights: LossWeights = field(default_factory=LossWeights)
    objective: ObjectiveChoice = field(default_factory=ObjectiveChoice)
    kind: ClassVar[str] = "supervised"

    def sources(self) -> list[str]:
        """Sources of the recipe that it mixes or names."""
        return [*self.data.names, *self.loss_weights.tasks]

    def __post_init__(self) -> None:
        check_tree(self)
        at_least("steps", self.steps, 1)
        if not self.name or "/" in self.name:
            raise ValueError(f"a stage needs a name without '/', got {self.name!r}")

    def shares(self, step: int) -> dict[str, float]:
        """The share of every source at a step: they sum to 1."""
        return self.data.shares(step / max(self.steps - 1, 1))


def at_least(name: str, value: int, least: int) -> None:
    """ValueError for a value below `least`."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_shares(config: Any, *names: str) -> None:
    """ValueError for fields that do not lie in [0, 1]."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {getattr(config, name)}")


def _check_weights(name: str, weights: Mapping[str, float]) -> None:
    if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise ValueError(f"{name} needs sources with weights that are not negative and not all zero")
