"""The released loss of FLASH's drafter, over k copies of the target's sequence."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

EPS = 1e-5  # added to the number of targets


@dataclass(frozen=True)
class FlashLoss:
    features: Tensor
    tokens: Tensor
    token_weight: float = 0.1

    @property
    def total(self) -> Tensor:
        return self.features + self.token_weight * self.tokens


def flash_loss(output: Tensor, target: Tensor, head: Tensor, mask: Tensor) -> FlashLoss:
    """output [B, k L, D] as `aligned` gives it, target hidden states [B, L, D] of the same positions, head
    [V, D], mask [B, L]. What fills the start of a copy counts where the mask is 1, as released."""
    copies = output.shape[1] // target.shape[1]
    target, mask = target.repeat(1, copies, 1), mask.repeat(1, copies)
    count = mask.sum() + EPS
    smooth = F.smooth_l1_loss(output, target, reduction="none").mean(dim=-1)
    wanted, found = (target @ head.T).softmax(dim=-1), (output @ head.T).log_softmax(dim=-1)
    entropy = (wanted * found).sum(dim=-1)
    return FlashLoss((smooth * mask).sum() / count, -(entropy * mask).sum() / count)
