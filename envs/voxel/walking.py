"""Where a player can walk: breadth-first search over the cells one can stand in."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from unified.envs.voxel.blocks import AIR, SOLID, WATER
from unified.envs.voxel.world import World

Cell = tuple[int, int, int]
MAX_FALL = 3


@dataclass(frozen=True)
class Reach:
    """Everything that can be walked to from one cell.

    cells [n, 3] int64 in the order of their distance, steps [n] int64, parents [n] index of the cell before.
    """

    cells: np.ndarray
    steps: np.ndarray
    parents: np.ndarray

    def path(self, index: int) -> list[Cell]:
        """The way from the start to cells[index], both included."""
        way = []
        while index >= 0:
            x, y, z = self.cells[index].tolist()
            way.append((x, y, z))
            index = int(self.parents[index])
        return way[::-1]


def reachable(
    world: World, start: Cell, *, swim: bool = False, diagonal: bool = True, fall: int = MAX_FALL
) -> Reach:
    """All cells that can be walked to from start: steps on a level, one up, up to `fall` down.

    swim also allows cells at the water's surface. The start itself is always part of the result.
    """
    if not world.inside(*start):
        raise ValueError(f"start must lie inside the world of size {world.size}, got {start}")
    cells, steps, parents = _flood(world.blocks, SOLID, *start, swim, diagonal, fall)
    return Reach(cells, steps, parents)


def cell_below(world: World, x: int, y: int, z: int) -> Cell:
    """The cell where something that falls from (x, y, z) comes to stand or to swim."""
    y = min(max(y, 1), world.size[1] - 1)
    while y > 1 and not SOLID[world.blocks[x, y - 1, z]] and world.blocks[x, y, z] != WATER:
        y -= 1
    return x, y, z


def surface_cell(world: World, x: int, z: int) -> Cell:
    """The open cell above the highest solid block or water of a column."""
    filled = np.nonzero(world.blocks[x, :, z] != AIR)[0]
    return x, int(filled.max(initial=-1)) + 1, z


@njit(cache=True)
def _standable(
    blocks: np.ndarray, solid: np.ndarray, x: int, y: int, z: int, swim: bool
) -> bool:  # pragma: no cover
    size_x, size_y, size_z = blocks.shape
    if x < 0 or z < 0 or x >= size_x or z >= size_z or y < 1 or y + 1 >= size_y:
        return False
    if solid[blocks[x, y, z]] or solid[blocks[x, y + 1, z]]:
        return False
    wet = blocks[x, y, z] == WATER
    if wet or blocks[x, y + 1, z] == WATER:
        return swim and wet and blocks[x, y + 1, z] != WATER
    return solid[blocks[x, y - 1, z]] != 0


@njit(cache=True)
def _clear(
    blocks: np.ndarray, solid: np.ndarray, x: int, low: int, high: int, z: int
) -> bool:  # pragma: no cover
    """Whether a column is free from low to high, both included."""
    if x < 0 or z < 0 or x >= blocks.shape[0] or z >= blocks.shape[2] or high >= blocks.shape[1]:
        return False
    for y in range(low, high + 1):  # noqa: SIM110 - compiled code knows no generators
        if solid[blocks[x, y, z]]:
            return False
    return True


@njit(cache=True)
def _landing(
    blocks: np.ndarray, solid: np.ndarray, x: int, y: int, z: int, dx: int, dz: int, swim: bool, deepest: int
) -> int:  # pragma: no cover
    """The y at which a step from (x, y, z) by (dx, dz) ends, or -1."""
    if dx != 0 and dz != 0:
        # Around a corner only on a level, with both sides open and safe.
        level = _standable(blocks, solid, x + dx, y, z, swim) and _standable(
            blocks, solid, x, y, z + dz, swim
        )
        return y if level and _standable(blocks, solid, x + dx, y, z + dz, swim) else -1
    if _standable(blocks, solid, x + dx, y, z + dz, swim):
        return y
    if _standable(blocks, solid, x + dx, y + 1, z + dz, swim):
        return y + 1 if _clear(blocks, solid, x, y + 2, y + 2, z) else -1
    for fall in range(1, deepest + 1):
        if _standable(blocks, solid, x + dx, y - fall, z + dz, swim):
            return y - fall if _clear(blocks, solid, x + dx, y - fall, y + 1, z + dz) else -1
    return -1


@njit(cache=True)
def _flood(
    blocks: np.ndarray, solid: np.ndarray, x: int, y: int, z: int, swim: bool, diagonal: bool, deepest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # pragma: no cover
    limit = blocks.size
    cells = np.empty((limit, 3), dtype=np.int64)
    steps = np.empty(limit, dtype=np.int64)
    parents = np.empty(limit, dtype=np.int64)
    seen = np.zeros(blocks.shape, dtype=np.bool_)
    cells[0, 0], cells[0, 1], cells[0, 2] = x, y, z
    steps[0], parents[0] = 0, -1
    seen[x, y, z] = True
    head, tail = 0, 1
    turns = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
    while head < tail:
        x, y, z = cells[head, 0], cells[head, 1], cells[head, 2]
        for number in range(8 if diagonal else 4):
            dx, dz = turns[number]
            landing = _landing(blocks, solid, x, y, z, dx, dz, swim, deepest)
            if landing < 0 or seen[x + dx, landing, z + dz]:
                continue
            seen[x + dx, landing, z + dz] = True
            cells[tail, 0], cells[tail, 1], cells[tail, 2] = x + dx, landing, z + dz
            steps[tail], parents[tail] = steps[head] + 1, head
            tail += 1
        head += 1
    return cells[:tail].copy(), steps[:tail].copy(), parents[:tail].copy()
