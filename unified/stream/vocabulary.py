"""One vocabulary for everything: text | special | visual | action, in this order of ids.

Special ids mark turns and images; an image's header spells its order and the sizes of its maps, so that the
ids alone say how it is laid out. The visual range may be huge (2**32 for 32-bit codes): no table has a row
for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from torch import Tensor

from unified.orders.shapes import Shape

CONTROL = ("pad", "begin", "system", "user", "assistant", "end", "part", "read", "write", "close")
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """How many ids of each sort there are. `orders` are the names of the orders an image may be written in;
    `max_side` is the longest side of a map of codes; an action is always `action_slots` ids long. With `fold`
    (0: never) every 2 x 2 codes of a map whose sides are at least that long take one position (`folding`)."""

    text: int = 256
    visual: int = 64
    action: int = 68
    action_slots: int = 11
    orders: tuple[str, ...] = ("next_scale", "residual", "raster", "diagonal")
    max_side: int = 64
    fold: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "orders", tuple(self.orders))
        for name, least in (
            ("text", 1),
            ("visual", 2),
            ("action", 0),
            ("action_slots", 1),
            ("max_side", 1),
            ("fold", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if len(set(self.orders)) != len(self.orders):
            raise ValueError(f"orders must differ from one another, got {self.orders}")

    # Ranges -------------------------------------------------------------------------------------------------

    @cached_property
    def special(self) -> dict[str, int]:
        """Every special id by name: the control words, `order:NAME` and `size:N`."""
        names = [*CONTROL, *(f"order:{name}" for name in self.orders)]
        names += [f"size:{side}" for side in range(1, self.max_side + 1)]
        return {name: self.text + number for number, name in enumerate(names)}

    @property
    def visual_start(self) -> int:
        return self.text + len(self.special)

    @property
    def action_start(self) -> int:
        return self.visual_start + self.visual

    @property
    def size(self) -> int:
        """Number of ids in all."""
        return self.action_start + self.action

    @property
    def table_size(self) -> int:
        """Rows of the embedding of everything that is not a visual code."""
        return self.size - self.visual

    def __getattr__(self, name: str) -> int:
        """Control ids as attributes: `vocabulary.begin`, `vocabulary.user`, ..."""
        if name in CONTROL:
            return self.special[name]
        raise AttributeError(name)

    def is_visual(self, ids: Tensor) -> Tensor:
        return (ids >= self.visual_start) & (ids < self.action_start)

    def table_rows(self, ids: Tensor) -> Tensor:
        """Rows of the non-visual table: text and special ids as they are, action ids moved down, visual ids
        0."""
        rows = ids.where(ids < self.action_start, ids - self.visual)
        return rows.masked_fill(self.is_visual(ids), 0)

    def id_of_row(self, rows: Tensor) -> Tensor:
        """The inverse of `table_rows`."""
        return rows.where(rows < self.visual_start, rows + self.visual)

    def name(self, token: int) -> str:
        """A readable name of one id, for messages and printing."""
        if token < 0 or token >= self.size:
            return f"unknown id {token}"
        if token < self.text:
            return f"text {token}"
        if token < self.visual_start:
            return f"<|{list(self.special)[token - self.text]}|>"
        if token < self.action_start:
            return f"visual code {token - self.visual_start}"
        return f"action id {token - self.action_start}"

    # Pieces of a stream -------------------------------------------------------------------------------------

    def sizes(self, shapes: Sequence[Shape]) -> list[int]:
        """The ids that spell map sizes: height and width of each."""
        return [self._side(side) for shape in shapes for side in shape]

    def open_write(self, order: str, shapes: Sequence[Shape]) -> list[int]:
        """The header of an image to be written: `write`, the order, the sizes of its maps."""
        if order not in self.orders:
            raise ValueError(f"order {order!r} is not in the vocabulary; it has {', '.join(self.orders)}")
        return [self.special["write"], self.special[f"order:{order}"], *self.sizes(shapes)]

    def read_segment(self, codes: Sequence[int], shapes: Sequence[Shape]) -> list[int]:
        """A whole READ segment from codes counted from 0."""
        return [self.special["read"], *self.sizes(shapes), *self.visual_ids(codes), self.special["close"]]

    def visual_ids(self, codes: Sequence[int]) -> list[int]:
        for number, code in enumerate(codes):
            if not 0 <= code < self.visual:
                raise ValueError(f"code {code} at slot {number} is outside 0..{self.visual - 1}")
        return [self.visual_start + int(code) for code in codes]

    def _side(self, side: int) -> int:
        if not 1 <= side <= self.max_side:
            raise ValueError(
                f"a map side of {side} is outside 1..{self.max_side} (max_side of the vocabulary)"
            )
        return self.special[f"size:{side}"]

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "orders": list(self.orders)}
