"""What a stage of preference tuning says (`kind: preference`), and a recipe of nothing but such stages that
goes on from a finished model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unified.tasks.outside.images import check_size
from unified.tasks.registry import TASKS, check_options
from unified.train.preference.on_policy import OnPolicy
from unified.train.preference.weighting import Weighting, check_losses
from unified.train.stage import BatchConfig, OptimisationConfig, ParameterConfig, at_least

LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
REFERENCES = ("copy", "precomputed")


@dataclass(frozen=True, kw_only=True)
class PairTask:
    """A task whose prompts are answered and scored: its `options`, the `scores` whose mean is the reward
    (default: `rewards.SCORES`), and the file of an inverse dynamics model for `following`."""

    task: str
    options: Mapping[str, Any] = field(default_factory=dict)
    scores: tuple[str, ...] = ()
    following: str = ""

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"unknown task {self.task!r}: choose one of {', '.join(sorted(TASKS))}")
        check_options(self.task, self.options)


@dataclass(frozen=True, kw_only=True)
class PairData:
    """`files`: files or datasets of pairs (`read_pairs`), whose `images` lie in that folder and are cut to
    squares of `size` pixels, if given. Or a task: then pairs are made `on_policy` when the stage begins, anew
    in each of `rounds`, whose reference is the model at its start; each round is a stage of its own."""

    files: tuple[str, ...] = ()
    images: str = ""
    size: int | None = None
    source: PairTask | None = None
    on_policy: OnPolicy = field(default_factory=OnPolicy)
    rounds: int = 1

    def __post_init__(self) -> None:
        at_least("rounds", self.rounds, 1)
        check_size(self.size)
        if bool(self.files) == bool(self.source):
            raise ValueError("pairs come from files or from a task: give one of them")
        if self.files and self.rounds > 1:
            raise ValueError("rounds make new pairs of a task: with files there is one")


@dataclass(frozen=True, kw_only=True)
class PreferenceOptions:
    """`beta`: inverse temperature of the divergence from the reference, in 1/nat. `losses`: names of TRL's,
    added with `loss_weights`; `label_smoothing`: of those that have it. `weights`, `decay`: see `Weighting`.
    `sft`: weight of the negative log-likelihood of chosen targets. `reference`: a copy, or precomputed;
    where LoRA alone is trained it is the model without its adapters."""

    beta: float = 0.1
    losses: tuple[str, ...] = ("sigmoid",)
    loss_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    weights: str = "token"
    decay: float = 0.5
    sft: float = 0.0
    reference: str = "copy"

    def __post_init__(self) -> None:
        Weighting(scheme=self.weights, decay=self.decay)
        if self.beta <= 0 or self.sft < 0:
            raise ValueError(f"beta must be positive and sft not negative, got {self.beta}, {self.sft}")
        for name in self.losses:
            if name not in LOSSES:
                raise ValueError(f"unknown loss {name!r}: choose from {', '.join(LOSSES)}")
        check_losses(self.losses, self.weights)
        if not self.losses:
            raise ValueError("losses needs at least one name")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing must lie in [0, 0.5), got {self.label_smoothing}")
        if "exo_pair" in self.losses and not self.label_smoothing:
            raise ValueError("the loss exo_pair needs label_smoothing above 0, such as 0.001")
        if self.loss_weights and len(self.loss_weights) != len(self.losses):
            raise ValueError(
                f"{len(self.losses)} losses need as many loss_weights, got {len(self.loss_weights)}"
            )
        if self.reference not in REFERENCES:
            raise ValueError(f"reference must be one of {', '.join(REFERENCES)}, got {self.reference!r}")


def small_steps() -> OptimisationConfig:
    return OptimisationConfig(learning_rate=1e-6, warmup=0, final=0.1, weight_decay=0.0)


@dataclass(frozen=True, kw_only=True)
class PreferenceStage:
    """`steps` optimiser steps on pairs of replies, `batch.rows` pairs each, `batch.micro_rows` of them at
    once, each row of at most `batch.length` ids."""

    kind: str = "preference"
    name: str = "dpo"
    steps: int = 200
    pairs: PairData
    batch: BatchConfig = field(default_factory=lambda: BatchConfig(rows=16, length=4096, micro_rows=4))
    optimisation: OptimisationConfig = field(default_factory=small_steps)
    parameters: ParameterConfig = field(default_factory=lambda: ParameterConfig(average=0.0))
    preference: PreferenceOptions = field(default_factory=PreferenceOptions)

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        if self.kind != "preference":
            raise ValueError(f"kind must be 'preference', got {self.kind!r}")
        if not self.name or "/" in self.name:
            raise ValueError(f"a stage needs a name without '/', got {self.name!r}")
        if self.optimisation.optimiser != "adamw":
            raise ValueError(f"stage {self.name!r}: preference tuning uses adamw")
        if "lora" in self.parameters.trains and self.parameters.trains != ("lora",):
            raise ValueError(
                f"stage {self.name!r}: lora is trained alone, so that the reference is without it"
            )

    def sources(self) -> list[str]:
        """Sources of the recipe that it mixes: none."""
        return []


def unrolled(stages: Sequence[Any]) -> tuple[Any, ...]:
    """Stages of several rounds as one stage a round, on further prompts each."""
    found: list[Any] = []
    for stage in stages:
        rounds = stage.pairs.rounds if stage.kind == "preference" else 1
        if rounds == 1:
            found.append(stage)
            continue
        for number in range(rounds):
            policy = stage.pairs.on_policy
            policy = replace(policy, first=policy.first + number * policy.samples)
            pairs = replace(stage.pairs, on_policy=policy, rounds=1)
            found.append(replace(stage, name=f"{stage.name}-{number + 1}", pairs=pairs))
    return tuple(found)
