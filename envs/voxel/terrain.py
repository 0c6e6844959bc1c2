"""An island from a seed: hills, lakes, beaches, trees, caves and ores, as an array of block ids."""

import numpy as np
from unified.envs.voxel import blocks as b
from unified.envs.voxel.noise import hashed, value_noise

TREE_SPACING = 5
SHORE = 7  # the land sinks into the sea over the last so many blocks


def sea_level(world_height: int) -> int:
    """The y of the highest water block."""
    return int(world_height * 0.4)


def generate(size: tuple[int, int, int], seed: int) -> np.ndarray:
    """The untouched world of a seed: block ids [x, y, z] uint8, y upwards."""
    ground = _ground_heights(size, seed)
    blocks = _layers(size, ground, seed)
    _place_ores(blocks, seed)
    _carve_caves(blocks, ground, seed)
    for x, z, trunk in _tree_places(blocks, ground, seed):
        plant_tree(blocks, x, ground[x, z] + 1, z, trunk)
    return blocks


def _ground_heights(size: tuple[int, int, int], seed: int) -> np.ndarray:
    """The y of the highest ground block, [x, z] int64."""
    width, height, depth = size
    plane, sea = (width, depth), sea_level(height)
    rolling = value_noise(plane, 22, seed + 1) * 2 - 1
    detail = value_noise(plane, 7, seed + 2) * 2 - 1
    mountain = np.clip(value_noise(plane, 30, seed + 3) * 2.4 - 1.1, 0, 1)
    ragged = value_noise(plane, 9, seed + 4)
    relief = height / 48
    land = sea + 2.6 + relief * (4.5 * rolling + 1.2 * detail + mountain * (6 + 6 * ragged))
    to_edge = np.minimum.outer(_distance_to_ends(width), _distance_to_ends(depth))
    weight = np.clip(to_edge / SHORE, 0, 1)
    weight = weight * weight * (3 - 2 * weight)
    heights = (sea - 5) * (1 - weight) + land * weight
    return np.clip(np.floor(heights), 3, height - 12).astype(np.int64)


def _distance_to_ends(length: int) -> np.ndarray:
    index = np.arange(length)
    return np.minimum(index, length - 1 - index).astype(np.float64)


def _layers(size: tuple[int, int, int], ground: np.ndarray, seed: int) -> np.ndarray:
    """Bedrock, stone, three blocks of soil, and water up to the sea level."""
    width, height, depth = size
    sea = sea_level(height)
    y = np.arange(height)[None, :, None]
    top = ground[:, None, :]
    blocks = np.zeros(size, dtype=np.uint8)
    blocks[y <= top] = b.STONE
    rough = value_noise((width, depth), 11, seed + 5)
    beach = (ground <= sea + (rough > 0.4))[:, None, :]
    gravel = ((ground < sea - 1) & (rough > 0.62))[:, None, :]
    soil = (y <= top) & (y > top - 4)
    blocks[soil] = b.DIRT
    blocks[soil & beach] = b.SAND
    blocks[soil & gravel] = b.GRAVEL
    peak = (ground > sea + 0.27 * height + 2 * rough)[:, None, :]
    blocks[soil & peak] = b.STONE
    surface = y == top
    blocks[surface & ~beach & ~peak] = b.GRASS
    blocks[surface & peak & (rough > 0.35)[:, None, :]] = b.SNOW
    blocks[(y > top) & (y <= sea)] = b.WATER
    blocks[:, 0, :] = b.BEDROCK
    return blocks


def _place_ores(blocks: np.ndarray, seed: int) -> None:
    height = blocks.shape[1]
    y = np.arange(height)[None, :, None]
    stone = blocks == b.STONE
    for ore, share, top, number in (
        (b.COAL_ORE, 0.8, height, 11),
        (b.IRON_ORE, 0.84, height * 0.35, 12),
        (b.DIAMOND_ORE, 0.88, height * 0.18, 13),
    ):
        lumps = value_noise(blocks.shape, 2.7, seed + number) > share
        blocks[stone & lumps & (y < top)] = ore


def _carve_caves(blocks: np.ndarray, ground: np.ndarray, seed: int) -> None:
    """Tunnels where two noises are both near their middle, halls where a third is high."""
    first = value_noise(blocks.shape, (15, 10, 15), seed + 21) - 0.5
    second = value_noise(blocks.shape, (15, 10, 15), seed + 22) - 0.5
    halls = value_noise(blocks.shape, (11, 7, 11), seed + 23) > 0.8
    hollow = (first * first + second * second < 0.006) | halls
    y = np.arange(blocks.shape[1])[None, :, None]
    # A cave opens to the day only on dry land, so that no water stands beside air.
    low = _lowest_nearby(ground)
    dry = low > sea_level(blocks.shape[1])
    roof = np.where(dry, ground + 1, low - 3)[:, None, :]
    blocks[hollow & (y > 1) & (y < roof) & (blocks != b.WATER)] = b.AIR


def _lowest_nearby(ground: np.ndarray) -> np.ndarray:
    """The lowest ground within two columns, [x, z]."""
    padded = np.pad(ground, 2, mode="edge")
    width, depth = ground.shape
    shifts = [padded[i : i + width, k : k + depth] for i in range(5) for k in range(5)]
    return np.minimum.reduce(shifts)


def _tree_places(blocks: np.ndarray, ground: np.ndarray, seed: int) -> list[tuple[int, int, int]]:
    """At most one tree per square of the plane: (x, z, trunk height)."""
    width, depth = ground.shape
    squares = (width // TREE_SPACING + 1, depth // TREE_SPACING + 1)
    jitter_x, jitter_z, chance, trunk = (hashed(squares, seed + 31 + k) for k in range(4))
    density = 0.15 + 0.75 * (value_noise(squares, 3, seed + 36) > 0.45)
    places = []
    for i, k in np.argwhere(chance < density):
        x = int(i) * TREE_SPACING + int(jitter_x[i, k] * (TREE_SPACING - 1))
        z = int(k) * TREE_SPACING + int(jitter_z[i, k] * (TREE_SPACING - 1))
        inside = 3 <= x < width - 3 and 3 <= z < depth - 3
        if inside and blocks[x, ground[x, z], z] == b.GRASS:
            places.append((x, z, 4 + int(trunk[i, k] * 2.5)))
    return places


def plant_tree(blocks: np.ndarray, x: int, y: int, z: int, trunk: int) -> None:
    """Puts an oak with its lowest log at (x, y, z) into blocks [x, y, z]; leaves fill only air."""
    top = y + trunk - 1
    for level, radius in ((top - 1, 2), (top, 2), (top + 1, 1), (top + 2, 1)):
        for dx in range(-radius, radius + 1):
            for dz in range(-radius, radius + 1):
                corner = abs(dx) == radius and abs(dz) == radius
                if corner and (radius == 2 or level == top + 2):
                    continue
                cell = (x + dx, level, z + dz)
                inside = all(0 <= c < n for c, n in zip(cell, blocks.shape, strict=True))
                if inside and blocks[cell] == b.AIR:
                    blocks[cell] = b.LEAVES
    blocks[x, y : y + trunk, z] = b.LOG
    if blocks[x, y - 1, z] == b.GRASS:
        blocks[x, y - 1, z] = b.DIRT
