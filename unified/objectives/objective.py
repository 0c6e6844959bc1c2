"""The interface of objectives. The training loop runs the model and, for objectives that ask for it, a
reference; an objective turns their scores into a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor

from unified.objectives.scores import Scores


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stands: `step` of `steps` optimiser steps, counted from 0, and the seed of the run. All
    micro-batches and processes of a step have the same, so what an objective draws from (seed, step) is one
    choice for the whole step, and the same after resuming."""

    step: int = 0
    steps: int = 1
    seed: int = 0

    @property
    def share(self) -> float:
        """Progress in [0, 1)."""
        return self.step / max(self.steps, 1)


@dataclass(frozen=True, kw_only=True)
class ObjectiveOutput:
    """`loss`: scalar float32, a mean over the micro-batch (gradient accumulation averages micro-batches).
    `logs`: scalars without gradient for the log, with the same names in every batch; the trainer reports
    their means."""

    loss: Tensor
    logs: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """Scores -> loss. A batch is a mapping with `input_ids`, `labels`, `weights`, `parts`, `tasks` (each [B,
    T]), `layout` and `rows`, the number of its rows that count (parallel training may add silent ones).

    `config_class`: the frozen dataclass that the constructor takes. `needs_reference`: whether a frozen
    reference scores the batch too. `needs_pairs`: whether rows 2i and 2i + 1 must be the preferred and the
    other reply to one prompt.
    """

    config_class: ClassVar[type]
    needs_reference: ClassVar[bool] = False
    needs_pairs: ClassVar[bool] = False
    needs_likelihood: ClassVar[bool] = True

    def prepare(self, batch: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """The batch to be scored: as it is, or with other rows. An entry `options` (a mapping) goes to the
        model's `forward`, of the policy and of the reference, as further arguments."""
        return batch

    def rolled_out(self, model: Callable[..., Any], batch: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """A further batch for the policy to score, made with the model of a prepared one; its `Scores` are
        then the entry `rolled_out` of the batch that `loss` is given. None: there is none."""
        return None

    def loss(self, policy: Scores, reference: Scores | None, batch: Mapping[str, Any]) -> ObjectiveOutput:
        """Loss of a prepared batch. `reference` has no gradient; None unless `needs_reference`."""
        ...


def log_ratios(name: str, policy: Scores, reference: Scores | None) -> Tensor:
    """log p(reply) - log p_reference(reply) of every sample of every row, [B, N]. ValueError, which names the
    objective, without a reference or for an odd number of rows, which cannot be pairs."""
    if reference is None or len(policy.log_probs) % 2:
        raise ValueError(
            f"{name} needs scores of a reference and an even number of rows, got {len(policy.log_probs)} "
            f"rows and {'no' if reference is None else 'a'} reference"
        )
    return policy.per_sample() - reference.per_sample()
