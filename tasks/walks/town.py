"""A town of blocks: crossings on a square lattice, the ground of each in a colour, houses between them.

A walker stands at a crossing, heads in one of four directions and goes from crossing to crossing. What he is
told is in words, "Turn left at the red crossing. Stop at the blue crossing.", and a scripted follower does
just what the words say: he goes straight on until he stands on the next colour that they name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from unified.envs.voxel.world import World

SIDE = 4  # crossings a side
SPACING = 3  # blocks from one to the next
EDGE = 2  # blocks around: a street, then a wall
BLOCKS = SPACING * (SIDE - 1) + 1 + 2 * EDGE
HEIGHT, FLOOR = 14, 8
COLOURS = ("red", "white", "green", "yellow", "grey", "brown", "cyan", "orange")
MATERIALS = (
    "bricks",
    "snow_block",
    "oak_leaves",
    "sand",
    "cobblestone",
    "oak_log",
    "diamond_ore",
    "oak_planks",
)
STEPS = ((0, 1), (-1, 0), (0, -1), (1, 0))  # x and z, for headings 0 to 3; a turn to the right is the next
TURNS = {"left": -1, "right": 1}
ORDER = re.compile(r"(?:Turn (left|right)|(Stop)) at the (\w+) crossing\.")
LONGEST = 12  # crossings that a follower passes before he gives up

Cell = tuple[int, int]


@dataclass(frozen=True)
class Stand:
    """At which crossing, heading where."""

    cell: Cell
    heading: int

    def ahead(self) -> Stand | None:
        """At the next crossing; None where the town ends."""
        x, z = (a + b for a, b in zip(self.cell, STEPS[self.heading], strict=True))
        return Stand((x, z), self.heading) if 0 <= x < SIDE and 0 <= z < SIDE else None

    def turned(self, turn: str) -> Stand:
        return Stand(self.cell, (self.heading + TURNS[turn]) % 4)


@dataclass(frozen=True)
class Route:
    """`stands`: at every crossing, heading where the walker then goes; `orders`: (turn, or "stop", and
    colour)."""

    stands: tuple[Stand, ...]
    orders: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        told = (f"Turn {what} at" if what != "stop" else "Stop at" for what, _ in self.orders)
        return " ".join(
            f"{one} the {colour} crossing." for one, (_, colour) in zip(told, self.orders, strict=True)
        )

    @property
    def length(self) -> int:
        """Crossings from start to end."""
        return len(self.stands) - 1


class Town:
    """`number` decides the colours; each is there twice."""

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng([23, number])
        self.number = number
        drawn = rng.permutation(np.arange(SIDE * SIDE) % len(COLOURS)).reshape(SIDE, SIDE)
        self.colours = [[COLOURS[n] for n in line] for line in drawn.tolist()]
        self._world: World | None = None

    def colour(self, cell: Cell) -> str:
        return self.colours[cell[0]][cell[1]]

    # Walking ------------------------------------------------------------------------------------------------

    def follow(self, start: Stand, text: str) -> tuple[Stand, ...]:
        """Where a follower of these words stands, crossing by crossing; he stops where they say so, where the
        town ends, and after LONGEST crossings."""
        orders = read_orders(text)
        stands, at = [start], start
        for _ in range(LONGEST):
            if not orders or (ahead := at.ahead()) is None:
                break
            at = ahead
            if self.colour(at.cell) == orders[0][1]:
                what = orders.pop(0)[0]
                if what == "stop":
                    stands.append(at)
                    break
                at = at.turned(what)
            stands.append(at)
        return tuple(stands)

    def routes(self, start: Stand, turns: int) -> list[Route]:
        """The shortest routes of so many turns from a start, one for each end; only those that a follower of
        their words walks."""
        found: dict[Stand, Route] = {}
        for route in sorted(self._walks(start, turns), key=lambda route: (route.length, route.orders)):
            found.setdefault(route.stands[-1], route)
        cells = [stand.cell for stand in found]
        return [
            route
            for end, route in found.items()
            if end.cell != start.cell and cells.count(end.cell) == 1
            if self.follow(start, route.text) == route.stands
        ]

    def _walks(self, start: Stand, turns: int) -> Iterator[Route]:
        at, stands = start, [start]
        while (ahead := at.ahead()) is not None:
            colour, at = self.colour(ahead.cell), ahead
            if not turns:
                yield Route((*stands, at), (("stop", colour),))
            else:
                for turn in TURNS:
                    for rest in self._walks(at.turned(turn), turns - 1):
                        yield Route((*stands, *rest.stands), ((turn, colour), *rest.orders))
            stands.append(at)

    # Looking ------------------------------------------------------------------------------------------------

    def view(self, stand: Stand, size: int) -> np.ndarray:
        """uint8 [size, size, 3]: what is seen from a block behind the crossing, so that its ground is seen
        too."""
        from unified.envs.voxel.render import View, draw_world

        dx, dz = STEPS[stand.heading]
        x, z = (EDGE + SPACING * n + 0.5 for n in stand.cell)
        eye = np.array([x - 1.3 * dx, FLOOR + 2.9, z - 1.3 * dz])
        seen = View(eye=eye, yaw=90.0 * stand.heading, pitch=32.0, field_of_view=75.0, distance=40.0)
        return draw_world(self._blocks(), seen, size, size)

    def _blocks(self) -> World:
        from unified.envs.voxel import blocks
        from unified.envs.voxel.world import World

        if self._world is None:
            cells = np.zeros((BLOCKS, HEIGHT, BLOCKS), np.uint8)
            cells[:, :FLOOR] = blocks.STONE
            cells[:, FLOOR] = blocks.PATH
            street = np.zeros(BLOCKS, bool)
            street[EDGE::SPACING] = True
            street[[1, -2]] = True
            street[[0, -1]] = False
            houses = ~(street[:, None] | street[None, :])
            houses[[0, -1]] = houses[:, [0, -1]] = True
            cells[:, FLOOR + 1][houses] = cells[:, FLOOR + 2][houses] = blocks.STONE
            for (i, j), colour in np.ndenumerate(np.array(self.colours)):
                material = MATERIALS[COLOURS.index(str(colour))]
                cells[EDGE + SPACING * i, FLOOR, EDGE + SPACING * j] = blocks.ID_OF[material]
            self._world = World(cells, self.number)
        return self._world


def read_orders(text: str) -> list[tuple[str, str]]:
    """The orders of words, in turn; what is no order is passed over."""
    return [(turn or "stop", colour) for turn, _, colour in ORDER.findall(text)]


def stand_of(data: Any) -> Stand:
    """From [x, z, heading]."""
    x, z, heading = data
    return Stand((int(x), int(z)), int(heading))
