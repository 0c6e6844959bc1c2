"""What next-scale prediction feeds the slots of every map of codes, as operators on the codes' vectors.

`ResizeFeed`: the map before, resized (FlexVAR, arXiv 2502.20313). `ResidualFeed`: the running sum of all maps
before, brought to the map's size (VAR, arXiv 2404.02905). How a map is resized or added is a function that is
handed in: a tokenizer gives its own (VAR's has convolutions), `unified/orders` gives separable matrices. The
first map is fed nothing. Slots follow the maps, row by row.
`tests/unified/orders/test_feeds.py` compares with dense matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .resize import Shape

Resize = Callable[[Tensor, Shape, Shape], Tensor]  # vectors [..., h * w, C] of a map -> at another size
Lift = Callable[[Tensor, int], Tensor]  # vectors [..., h * w, C] of a map, its number -> [..., H * W, C]
Carry = dict[str, Any]  # what a feed keeps between the steps of one image; empty at its first step


class Maps:
    """Which slots belong to which map."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self.shapes = tuple(shapes)
        sizes = [height * width for height, width in shapes]
        ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
        self.slices = tuple(slice(end - size, end) for end, size in zip(ends, sizes, strict=True))
        self.length = ends[-1]
        self._whole = {(part.start, part.stop - 1): number for number, part in enumerate(self.slices)}

    def parts(self, slots: Tensor) -> list[tuple[int, Tensor | None]]:
        """Ascending slots [n] as parts of maps: (number of the map, cells within it, None for all)."""
        if len(slots) == self.length:
            return [(number, None) for number in range(len(self.slices))]
        if not len(slots):
            return []
        first, last = int(slots[0]), int(slots[-1])
        if (first, last) in self._whole and last - first + 1 == len(slots):
            return [(self._whole[first, last], None)]
        found = [(number, _within(slots, part)) for number, part in enumerate(self.slices)]
        return [(number, cells) for number, cells in found if cells is None or len(cells)]


def _within(slots: Tensor, part: slice) -> Tensor | None:
    """Cells of a map, None for all."""
    cells = slots[(slots >= part.start) & (slots < part.stop)] - part.start
    return None if len(cells) == part.stop - part.start else cells


class MapFeed:
    """A feed that goes map by map: a slot may need any code of the maps that its own is made from. `starts`
    [T] bool: the first map's slots, fed nothing (zeros). `lag` 0: inputs are derived from earlier steps only.
    """

    lag = 0

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self.maps = Maps(shapes)
        self.starts = torch.zeros(self.maps.length, dtype=torch.bool, device="cpu")
        self.starts[self.maps.slices[0]] = True

    @property
    def later(self) -> Tensor:
        """The slots of all maps but the first."""
        return torch.arange(self.maps.slices[0].stop, self.maps.length)

    def inputs(self, values: Tensor, slots: Tensor, carry: Carry | None = None) -> Tensor:
        """Vectors [..., T, C] of the codes known so far, ascending slots [n] on the CPU -> what they are fed
        [..., n, C], computed in float32 at least and of the values' dtype. `carry` spares a feed to compute
        at each step of an image what it had at the step before."""
        carry = {} if carry is None else carry
        parts = [self._part(values, number, cells, carry) for number, cells in self.maps.parts(slots)]
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts, dim=-2) if parts else values[..., :0, :]

    def _part(self, values: Tensor, number: int, cells: Tensor | None, carry: Carry) -> Tensor:
        if number == 0:
            count = self.maps.slices[0].stop if cells is None else len(cells)
            return values.new_zeros(*values.shape[:-2], count, values.shape[-1])
        fed = self.map_inputs(values, number, carry).to(values.dtype)
        return fed if cells is None else fed[..., cells.to(fed.device), :]

    def map_inputs(self, values: Tensor, number: int, carry: Carry) -> Tensor:
        """What all slots of a map but the first are fed [..., h * w, C], in float32 at least."""
        raise NotImplementedError

    def image(self, values: Tensor) -> Tensor:
        """Vectors [..., T, C] of all codes -> the finished image's map of vectors [..., H * W, C]."""
        raise NotImplementedError

    def check(self, labels: Tensor) -> None:
        """ValueError if, with these steps [T], a map is fed a code that is not known at an earlier step."""
        for number in range(1, len(self.maps.slices)):
            source, own = self.source(number), self.maps.slices[number]
            latest, first = labels[source].argmax(), labels[own].argmin()
            slot, fed = int(first) + own.start, int(latest) + source.start
            if labels[fed] >= labels[slot]:
                raise ValueError(f"slot {slot} is fed slot {fed}, which is not known at an earlier step")

    def source(self, number: int) -> slice:
        """The slots that a map is fed from."""
        raise NotImplementedError

    def vectors(self, values: Tensor, number: int) -> Tensor:
        """Those of one map [..., h * w, C], in float32 at least."""
        part = self.maps.slices[number]
        own = values.narrow(-2, part.start, part.stop - part.start)
        return own.to(torch.promote_types(own.dtype, torch.float32))


class ResizeFeed(MapFeed):
    """Every map is fed the map before it, resized to its size."""

    def __init__(self, shapes: Sequence[Shape], resize: Resize) -> None:
        super().__init__(shapes)
        self.resize = resize

    def map_inputs(self, values: Tensor, number: int, carry: Carry) -> Tensor:
        before, own = self.maps.shapes[number - 1], self.maps.shapes[number]
        return self.resize(self.vectors(values, number - 1), before, own)

    def image(self, values: Tensor) -> Tensor:
        return self.vectors(values, len(self.maps.shapes) - 1)

    def source(self, number: int) -> slice:
        return self.maps.slices[number - 1]


class ResidualFeed(MapFeed):
    """Every map is fed the sum of the maps before it, each lifted to the last one's size, brought down to its
    own by `lower`. `carry` keeps the sum and how many maps it holds."""

    def __init__(self, shapes: Sequence[Shape], lift: Lift, lower: Resize) -> None:
        super().__init__(shapes)
        self.lift, self.lower = lift, lower

    def map_inputs(self, values: Tensor, number: int, carry: Carry) -> Tensor:
        return self.lower(self.total(values, number, carry), self.maps.shapes[-1], self.maps.shapes[number])

    def image(self, values: Tensor) -> Tensor:
        return self.total(values, len(self.maps.shapes), {})

    def total(self, values: Tensor, count: int, carry: Carry) -> Tensor:
        """The sum [..., H * W, C] of the first `count` maps, of which there is at least one."""
        done, total = carry.get("sum", (0, None))
        if done > count:  # an earlier map is asked for again
            done, total = 0, None
        for number in range(done, count):
            more = self.lift(self.vectors(values, number), number)
            total = more if total is None else total + more
        carry["sum"] = (count, total)
        return total

    def source(self, number: int) -> slice:
        return slice(0, self.maps.slices[number].start)
