"""Sixteen-pixel drawings for the faces of blocks, made from hashed noise: the same bytes everywhere.

`TILES` [level, tile, 16, 16, 4] uint8 holds every drawing at five levels of blur (level k averages squares of
2^k pixels) so that far blocks do not flicker; channel 3 is 0 where a leaf lets the view through.
"""

from collections.abc import Callable

import numpy as np
from unified.envs.voxel.blocks import BLOCKS
from unified.envs.voxel.noise import hashed, value_noise

SIZE = 16
LEVELS = 5
CRACK_STAGES = 8


def _grain(seed: int) -> np.ndarray:
    """Independent noise per pixel, [16, 16] in [0, 1)."""
    return hashed((SIZE, SIZE), seed)


def _colour(rgb: tuple[int, int, int], brightness: np.ndarray) -> np.ndarray:
    """A colour times a brightness per pixel [16, 16] -> [16, 16, 3] float."""
    return np.asarray(rgb, dtype=np.float64) * brightness[..., None]


def _speckled(rgb: tuple[int, int, int], seed: int, contrast: float = 0.25) -> np.ndarray:
    blotches = value_noise((SIZE, SIZE), 4, seed + 1)
    return _colour(rgb, 1 - contrast + contrast * (1.2 * _grain(seed) + 0.8 * blotches))


