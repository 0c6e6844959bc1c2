"""Patch merging: every 2 x 2 codes of a large map share one position of the backbone.

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
from torch import Tensor

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


def blocks_of(shapes: Shapes, merge: int, plan: Plan | None = None) -> Blocks:
    """The blocks of a READ segment or, with a plan, of a WRITE segment. Maps of sides that are even and at
    least `merge` have them (0: none), if the codes of a block become known together."""
    return _blocks(shapes, merge, tuple(plan.labels.tolist()) if plan and merge else ())


@lru_cache(maxsize=256)
def _blocks(shapes: Shapes, merge: int, labels: tuple[int, ...]) -> Blocks:
    first, shift = np.arange(area(shapes)), np.zeros((area(shapes), 2), dtype=np.float32)
    known, found, start = np.array(labels), [np.zeros((0, SIDE**2), dtype=np.int64)], 0
    for height, width in shapes:
        if merge and min(height, width) >= merge and height % SIDE == width % SIDE == 0:
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


def positions_of(shapes: Shapes, merge: int) -> int:
    """How many positions a READ segment's codes take."""
    return blocks_of(shapes, merge).positions


@dataclass(frozen=True)
class MergedLayout:
    """A batch of rows of ids [B, T] as rows of positions [B, P], which begin together: `kept` [B, P], the id
    that each position stands at; `real` [B, P] bool, False where a shorter row is padded; `position` [B, T],
    the position of each id; blocks [K, 4], the ids of each as numbers into B * T, and `place` [K], the
    position as a number into B * P."""

    kept: Tensor
    real: Tensor
    position: Tensor
    blocks: Tensor
    place: Tensor

    @staticmethod
    def of(first: np.ndarray, blocks: Sequence[np.ndarray]) -> MergedLayout:
        """`first` [B, T]: the id at which each one's block stands; `blocks`: of each row, [k, 4]."""
        rows, length = first.shape
        stands = first == np.arange(length)
        count = stands.sum(axis=1)
        width = int(count.max())
        rank = np.cumsum(stands, axis=1) - 1
        position = np.take_along_axis(rank, first, axis=1)
        kept = np.zeros((rows, width), dtype=np.int64)
        row, column = stands.nonzero()
        kept[row, rank[row, column]] = column
        flat = np.concatenate([part + number * length for number, part in enumerate(blocks)])
        place = position.reshape(-1)[flat[:, 0]] + flat[:, 0] // length * width
        real = np.arange(width) < count[:, None]
        return MergedLayout(*(torch.from_numpy(x) for x in (kept, real, position, flat, place)))

    def to(self, device: torch.device | str) -> MergedLayout:
        return MergedLayout(
            *(x.to(device) for x in (self.kept, self.real, self.position, self.blocks, self.place))
        )

    def without(self, dropped: Tensor) -> MergedLayout:
        """The same without a position for ids [B, T] that are dropped, whole blocks at a time: their hidden
        states are then those of the id before, and no position sees them. On the processor, where batches are
        made."""
        length = self.position.shape[1]
        ids = torch.arange(length, device=self.position.device)
        first = self.kept.gather(1, self.position)
        stands = (first == ids) & ~dropped
        first = torch.where(dropped, torch.where(stands, ids, 0).cummax(dim=1).values, first)
        left = self.blocks[~dropped.flatten()[self.blocks[:, 0]]].numpy()
        blocks = [left[left[:, 0] // length == row] % length for row in range(len(first))]
        return MergedLayout.of(first.numpy(), blocks)

    def index(self, index: Index) -> Index:
        """[B, T] -> [B, P]."""
        kept = index.map(lambda field: field.gather(1, self.kept))
        return Index(kept.sample.masked_fill(~self.real, PADDING), kept.segment, kept.kind, kept.label)

    def positions(self, positions: Tensor) -> Tensor:
        """[3, B, T] -> [3, B, P]."""
        return positions.gather(2, self.kept.expand(3, -1, -1))


@dataclass(frozen=True, eq=False)
class MergedStep:
    """One step of a plan: `slots` [n], those that a position stands at; `kept` [n], their places among the
    step's slots; `position` [m], that of each of the step's slots; `members` [K, 4] among the step's
    slots and `place` [K] among its positions."""

    slots: Tensor
    kept: Tensor
    position: Tensor
    members: Tensor
    place: Tensor

    def to(self, device: torch.device) -> MergedStep:
        """The same on a device, made once."""
        return self if device.type == "cpu" else _moved(self, device)


@lru_cache(maxsize=4096)
def _moved(step: MergedStep, device: torch.device) -> MergedStep:
    fields = (step.slots, step.kept, step.position, step.members, step.place)
    return MergedStep(*(field.to(device) for field in fields))


@lru_cache(maxsize=512)
def merged_steps(plan: Plan, merge: int) -> tuple[MergedStep, ...]:
    """The slots that each step of a plan runs, in positions."""
    blocks = blocks_of(plan.shapes, merge, plan)
    return tuple(_merged_step(step.run.numpy(), blocks) for step in plan.steps)


def _merged_step(slots: np.ndarray, blocks: Blocks) -> MergedStep:
    first = np.searchsorted(slots, blocks.first[slots])
    stands = first == np.arange(len(slots))
    members = blocks.members[np.isin(blocks.members[:, 0], slots)]
    position = (np.cumsum(stands) - 1)[first]
    inside = np.searchsorted(slots, members)
    kept = stands.nonzero()[0]
    parts = (slots[kept], kept, position, inside, position[inside[:, 0]])
    return MergedStep(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))
