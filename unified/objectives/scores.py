"""What objectives see of a model: log-probabilities of the targets of packed rows, and their sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unified.layout.layout import IGNORED, Layout


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of B rows of T ids by one model; float32 where not said otherwise.

    `log_probs` [B, T]: log-probability of each target, 0 elsewhere. `targets` [B, T] bool: ids that are
    scored and have a weight. `weights` [B, T]: their factors on the loss, 0 elsewhere. `segment_sums` [B, S],
    `step_sums` [B, S, K]: the model's sums of `log_probs` by segment of the row and, for images that are
    written, by step; they count targets of weight 0 too. `sample`, `segment` and `step` [B, T] long: the
    sample (-1: padding) and the segment of each id, the step of a code in its image's plan (-1: no such
    code).
    """

    log_probs: Tensor
    targets: Tensor
    weights: Tensor
    segment_sums: Tensor
    step_sums: Tensor
    sample: Tensor
    segment: Tensor
    step: Tensor

    @staticmethod
    def of(
        output: Mapping[str, Any], layout: Layout, labels: Tensor, weights: Tensor | None = None
    ) -> Scores:
        """Of a `UnifiedOutput` for ids of this layout. `labels` [B, T]: IGNORED (-100) where a token is no
        target. `weights` [B, T], default 1 for every target."""
        scored = layout.predicted & (labels != IGNORED)
        weights = scored.float() if weights is None else weights * scored
        return Scores(
            log_probs=output["log_probs"].float(),
            targets=scored & (weights > 0),
            weights=weights,
            segment_sums=output["segment_sums"],
            step_sums=output["step_sums"],
            sample=layout.index.sample,
            segment=layout.index.segment,
            step=layout.step,
        )

    def per_sample(self) -> Tensor:
        """[B, N]: sums of the log-probabilities of targets by sample; column n belongs to number n of
        `sample`."""
        return self._by_sample(self.log_probs * self.targets)

    def per_segment(self) -> Tensor:
        """[B, S]: sums of the log-probabilities of targets by segment."""
        return self._summed(self.log_probs * self.targets, self.segment)

    def targets_per_sample(self) -> Tensor:
        """[B, N]: how many targets each sample has."""
        return self._by_sample(self.targets.float())

    def _by_sample(self, values: Tensor) -> Tensor:
        return self._summed(values, self.sample.clamp(min=0))  # padding has no targets: it adds nothing

    def _summed(self, values: Tensor, number: Tensor) -> Tensor:
        """[B, T] -> [B, largest number + 1]."""
        sums = torch.zeros(len(values), int(number.max()) + 1, device=values.device, dtype=values.dtype)
        return sums.scatter_add(1, number, values)
