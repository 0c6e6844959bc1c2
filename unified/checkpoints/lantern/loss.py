"""The training loss of LANTERN's drafter: features and tokens of the frozen target."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

EPS = 1e-5  # added to the number of targets
GUIDANCE = 3.0  # of the guided loss, on top of the conditional branch: an effective scale of 4


@dataclass(frozen=True)
class DrafterLoss:
    features: Tensor
    tokens: Tensor
    token_weight: float = 0.1

    @property
    def total(self) -> Tensor:
        return self.features + self.token_weight * self.tokens


def drafter_loss(
    output: Tensor, target: Tensor, head: Tensor, mask: Tensor, guidance: float | None = None
) -> DrafterLoss:
    """Smooth L1 of predicted hidden states, and cross-entropy with the target's distributions, both [B, T, D]
    and averaged by `mask` [B, T]; `head` [V, D]. With a `guidance` rows alternate between the conditional and
    the null branch, and distributions are those of c + guidance (c - null)."""
    smooth = F.smooth_l1_loss(output, target, reduction="none").mean(dim=-1)
    features = (smooth * mask).sum() / (mask.sum() + EPS)
    logits, wanted = output @ head.T, target @ head.T
    if guidance is not None:
        logits, wanted = (x[0::2] + guidance * (x[0::2] - x[1::2]) for x in (logits, wanted))
        mask = mask[0::2]
    entropy = (wanted.softmax(dim=-1) * logits.log_softmax(dim=-1)).sum(dim=-1)
    return DrafterLoss(features, -(entropy * mask).sum() / (mask.sum() + EPS))
