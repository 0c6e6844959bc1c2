"""A plan: how one image is written, computed from map sizes.

A slot is one code to be written. Every slot is *fed* what an operator makes of the embeddings of codes known
at earlier steps (nothing known yet: a learned start embedding), and its code is *read out* at one or more
positions: as a rule at the slot itself. So an order says which step a slot belongs to, what it is fed, where
it is read out, and which slots others will read later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from unified.orders.feeds import Feed
from unified.orders.read_outs import OWN, ReadGroup, ReadOuts
from unified.orders.resize import area as averaged
from unified.orders.shapes import Shapes, area
from unified.tokenizers.feeds import Maps


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a plan, as ascending slots on the CPU: those that the backbone is `run` on, and those whose
    codes are `decide`d. They differ where a slot is fed its own code; the first step then runs none."""

    run: Tensor
    decide: Tensor

    def to(self, device: torch.device | str) -> Step:
        """The same on a device, made once."""
        device = torch.device(device)
        return self if device.type == "cpu" else _moved(self, device)


@lru_cache(maxsize=4096)
def _moved(step: Step, device: torch.device) -> Step:
    return Step(step.run.to(device), step.decide.to(device))


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """`labels` [T]: the step (0, 1, ...) at which a slot's code becomes known. `feed`: what the slots are fed
    (`Feed`). `read` [R]: the slots whose codes form the READ part, with `read_shapes` its maps. `read_outs`:
    where each slot is predicted from, by default at itself. Slots follow the maps `shapes`, row by row.
    `order`: its name with its parameters, if it is registered, and `data` what else it was made from; such
    plans are sent to other processes by these, and each process makes its own once. Derived: the `count` of
    steps; `heads`, how many the read-outs need; `own`, whether every slot is read out at itself by head 0;
    all `slots` [T]; `sizes` [T, 2], height and width of the map each slot belongs to; the `maps`."""

    shapes: Shapes
    labels: Tensor
    feed: Feed
    read: Tensor
    read_shapes: Shapes
    read_outs: ReadOuts = OWN
    order: str = ""
    data: tuple[int, ...] = ()
    count: int = field(init=False)
    heads: int = field(init=False)
    own: bool = field(init=False)
    slots: Tensor = field(init=False)
    sizes: Tensor = field(init=False)
    maps: Maps = field(init=False)

    def __post_init__(self) -> None:
        slots = area(self.shapes)
        if self.read_outs is OWN:
            object.__setattr__(self, "read_outs", ReadOuts.at_slots(slots))
        if self.labels.shape != (slots,) or self.feed.starts.shape != (slots,):
            raise ValueError(f"a plan of {slots} slots needs labels [{slots}] and a feed of as many slots")
        if len(self.read) != area(self.read_shapes):
            raise ValueError(
                f"{len(self.read)} slots are read, but the maps {self.read_shapes} hold another number"
            )
        steps = self.labels.unique()
        if not torch.equal(steps, torch.arange(len(steps))):
            raise ValueError("the steps of a plan must be 0, 1, 2, ... without a gap")
        self.feed.check(self.labels)
        self.read_outs.check(self.labels, self.feed.lag)
        counts = torch.tensor([height * width for height, width in self.shapes])
        derived = {
            "count": len(steps),
            "heads": int(self.read_outs.head.max()) + 1,
            "own": self.read_outs.own,
            "slots": torch.arange(slots),
            "sizes": torch.tensor(self.shapes).repeat_interleave(counts, dim=0),
            "maps": Maps(self.shapes),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        from unified.orders import plan_for

        if not self.order:
            return super().__reduce_ex__(protocol)
        return (plan_for, (self.order, self.shapes, self.data))

    @property
    def length(self) -> int:
        return len(self.labels)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The ragged list that a decode loop walks through: each slot is decided once, and run once, `lag`
        steps of its feed later (past the last step: never)."""
        decided = self.labels.argsort(stable=True).split(self.labels.bincount().tolist())
        none = torch.zeros(0, dtype=torch.long)
        run = (*[none] * self.feed.lag, *decided)
        return tuple(Step(*pair) for pair in zip(run, decided, strict=False))

    @cached_property
    def read_groups(self) -> tuple[tuple[ReadGroup, ...], ...]:
        """Of each step, the slots that it decides by the heads that read them out."""
        return tuple(self.read_outs.groups(step.decide) for step in self.steps)

    @cached_property
    def coordinates(self) -> Tensor:
        """[T, 2] float: row and column on the last map's grid."""
        return spread(self.shapes)

    def at_slots(self, image: Tensor, slots: Tensor) -> Tensor:
        """A map of vectors [..., R, C] on the last map's grid, averaged over the place of each of the
        ascending slots [n], on the CPU: [..., n, C]."""
        parts = [image[..., :0, :]]
        for number, cells in self.maps.parts(slots):
            part = averaged(image, self.shapes[-1], self.shapes[number])
            parts.append(part if cells is None else part[..., cells.to(part.device), :])
        return parts[1] if len(parts) == 2 else torch.cat(parts, dim=-2)

    @property
    def map_slices(self) -> tuple[slice, ...]:
        """The slots of each map."""
        return self.maps.slices

    def step_shape(self, step: int) -> tuple[int, int]:
        """The map size of the slots that a step decides (the last slot's, should it span maps)."""
        return tuple(self.sizes[self.steps[step].decide[-1]].tolist())  # type: ignore[return-value]


Order = Callable[..., Plan]  # map sizes, and the order's own parameters -> a plan


def by_map(shapes: Shapes) -> Tensor:
    """Labels [T] of one step per map."""
    counts = torch.tensor([height * width for height, width in shapes])
    return torch.arange(len(shapes)).repeat_interleave(counts)


@lru_cache(maxsize=1024)
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
