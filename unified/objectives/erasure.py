"""EAR: a concept is erased from a model of images, in windows of tokens and only where they are about it.

    target = neutral - eta (concept - neutral)          of a frozen reference
    loss   = mean over tokens of (policy under the concept's prompt - target)^2, in windows
Losses are summed over windows of consecutive tokens of an image, since single ones are noisy; a window whose
sum is at most a threshold has little to do with the concept and is left out. Window 1 with threshold 0 is the
plain mean. Fan et al., "EAR: erasing concepts from unified autoregressive models", arXiv 2506.20151. There
the quantities are last hidden states and every window is an optimiser step (`Window`;
`unified/checkpoints/ear_verify.py` compares with the release); here they are log-probabilities of codes that
the reference drew, and all windows of a batch make one step. The rest of an image that fills no window, which
the release drops, is a shorter window with a threshold in proportion. Tests:
tests/unified/objectives/test_erasure.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unified.finite import check_count, check_tree
from unified.objectives.objective import Objective, ObjectiveOutput
from unified.objectives.scores import Scores


@dataclass(frozen=True, kw_only=True)
class ErasureConfig:
    """`eta`: strength of the negative guidance (published: 1). `window`: tokens of one window (published: 48
    for objects, 100 for nudity, 12 for styles; 1 is off). `threshold`: the largest sum of a window that is
    left out (published: 0.05 for hidden states; 0 is off)."""

    eta: float = 1.0
    window: int = 48
    threshold: float = 0.05

    def __post_init__(self) -> None:
        check_tree(self)
        check_count("window", self.window, 1)
        if self.eta < 0 or self.threshold < 0:
            raise ValueError(f"eta and threshold must not be negative, got {self.eta}, {self.threshold}")


class Erasure(Objective):
    """Row 2i holds codes under the prompt with the concept, row 2i + 1 the same codes under the prompt
    without it: target number n of one row is compared with target number n of the other. ValueError where
    they differ in number. Logs the share of windows that are `kept` and the plain mean (`error`)."""

    config_class = ErasureConfig
    needs_reference = True
    needs_pairs = True

    def __init__(self, config: ErasureConfig | None = None) -> None:
        self.config = config or ErasureConfig()

    def loss(self, policy: Scores, reference: Scores | None, batch: Mapping[str, Any]) -> ObjectiveOutput:
        if reference is None or len(policy.log_probs) % 2:
            raise ValueError("Erasure needs scores of a reference and an even number of rows")
        total = policy.log_probs.new_zeros(())
        plain, kept, windows, count = total.detach(), 0, 0, 0
        for row in range(0, len(policy.log_probs), 2):
            targets, others = policy.targets[row], policy.targets[row + 1]
            if int(targets.sum()) != int(others.sum()):
                raise ValueError(f"rows {row} and {row + 1} must have equally many targets")
            concept = reference.log_probs[row][targets]
            neutral = reference.log_probs[row + 1][others]
            wanted = erasure_target(concept, neutral, neutral, self.config.eta)
            errors = (policy.log_probs[row][targets] - wanted.detach()).square()
            found = windowed(errors, self.config.window, self.config.threshold)
            total = total + found.total
            plain, count = plain + errors.detach().sum(), count + len(errors)
            kept, windows = kept + found.kept, windows + found.windows
        logs = {"kept": torch.tensor(kept / max(windows, 1)), "error": plain / max(count, 1)}
        return ObjectiveOutput(loss=total / max(count, 1), logs=logs)


def erasure_target(concept: Tensor, neutral: Tensor, start: Tensor, eta: float) -> Tensor:
    """What the concept's prompt is to give: `start` less eta times what the concept adds."""
    return start - eta * (concept - neutral)


@dataclass(frozen=True)
class Windowed:
    """`total`: sum of the losses of the windows that were kept, so many of `windows`."""

    total: Tensor
    kept: int
    windows: int


def windowed(losses: Tensor, length: int, threshold: float) -> Windowed:
    """Of losses [N] in windows of `length`; of a shorter last one the threshold is in proportion."""
    parts = losses.split(length)
    keeps = [float(part.detach().sum()) > threshold * len(part) / length for part in parts]
    mask = [torch.full_like(part, float(keep)) for part, keep in zip(parts, keeps, strict=True)]
    total = (losses * torch.cat(mask)).sum() if len(losses) else losses.sum()
    return Windowed(total, sum(keeps), len(parts) if len(losses) else 0)


class Window:
    """Losses of one token after another: those of a whole window, if they are to be a step."""

    def __init__(self, length: int, threshold: float) -> None:
        self.length, self.threshold = length, threshold
        self.reset()

    def reset(self) -> None:
        """Forget what the window holds."""
        self.count, self.sum = 0, torch.zeros(())

    def add(self, loss: Tensor) -> Tensor | None:
        """The sum of the window that this loss fills, else None."""
        self.sum, self.count = self.sum + loss, self.count + 1
        if self.count < self.length:
            return None
        found = self.sum
        self.reset()
        return found

    def steps(self, total: Tensor) -> bool:
        """Whether a window of this sum makes an optimiser step."""
        return float(total.detach()) > self.threshold
