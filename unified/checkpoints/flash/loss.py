"""The released loss of FLASH's drafter, over k copies of the target's sequence."""

from __future__ import annotations

from torch import Tensor

from unified.decoding.strategies.feature_draft import FeatureLoss, feature_loss


def flash_loss(output: Tensor, target: Tensor, head: Tensor, mask: Tensor) -> FeatureLoss:
    """output [B, k L, D] as `aligned` gives it, target hidden states [B, L, D] of the same positions, head
    [V, D], mask [B, L]. What fills the start of a copy counts where the mask is 1, as released."""
    copies = output.shape[1] // target.shape[1]
    target, mask = target.repeat(1, copies, 1), mask.repeat(1, copies)
    return feature_loss(output, target, output @ head.T, target @ head.T, mask)
