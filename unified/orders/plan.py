"""A plan: how one image is written, as pure data computed from map sizes.

A slot is one code to be written. Every slot is *fed* a linear combination of the embeddings of codes known at
earlier steps (nothing known yet: a learned start embedding) and its own code is read out at the slot itself.
So an order is three tables: which step a slot belongs to, what it is fed, and which slots others will read
later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from unified.orders.resize import resize_matrix
from unified.orders.shapes import Shapes, area


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """`labels` [T]: the step (0, 1, ...) at which a slot's code becomes known. `feed` [T, T]: row i holds the
    weights over the codes' embeddings that slot i is fed; a row of zeros is fed the start embedding. `read`
    [R]: the slots whose codes form the READ part, with `read_shapes` its maps. Slots follow the maps
    `shapes`, row by row. `order`: its name, if it is registered under one; such plans are sent to other
    processes by name, and each process makes its own once."""

    shapes: Shapes
    labels: Tensor
    feed: Tensor
    read: Tensor
    read_shapes: Shapes
    order: str = ""

    def __post_init__(self) -> None:
        slots = area(self.shapes)
        if self.labels.shape != (slots,) or self.feed.shape != (slots, slots):
            raise ValueError(f"a plan of {slots} slots needs labels [{slots}] and feed [{slots}, {slots}]")
        if len(self.read) != area(self.read_shapes):
            raise ValueError(
                f"{len(self.read)} slots are read, but the maps {self.read_shapes} hold another number"
            )
        if sorted(set(self.labels.tolist())) != list(range(int(self.labels.max()) + 1)):
            raise ValueError("the steps of a plan must be 0, 1, 2, ... without a gap")
        leaks = (self.feed != 0) & (self.labels[None, :] >= self.labels[:, None])
        if leaks.any():
            slot, source = leaks.nonzero()[0].tolist()
            raise ValueError(f"slot {slot} is fed slot {source}, which is not known at an earlier step")

    def __reduce_ex__(self, protocol: Any) -> Any:
        from unified.orders import plan_for

        return (plan_for, (self.order, self.shapes)) if self.order else super().__reduce_ex__(protocol)

    @property
    def length(self) -> int:
        return len(self.labels)

    @cached_property
    def steps(self) -> tuple[Tensor, ...]:
        """The slots of each step, in slot order: the ragged list that a decode loop walks through."""
        return tuple((self.labels == step).nonzero().flatten() for step in range(int(self.labels.max()) + 1))

    @cached_property
    def starts(self) -> Tensor:
        """[T] bool: slots that are fed the start embedding."""
        return (self.feed == 0).all(dim=1)

    @cached_property
    def sizes(self) -> Tensor:
        """[T, 2]: height and width of the map each slot belongs to."""
        return torch.tensor([shape for shape in self.shapes for _ in range(shape[0] * shape[1])])

    @cached_property
    def coordinates(self) -> Tensor:
        """[T, 2] float: row and column on the last map's grid."""
        return spread(self.shapes)

    @cached_property
    def places(self) -> Tensor:
        """[T, R] float: row i averages the codes of a map of the last one's size over the place of slot i."""
        return torch.cat([resize_matrix(self.shapes[-1], shape, "area") for shape in self.shapes])

    @cached_property
    def map_slices(self) -> tuple[slice, ...]:
        """The slots of each map."""
        ends = [area(self.shapes[: number + 1]) for number in range(len(self.shapes))]
        return tuple(slice(end - h * w, end) for end, (h, w) in zip(ends, self.shapes, strict=True))

    def step_shape(self, step: int) -> tuple[int, int]:
        """The map size of the step's slots (the last slot's, should a step span maps)."""
        return tuple(self.sizes[self.steps[step][-1]].tolist())  # type: ignore[return-value]


Order = Callable[[Shapes], Plan]


def spread(shapes: Shapes) -> Tensor:
    """[T, 2] float: where each cell of each map lies on the last map's grid, so that the same place of the
    image has the same coordinates at every scale. Cell centres are matched: row r of h lies at (r + 1/2) H/h
    - 1/2."""
    height, width = shapes[-1]
    cells = [_cells(h, height)[:, None].expand(h, w) for h, w in shapes]
    columns = [_cells(w, width)[None, :].expand(h, w) for h, w in shapes]
    rows = torch.cat([cell.flatten() for cell in cells])
    return torch.stack([rows, torch.cat([column.flatten() for column in columns])], dim=-1)


def _cells(count: int, total: int) -> Tensor:
    return (torch.arange(count, dtype=torch.float32) + 0.5) * (total / count) - 0.5
