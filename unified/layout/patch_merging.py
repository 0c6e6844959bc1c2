"""Folding: every 2 x 2 codes of a large map share one position of the backbone.

Codes of one step are independent given earlier steps, so nothing is lost by predicting four of them from one
hidden state; what is saved is three quarters of the positions that an image takes. Ids, targets and
likelihoods stay one per code (compare the 2 x 2 patches of Infinity, arXiv 2412.04431, and the patch merger
of Qwen2-VL, arXiv 2409.12191).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from unified.layout.attention import PADDING, Index
from unified.orders.plan import Plan
from unified.orders.shapes import Shapes, area

SIDE = 2


@dataclass(frozen=True)
class Blocks:
    """Of one image: `first` [T], the slot at which a slot's block stands (its own if it is in none);
    `members` [K, 4], the slots of each block, row by row; `shift` [T, 2], from the first cell of a block to
    its middle."""

    first: np.ndarray
    members: np.ndarray
    shift: np.ndarray

    @property
    def positions(self) -> int:
        """How many positions the image takes."""
        return len(self.first) - (SIDE**2 - 1) * len(self.members)


def blocks_of(shapes: Shapes, fold: int, plan: Plan | None = None) -> Blocks:
    """The blocks of a READ segment or, with a plan, of a WRITE segment. Maps of sides that are even and at
    least `fold` have them (0: none), if the codes of a block become known together."""
    return _blocks(shapes, fold, tuple(plan.labels.tolist()) if plan and fold else ())


@lru_cache(maxsize=256)
def _blocks(shapes: Shapes, fold: int, labels: tuple[int, ...]) -> Blocks:
    first, shift = np.arange(area(shapes)), np.zeros((area(shapes), 2), dtype=np.float32)
    known, found, start = np.array(labels), [np.zeros((0, SIDE**2), dtype=np.int64)], 0
    for height, width in shapes:
        if fold and min(height, width) >= fold and height % SIDE == width % SIDE == 0:
            cells = np.arange(start, start + height * width)
            grid = (
                cells.reshape(height // SIDE, SIDE, width // SIDE, SIDE).swapaxes(1, 2).reshape(-1, SIDE**2)
            )
            if not labels or bool((known[grid] == known[grid[:, :1]]).all()):
                found.append(grid)
                first[grid] = grid[:, :1]
                shift[grid[:, 0]] = [
                    (SIDE - 1) / 2 * shapes[-1][0] / height,
                    (SIDE - 1) / 2 * shapes[-1][1] / width,
                ]
        start += height * width
    return Blocks(first, np.concatenate(found), shift)


def positions_of(shapes: Shapes, fold: int) -> int:
    """How many positions a READ segment's codes take."""
    return blocks_of(shapes, fold).positions


