"""TokenUnify's head for the next patch, and the losses of its mixture.

Source: arXiv 2405.16847, ydchen0806/TokenUnify. Parameter names are the published ones. In the release the
epoch never reaches the model, so that what should alternate does not.
"""

from __future__ import annotations

from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.state_dict import load_strict

PERIOD = 100  # epochs between switches of the alternating loss


class NextPatch(nn.Module):
    """What a backbone gives for a whole volume [B, 1, D, H, W], before the sigmoid -> the next patch [B, 1,
    p1, p2, p3] in (0, 1). `cells`: how many values three halvings leave of a volume."""

    def __init__(self, patch: tuple[int, int, int], cells: int, width: int = 12) -> None:
        super().__init__()
        self.patch = patch
        self.conv1 = nn.Conv3d(1, width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv3d(width, width, 3, stride=2, padding=1)
        self.conv3 = nn.Conv3d(width, 1, 3, stride=2, padding=1)
        self.mlp = nn.Linear(cells, prod(patch))

    def forward(self, volume: Tensor) -> Tensor:
        small = self.conv3(self.conv2(self.conv1(volume).relu()).relu()).flatten(1)
        if small.shape[1] != self.mlp.in_features:
            raise ValueError(
                f"the volume leaves {small.shape[1]} cells, the head takes {self.mlp.in_features}"
            )
        return self.mlp(small).sigmoid().view(-1, 1, *self.patch)


def loss_all(output: Tensor, clean: Tensor) -> Tensor:
    """The mean squared error of the whole volume, the part that was shown included."""
    return F.mse_loss(output.sigmoid(), clean)


def loss_next(predicted: Tensor, following: Tensor) -> Tensor:
    return F.mse_loss(predicted, following)


def alternated(epoch: int | None) -> str:
    """The loss, "next" or "all", of an epoch (None, as the release calls it: always "next")."""
    return "all" if epoch is not None and epoch // PERIOD % 2 else "next"


def joint(output: Tensor, predicted: Tensor, clean: Tensor, following: Tensor) -> Tensor:
    """Both with equal weights."""
    return loss_all(output, clean) + loss_next(predicted, following)


def load(state: dict[str, Tensor], patch: tuple[int, int, int]) -> NextPatch:
    """A head of published weights. ValueError if they do not fit."""
    missing = [name for name in ("conv1.weight", "mlp.weight") if name not in state]
    if missing:
        raise ValueError(f"the weights of the head lack {missing[0]}")
    head = NextPatch(patch, state["mlp.weight"].shape[1], len(state["conv1.weight"]))
    load_strict(head, state)
    return head.eval()


def enlarged(values: Tensor, factors: tuple[int, int, int]) -> Tensor:
    """Values [B, 1, d, h, w], each repeated along the three axes."""
    for axis, factor in enumerate(factors, 2):
        values = values.repeat_interleave(factor, dim=axis)
    return values


def summed(values: Tensor, factors: tuple[int, int, int]) -> Tensor:
    """The sums over the cells of `enlarged`."""
    return F.avg_pool3d(values, factors) * prod(factors)
