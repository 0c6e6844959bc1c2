"""The released training loss of LANTERN's drafter, with and without guidance."""

from __future__ import annotations

from torch import Tensor

from unified.decoding.strategies.feature_draft import FeatureLoss, feature_loss

GUIDANCE = 3.0  # of the guided loss, on top of the conditional branch: an effective scale of 4


def drafter_loss(
    output: Tensor, target: Tensor, head: Tensor, mask: Tensor, guidance: float | None = None
) -> FeatureLoss:
    """Predicted and true hidden states [B, T, D], both averaged by `mask` [B, T]; `head` [V, D]. With a
    `guidance` rows alternate between the conditional and the null branch, and distributions are those of c +
    guidance (c - null)."""
    logits, wanted = output @ head.T, target @ head.T
    if guidance is None:
        return feature_loss(output, target, logits, wanted, mask)
    logits, wanted = (x[0::2] + guidance * (x[0::2] - x[1::2]) for x in (logits, wanted))
    return feature_loss(output, target, logits, wanted, mask, mask[0::2])