@dataclass(frozen=True)
class Folding:
    """A batch of rows of ids [B, T] as rows of positions [B, P], which begin together: `kept` [B, P], the id
    that each position stands at; `real` [B, P] bool, False where a shorter row is filled up; `slot` [B, T],
    the position of each id; blocks [K, 4], the ids of each as numbers into B * T, and `place` [K], the
    position as a number into B * P."""

    kept: Tensor
    real: Tensor
    slot: Tensor
    blocks: Tensor
    place: Tensor

    @staticmethod
    def of(first: np.ndarray, blocks: Sequence[np.ndarray]) -> Folding:
        """`first` [B, T]: the id at which each one's block stands; `blocks`: of each row, [k, 4]."""
        rows, length = first.shape
        stands = first == np.arange(length)
        count = stands.sum(axis=1)
        width = int(count.max())
        rank = np.cumsum(stands, axis=1) - 1
        slot = np.take_along_axis(rank, first, axis=1)
        kept = np.zeros((rows, width), dtype=np.int64)
        row, column = stands.nonzero()
        kept[row, rank[row, column]] = column
        flat = np.concatenate([part + number * length for number, part in enumerate(blocks)])
        place = slot.reshape(-1)[flat[:, 0]] + flat[:, 0] // length * width
        real = np.arange(width) < count[:, None]
        return Folding(*(torch.from_numpy(x) for x in (kept, real, slot, flat, place)))

    def to(self, device: torch.device | str) -> Folding:
        return Folding(*(x.to(device) for x in (self.kept, self.real, self.slot, self.blocks, self.place)))

    def without(self, dropped: Tensor) -> Folding:
        """The same without a position for ids [B, T] that are dropped, whole blocks at a time: their hidden
        states are then those of the id before, and no position sees them. On the processor, where batches are
        made."""
        length = self.slot.shape[1]
        ids = torch.arange(length, device=self.slot.device)
        first = self.kept.gather(1, self.slot)
        stands = (first == ids) & ~dropped
        first = torch.where(dropped, torch.where(stands, ids, 0).cummax(dim=1).values, first)
        left = self.blocks[~dropped.flatten()[self.blocks[:, 0]]].numpy()
        blocks = [left[left[:, 0] // length == row] % length for row in range(len(first))]
        return Folding.of(first.numpy(), blocks)

    def index(self, index: Index) -> Index:
        """[B, T] -> [B, P]."""
        kept = index.map(lambda field: field.gather(1, self.kept))
        return Index(kept.sample.masked_fill(~self.real, PADDING), kept.segment, kept.kind, kept.label)

    def positions(self, positions: Tensor) -> Tensor:
        """[3, B, T] -> [3, B, P]."""
        return positions.gather(2, self.kept.expand(3, -1, -1))


class Fold(nn.Module):
    """Four codes as one input vector, and one hidden state as the states of four codes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.merging = nn.Linear(SIDE**2 * width, width, bias=False)
        self.splitting = nn.Linear(width, SIDE**2 * width, bias=False)

    @torch.no_grad()
    def start(self, std: float) -> None:
        """First weights: near the mean of the four, and near four times the same."""
        width = len(self.merging.weight)
        for weight, part in ((self.merging.weight, 0.5), (self.splitting.weight, 1.0)):
            nn.init.normal_(weight, std=std)
            square = torch.eye(width).to(weight) * part
            weight.add_(square.repeat(1, SIDE**2) if weight.shape[0] == width else square.repeat(SIDE**2, 1))

    def merge(self, codes: Tensor) -> Tensor:
        """[..., K, 4, D] -> [..., K, D]."""
        return self.merging(codes.flatten(-2))

    def split(self, hidden: Tensor) -> Tensor:
        """[..., K, D] -> [..., K, 4, D]."""
        return self.splitting(hidden).unflatten(-1, (SIDE**2, -1))

    def fold(self, embeds: Tensor, folding: Folding) -> Tensor:
        """Inputs of ids [B, T, D] -> of positions [B, P, D]."""
        flat = embeds.flatten(0, 1)
        out = embeds.gather(1, folding.kept[..., None].expand(-1, -1, embeds.shape[-1]))
        merged = self.merge(flat[folding.blocks]).to(out.dtype)
        return out.flatten(0, 1).index_put((folding.place,), merged).view_as(out)

    def unfold(self, hidden: Tensor, folding: Folding) -> Tensor:
        """States of positions [B, P, D] -> of ids [B, T, D]."""
        out = hidden.gather(1, folding.slot[..., None].expand(-1, -1, hidden.shape[-1]))
        parts = self.split(hidden.flatten(0, 1)[folding.place]).to(out.dtype)
        return out.flatten(0, 1).index_put((folding.blocks,), parts).view_as(out)


@dataclass(frozen=True)
class FoldedStep:
    """One step of a plan: `slots` [n], those that a position stands at; `kept` [n], their places among the
    step's slots; `slot` [m], the position of each of the step's slots; `members` [K, 4] among the step's
    slots and `place` [K] among its positions."""

    slots: Tensor
    kept: Tensor
    slot: Tensor
    members: Tensor
    place: Tensor


@lru_cache(maxsize=512)
def folded_steps(plan: Plan, fold: int) -> tuple[FoldedStep, ...]:
    """The slots that each step of a plan runs, in positions."""
    blocks = blocks_of(plan.shapes, fold, plan)
    return tuple(_folded(step.run.numpy(), blocks) for step in plan.steps)


def _folded(slots: np.ndarray, blocks: Blocks) -> FoldedStep:
    first = np.searchsorted(slots, blocks.first[slots])
    stands = first == np.arange(len(slots))
    members = blocks.members[np.isin(blocks.members[:, 0], slots)]
    slot = (np.cumsum(stands) - 1)[first]
    inside = np.searchsorted(slots, members)
    kept = stands.nonzero()[0]
    parts = (slots[kept], kept, slot, inside, slot[inside[:, 0]])
    return FoldedStep(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))
