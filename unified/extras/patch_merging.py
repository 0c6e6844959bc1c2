"""Patch merging: four codes as one input of the backbone, and one of its states as those of four codes.

Which codes share a position is data of the layout (`layout.patch_merging`); the vocabulary's `merge` decides
it. Compare the patch merger of Qwen2-VL, arXiv 2409.12191.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from unified.layout.patch_merging import SIDE, MergedLayout, MergedStep


class Merging(Protocol):
    """Between ids and the positions of the backbone. `side`: maps of this side or more are merged (0: none).
    B * T ids of a batch have B * P positions, the m slots of a step have n."""

    side: int

    def merge(self, inputs: Tensor, layout: MergedLayout | None) -> Tensor:
        """Inputs of ids [B, T, D] -> of positions [B, P, D]."""
        ...

    def split(self, hidden: Tensor, layout: MergedLayout | None) -> Tensor:
        """Hidden states of positions [B, P, D] -> of ids [B, T, D]."""
        ...

    def merge_step(self, inputs: Tensor, step: MergedStep) -> Tensor:
        """Inputs of the slots of a step [R, m, D] -> of its positions [R, n, D]."""
        ...

    def split_step(self, hidden: Tensor, step: MergedStep) -> Tensor:
        """Hidden states of the positions of a step [R, n, D] -> of its slots [R, m, D]."""
        ...


class Unmerged(nn.Module):
    """A position for every id."""

    side = 0

    def merge(self, inputs: Tensor, layout: MergedLayout | None) -> Tensor:
        return inputs

    def split(self, hidden: Tensor, layout: MergedLayout | None) -> Tensor:
        return hidden

    def merge_step(self, inputs: Tensor, step: MergedStep) -> Tensor:
        return inputs

    def split_step(self, hidden: Tensor, step: MergedStep) -> Tensor:
        return hidden


class PatchMerging(nn.Module):
    """Linear maps from 2 x 2 inputs to one, and from one state to 2 x 2."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.merger = nn.Linear(SIDE**2 * width, width, bias=False)
        self.splitter = nn.Linear(width, SIDE**2 * width, bias=False)

    @torch.no_grad()
    def initialise(self, std: float) -> None:
        """First weights: near half the sum of the four, and near four times the same."""
        width = self.merger.out_features
        for weight, part in ((self.merger.weight, 0.5), (self.splitter.weight, 1.0)):
            nn.init.normal_(weight, std=std)
            square = torch.eye(width).to(weight) * part
            weight.add_(square.repeat(1, SIDE**2) if weight.shape[0] == width else square.repeat(SIDE**2, 1))

    def merge(self, inputs: Tensor, layout: MergedLayout | None) -> Tensor:
        if layout is None:
            return inputs
        out = inputs.gather(1, layout.kept[..., None].expand(-1, -1, inputs.shape[-1]))
        merged = self._merged(inputs.flatten(0, 1)[layout.blocks]).to(out.dtype)
        return out.flatten(0, 1).index_put((layout.place,), merged).view_as(out)

    def split(self, hidden: Tensor, layout: MergedLayout | None) -> Tensor:
        if layout is None:
            return hidden
        out = hidden.gather(1, layout.position[..., None].expand(-1, -1, hidden.shape[-1]))
        parts = self._split(hidden.flatten(0, 1)[layout.place]).to(out.dtype)
        return out.flatten(0, 1).index_put((layout.blocks,), parts).view_as(out)

    def merge_step(self, inputs: Tensor, step: MergedStep) -> Tensor:
        if not len(step.place):
            return inputs
        step = step.to(inputs.device)
        out = inputs[:, step.kept]
        out[:, step.place] = self._merged(inputs[:, step.members])
        return out

    def split_step(self, hidden: Tensor, step: MergedStep) -> Tensor:
        if not len(step.place):
            return hidden
        step = step.to(hidden.device)
        out = hidden[:, step.position]
        out[:, step.members] = self._split(hidden[:, step.place])
        return out

    def _merged(self, codes: Tensor) -> Tensor:
        """[..., K, 4, D] -> [..., K, D]."""
        merged: Tensor = self.merger(codes.flatten(-2))
        return merged

    def _split(self, hidden: Tensor) -> Tensor:
        """[..., K, D] -> [..., K, 4, D]."""
        parts: Tensor = self.splitter(hidden)
        return parts.unflatten(-1, (SIDE**2, -1))


def merging_of(side: int, width: int) -> PatchMerging | Unmerged:
    """That of a vocabulary whose `merge` is `side`, for a backbone of this width."""
    return PatchMerging(width, side) if side else Unmerged()