def _stone() -> np.ndarray:
    tile = _speckled((134, 134, 138), 21, 0.14)
    rows = np.arange(SIZE)[:, None]
    streaks = hashed((SIZE, SIZE // 4), 23).repeat(4, axis=1) > 0.86
    tile[streaks & (rows % 2 == 1)] *= 0.82
    return tile


def _cells(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Voronoi cells on a torus: (nearest cell index, gap to the second nearest), each [16, 16]."""
    centres = hashed((count, 2), seed) * SIZE
    grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij"), axis=-1) + 0.5
    offset = np.abs(grid[:, :, None, :] - centres)
    offset = np.minimum(offset, SIZE - offset)
    distance = np.sqrt((offset**2).sum(axis=-1))
    ordered = np.sort(distance, axis=-1)
    return distance.argmin(axis=-1), ordered[..., 1] - ordered[..., 0]


def _pebbles(rgb: tuple[int, int, int], count: int, seed: int, joint: float = 0.5) -> np.ndarray:
    index, gap = _cells(count, seed)
    shade = 0.72 + 0.4 * hashed((count,), seed + 1)[index] + 0.08 * _grain(seed + 2)
    return _colour(rgb, np.where(gap < 0.9, joint, shade))


def _ore(rgb: tuple[int, int, int], seed: int) -> np.ndarray:
    tile = _stone()
    spots = value_noise((SIZE, SIZE), 3, seed) > 0.66
    tile[spots] = _colour(rgb, 0.8 + 0.35 * _grain(seed + 1))[spots]
    rim = np.roll(spots, (1, 1), axis=(0, 1)) & ~spots
    tile[rim] *= 0.6
    return tile


def _grass_side() -> np.ndarray:
    tile = _speckled((134, 96, 67), 11, 0.3)
    depth = 3 + (hashed((SIZE,), 12) * 3).astype(int)  # the fringe hangs down 3 to 5 pixels
    fringe = np.arange(SIZE)[:, None] < depth[None, :]
    tile[fringe] = _speckled((104, 168, 62), 10, 0.3)[fringe]
    return tile


def _log_side() -> np.ndarray:
    bark = hashed((1, SIZE), 31).repeat(SIZE, axis=0)
    knots = hashed((SIZE // 4, SIZE), 32).repeat(4, axis=0)
    return _colour((112, 86, 52), 0.62 + 0.3 * bark + 0.2 * knots)


def _log_top() -> np.ndarray:
    axis = np.abs(np.arange(SIZE) - 7.5)
    ring = np.maximum(axis[:, None], axis[None, :]).astype(int)
    tile = _colour((186, 148, 92), 0.8 + 0.2 * (ring % 2) + 0.06 * _grain(33))
    tile[ring == 7] = _colour((104, 80, 48), 0.8 + 0.3 * _grain(34))[ring == 7]
    return tile


def _leaves() -> np.ndarray:
    tile = np.concatenate([_speckled((70, 132, 44), 41, 0.5), np.full((SIZE, SIZE, 1), 255.0)], axis=-1)
    tile[_grain(43) < 0.16, 3] = 0
    return tile


def _boards(rgb: tuple[int, int, int]) -> np.ndarray:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    shade = 0.86 + 0.12 * hashed((4, 1), 51).repeat(4, axis=0) + 0.1 * hashed((SIZE, 4), 52).repeat(4, axis=1)
    shade[rows % 4 == 3] *= 0.66
    shade[(columns == (rows // 4 * 7 + 3) % SIZE) & (rows % 4 != 3)] *= 0.72
    return _colour(rgb, shade)


def _bricks() -> np.ndarray:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    shifted = (columns + (rows // 4 % 2) * 4) % SIZE
    tile = _colour(
        (166, 84, 66), 0.82 + 0.28 * hashed((4, 2), 61)[rows // 4, shifted // 8] + 0.1 * _grain(62)
    )
    mortar = (rows % 4 == 3) | (shifted % 8 == 7)
    tile[mortar] = _colour((188, 180, 168), 0.9 + 0.1 * _grain(63))[mortar]
    return tile


def _marker(top: bool) -> np.ndarray:
    axis = np.abs(np.arange(SIZE) - 7.5).astype(int)
    ring = np.maximum(axis[:, None], axis[None, :]) if top else axis[:, None].repeat(SIZE, axis=1)
    red, white = np.array([226.0, 34, 40]), np.array([250.0, 244, 236])
    return np.where((ring // 3 % 2 == 0)[..., None], white, red)


def _path_side() -> np.ndarray:
    tile = _speckled((134, 96, 67), 11, 0.3)
    tile[:3] = _speckled((214, 178, 88), 71, 0.2)[:3]
    return tile


DRAWINGS: dict[str, Callable[[], np.ndarray]] = {
    "grass_top": lambda: _speckled((104, 168, 62), 10, 0.3),
    "grass_side": _grass_side,
    "dirt": lambda: _speckled((134, 96, 67), 11, 0.3),
    "stone": _stone,
    "sand": lambda: _speckled((222, 208, 158), 15, 0.12),
    "log_top": _log_top,
    "log_side": _log_side,
    "leaves": _leaves,
    "water": lambda: _colour((54, 104, 206), 0.85 + 0.3 * value_noise((SIZE, SIZE), (2, 6), 81)),
    "planks": lambda: _boards((178, 142, 88)),
    "cobblestone": lambda: _pebbles((138, 138, 140), 14, 91),
    "gravel": lambda: _pebbles((142, 134, 130), 40, 95, joint=0.7),
    "coal_ore": lambda: _ore((44, 44, 46), 101),
    "iron_ore": lambda: _ore((216, 170, 140), 105),
    "diamond_ore": lambda: _ore((92, 228, 222), 109),
    "snow": lambda: _speckled((240, 248, 252), 111, 0.06),
    "bedrock": lambda: _pebbles((92, 92, 94), 12, 115, joint=0.3),
    "marker_top": lambda: _marker(top=True),
    "marker_side": lambda: _marker(top=False),
    "path_top": lambda: _pebbles((222, 184, 92), 16, 121, joint=0.72),
    "path_side": _path_side,
    "bricks": _bricks,
}
TILE_NAMES = tuple(DRAWINGS)


def _with_alpha(tile: np.ndarray) -> np.ndarray:
    if tile.shape[-1] == 3:
        tile = np.concatenate([tile, np.full((SIZE, SIZE, 1), 255.0)], axis=-1)
    return np.clip(tile, 0, 255)


def _blurred(tile: np.ndarray, level: int) -> np.ndarray:
    """Averages squares of 2^level pixels. tile [16, 16, 4]; any square with a solid pixel is solid."""
    step = 2**level
    if level == 0:
        return tile
    squares = tile.reshape(SIZE // step, step, SIZE // step, step, 4)
    weight = squares[..., 3:] / 255
    colour = (squares[..., :3] * weight).sum(axis=(1, 3)) / np.maximum(weight.sum(axis=(1, 3)), 1e-9)
    # Seen from afar the gaps in leaves are dark, so blurred leaves are a little darker.
    colour *= 0.8 + 0.2 * weight.mean(axis=(1, 3))
    opaque = np.full((*colour.shape[:2], 1), 255.0)
    return np.concatenate([colour, opaque], axis=-1).repeat(step, axis=0).repeat(step, axis=1)


def _draw_tiles() -> np.ndarray:
    drawn = [_with_alpha(draw()) for draw in DRAWINGS.values()]
    levels = [[_blurred(tile, level) for tile in drawn] for level in range(LEVELS)]
    return np.ascontiguousarray(np.array(levels).round().astype(np.uint8))


def _tile_of_faces() -> np.ndarray:
    """Tile index per block and face, [256, 3] uint8; face 0 side, 1 top, 2 bottom."""
    table = np.zeros((256, 3), dtype=np.uint8)
    for block in BLOCKS:
        # A log is the same at both ends; everything without a drawing of its own looks like its top.
        faces = (block.side or block.tile, block.tile, block.bottom or block.tile)
        table[block.id] = [TILE_NAMES.index(name) for name in faces]
    return table


def _draw_cracks() -> np.ndarray:
    """Growing cracks, [8, 16, 16] uint8: 1 where the block looks broken at that stage."""
    _, gap = _cells(9, 131)
    distance = np.abs(np.arange(SIZE) - 7.5)
    reach = np.maximum(distance[:, None], distance[None, :]) / 8
    return np.stack(
        [(gap < 1.3) & (reach + 0.4 * _grain(132) < (stage + 2) / 7) for stage in range(CRACK_STAGES)]
    ).astype(np.uint8)


TILES = _draw_tiles()
FACE_TILES = _tile_of_faces()
CRACKS = _draw_cracks()
