"""The block grid with its light, padded by one sentinel layer for the ray caster."""

import numpy as np
from numba import njit
from unified.envs.voxel.blocks import AIR, BLOCK_COUNT, CUTOUT, LIQUID, LOOK, OPAQUE, OUTSIDE
from unified.envs.voxel.terrain import generate, sea_level

FULL_LIGHT = 15


class World:
    """Blocks of a fixed box. cells, light: [x+2, y+2, z+2] uint8 with one layer of padding on every side.

    Light is sunlight only, a pure function of the blocks: 15 under the open sky, one less per block of the
    way around corners.
    """

    def __init__(self, blocks: np.ndarray, terrain_seed: int) -> None:
        check_blocks(blocks)
        self.terrain_seed = terrain_seed
        self.size: tuple[int, int, int] = blocks.shape
        self.sea_level = sea_level(blocks.shape[1])
        self.cells = np.pad(blocks, 1, constant_values=OUTSIDE)
        self.light = np.empty_like(self.cells)
        self.refresh_light()

    @classmethod
    def from_seed(cls, size: tuple[int, int, int], terrain_seed: int) -> "World":
        return cls(generate(size, terrain_seed), terrain_seed)

    @property
    def blocks(self) -> np.ndarray:
        """A view of the block ids without padding, [x, y, z] uint8. Call `refresh_light` after writing."""
        return self.cells[1:-1, 1:-1, 1:-1]

    def inside(self, x: int, y: int, z: int) -> bool:
        return 0 <= x < self.size[0] and 0 <= y < self.size[1] and 0 <= z < self.size[2]

    def set_block(self, x: int, y: int, z: int, block: int) -> None:
        self.blocks[x, y, z] = block
        self.refresh_light()

    def refresh_light(self) -> None:
        _spread_light(self.cells, self.light, LOOK)


def check_blocks(blocks: np.ndarray) -> None:
    """Raises ValueError unless blocks is a uint8 array [x, y, z] of known ids."""
    if not isinstance(blocks, np.ndarray) or blocks.dtype != np.uint8 or blocks.ndim != 3:
        raise ValueError("blocks must be a uint8 array of shape (x, y, z)")
    if blocks.max(initial=AIR) >= BLOCK_COUNT:
        raise ValueError(f"blocks holds the id {blocks.max()}, known ids are 0 to {BLOCK_COUNT - 1}")


@njit(cache=True)
def _spread_light(cells: np.ndarray, light: np.ndarray, look: np.ndarray) -> None:  # pragma: no cover
    """Fills light: straight down from the sky, then breadth first around corners."""
    size_x, size_y, size_z = cells.shape
    stride_x, stride_y = size_y * size_z, size_z
    flat, out = cells.ravel(), light.ravel()
    out[:] = 0
    queue = np.empty(flat.size * 2, dtype=np.int32)
    tail = 0
    for x in range(size_x):
        for z in range(size_z):
            level = FULL_LIGHT
            edge = x == 0 or z == 0 or x == size_x - 1 or z == size_z - 1
            for y in range(size_y - 1, -1, -1):
                index = x * stride_x + y * stride_y + z
                seen = look[flat[index]]
                if edge or y == size_y - 1:
                    out[index] = FULL_LIGHT
                    continue
                if seen == OPAQUE:
                    break
                if seen in (CUTOUT, LIQUID):
                    level = max(level - 1, 0)
                out[index] = level
    # Only lit cells beside a darker open cell can spread anything.
    for x in range(1, size_x - 1):
        for z in range(1, size_z - 1):
            for y in range(size_y - 2, 0, -1):
                index = x * stride_x + y * stride_y + z
                if out[index] == 0:
                    break
                level = out[index] - 1
                for step in (-stride_x, stride_x, -1, 1, -stride_y):
                    other = index + step
                    if out[other] < level and look[flat[other]] != OPAQUE:
                        queue[tail] = index
                        tail += 1
                        break
    head = 0
    while head < tail:
        index = queue[head]
        head += 1
        for step in (-stride_x, stride_x, -stride_y, stride_y, -1, 1):
            other = index + step
            seen = look[flat[other]]
            if seen == OPAQUE:
                continue
            level = out[index] - (2 if seen != 0 else 1)
            if level > out[other]:
                out[other] = level
                if tail < queue.size:
                    queue[tail] = other
                    tail += 1
