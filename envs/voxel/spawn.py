"""Where a player first stands: on dry open land from which a good part of the island can be walked to."""

import numpy as np
from unified.envs.voxel import physics as p
from unified.envs.voxel.blocks import DIRT, GRASS, GRAVEL, SAND, SNOW, STONE
from unified.envs.voxel.walking import Cell, reachable, surface_cell
from unified.envs.voxel.world import World

_GROUND = (DIRT, GRASS, GRAVEL, SAND, SNOW, STONE)
_TRIES = 40
_ROOMY = 0.1  # a place is good enough when this share of the plane can be walked to


def spawn_body(world: World, rng: np.random.Generator) -> np.ndarray:
    """A standing body [8] (see `physics`) at a random good place, looking somewhere."""
    x, y, z = _spawn_cell(world, rng)
    yaw = rng.uniform(-180.0, 180.0)
    body = np.zeros(8)
    body[[p.X, p.Y, p.Z, p.YAW, p.PITCH]] = (x + 0.5, y, z + 0.5, yaw, rng.uniform(0.0, 15.0))
    return body


def _spawn_cell(world: World, rng: np.random.Generator) -> Cell:
    width, _, depth = world.size
    best, best_room = surface_cell(world, width // 2, depth // 2), -1
    for _ in range(_TRIES):
        x = int(rng.integers(width // 4, width - width // 4))
        z = int(rng.integers(depth // 4, depth - depth // 4))
        cell = surface_cell(world, x, z)
        if cell[1] < 1 or world.blocks[x, cell[1] - 1, z] not in _GROUND:
            continue
        room = len(reachable(world, cell).cells)
        if room > best_room:
            best, best_room = cell, room
        if room >= _ROOMY * width * depth:
            break
    return best
