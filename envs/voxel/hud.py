"""What lies over the picture: crosshair, hand or held block, hotbar with counts, inventory panel.

Everything scales with the picture; below 55 pixels of width there is no room for a hotbar and none is drawn.
"""

import math
from functools import lru_cache

import numpy as np
from numba import njit
from unified.envs.voxel.blocks import AIR
from unified.envs.voxel.inventory import Inventory
from unified.envs.voxel.textures import FACE_TILES, TILES

SWING_TICKS = 6
_SMALLEST_SLOT = 6
_SKIN = (216.0, 164.0, 128.0)
_GLYPHS = {
    "0": "111101101101111", "1": "010110010010111", "2": "111001111100111", "3": "111001111001111",
    "4": "101101111001001", "5": "111100111001111", "6": "111100111101111", "7": "111001001010010",
    "8": "111101111101111", "9": "111101111001111",
}  # fmt: skip


def draw_hud(frame: np.ndarray, inventory: Inventory, swing: int, gui_open: bool) -> None:
    """Draws over frame [H, W, 3] uint8 in place. swing counts down from `SWING_TICKS` during a blow."""
    height, width = frame.shape[:2]
    if gui_open:
        _draw_panel(frame, inventory)
        return
    _draw_hand(frame, inventory.held, swing)
    _draw_crosshair(frame)
    slot = _slot_size(width, height)
    if slot:
        carried = tuple((int(block), inventory.count(int(block))) for block in inventory.hotbar)
        strip = _slots(carried, inventory.selected, slot)
        _blend(frame, strip, height - strip.shape[0] - (height >= 120), (width - strip.shape[1]) // 2)


def _slot_size(width: int, height: int) -> int:
    """Pixels per hotbar slot, 0 where there is no room."""
    slot = min(max(_SMALLEST_SLOT, height // 16), (width - 1) // 9)
    return slot if slot >= _SMALLEST_SLOT else 0


def _draw_crosshair(frame: np.ndarray) -> None:
    height, width = frame.shape[:2]
    arm, thick = max(2, height // 45), max(1, height // 180)
    row, column = (height - thick) // 2, (width - thick) // 2
    across = frame[row : row + thick, column - arm : column + arm + thick]
    down = frame[row - arm : row + arm + thick, column : column + thick]
    contrast = np.where(frame[row, column].mean() > 140, 40, 240).astype(np.uint8)
    across[:] = contrast
    down[:] = contrast


def _draw_hand(frame: np.ndarray, held: int, swing: int) -> None:
    height, width = frame.shape[:2]
    size = max(8, int(height * (0.42 if held == AIR else 0.36)))
    sprite = _arm(size) if held == AIR else _cube(held, size)
    phase = math.pi * swing / SWING_TICKS
    left, up = int(0.16 * height * math.sin(phase)), int(0.1 * height * math.sin(phase))
    down, across = (0.66, 0.85) if held == AIR else (0.84, 1.0)
    _blend(frame, sprite, height - int(down * size) - up, width - int(across * size) - left)


def _draw_panel(frame: np.ndarray, inventory: Inventory) -> None:
    """All carried items over the darkened world, nine in a row."""
    frame[:] = frame // 5 * 2
    height, width = frame.shape[:2]
    slot = max(_slot_size(width, height), 4)
    items = [(int(block), inventory.count(int(block))) for block in np.nonzero(inventory.counts)[0]]
    items += [(AIR, 0)] * (27 - len(items))
    rows = [_slots(tuple(items[start : start + 9]), -1, slot) for start in range(0, 27, 9)]
    panel = np.concatenate(rows)
    _blend(frame, panel, (height - panel.shape[0]) // 2, (width - panel.shape[1]) // 2)


@lru_cache(maxsize=256)
def _slots(items: tuple[tuple[int, int], ...], selected: int, slot: int) -> np.ndarray:
    """A row of slots with icons and counts as RGBA [slot + 1, 9 slot + 1, 4] uint8."""
    strip = np.zeros((slot + 1, slot * len(items) + 1, 4), dtype=np.uint8)
    strip[:] = (30, 30, 34, 150)
    strip[[0, -1]] = strip[:, ::slot] = (120, 120, 124, 230)
    border = 1 if slot < 14 else 2
    for number, (block, count) in enumerate(items):
        if block != AIR and count > 0:
            inner = slot - 1 if slot < 14 else slot - 2 * border
            icon = _icon(block, inner)
            offset = slot - inner if slot < 14 else border
            corner = (
                slice(offset, offset + inner),
                slice(number * slot + offset, number * slot + offset + inner),
            )
            strip[corner] = np.where(icon[..., 3:] > 0, icon, strip[corner])
        if slot >= 12 and count > 1:
            _write(strip, str(min(count, 999)), slot, (number + 1) * slot, max(1, slot // 20))
    if selected >= 0:
        _frame_slot(strip, selected * slot, slot, border)
    return strip


def _frame_slot(strip: np.ndarray, left: int, slot: int, border: int) -> None:
    white = (255, 255, 255, 255)
    part = strip[:, left : left + slot + 1]
    part[:border] = part[-border:] = part[:, :border] = part[:, -border:] = white


def _write(picture: np.ndarray, text: str, bottom: int, right: int, scale: int) -> None:
    """Writes digits that end at (bottom, right), with a shadow."""
    column = right - (4 * len(text)) * scale
    for character in text:
        bits = np.array([bit == "1" for bit in _GLYPHS[character]]).reshape(5, 3)
        bits = bits.repeat(scale, axis=0).repeat(scale, axis=1)
        row = bottom - bits.shape[0] - scale
        for shift, colour in ((scale, (30, 30, 30, 255)), (0, (255, 255, 255, 255))):
            area = picture[row + shift : row + shift + bits.shape[0], column + shift :][:, : bits.shape[1]]
            area[bits[: area.shape[0], : area.shape[1]]] = colour
        column += 4 * scale


def _icon(block: int, size: int) -> np.ndarray:
    """A block as an icon: a cube where there is room, else its side's average pixels."""
    if size >= 12:
        return _cube(block, size)
    place = (np.arange(size) * 16) // size
    tile = TILES[1, FACE_TILES[block, 0]]
    return tile[place][:, place]


@lru_cache(maxsize=256)
def _cube(block: int, size: int) -> np.ndarray:
    """A block seen from above a corner, RGBA [size, size, 4] uint8."""
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    x, y = axis[None, :] / 0.866, axis[:, None]
    picture = np.zeros((size, size, 4), dtype=np.float64)
    # Each face: the parallelogram's coordinates (u, v) in 0..1, its tile and its shade.
    faces = (
        ((y + 1) + x / 2, (y + 1) - x / 2, FACE_TILES[block, 1], 1.0),
        (x + 1 + 0 * y, y - x / 2, FACE_TILES[block, 0], 0.62),
        (x + 0 * y, y + x / 2, FACE_TILES[block, 0], 0.82),
    )
    for u, v, tile, shade in faces:
        inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
        texels = TILES[0, tile, (v[inside] * 16).astype(int), (u[inside] * 16).astype(int)]
        picture[inside] = texels * (shade, shade, shade, 1.0)
        picture[inside, 3] = 255
    return picture.astype(np.uint8)


@lru_cache(maxsize=8)
def _arm(size: int) -> np.ndarray:
    """A bare forearm that reaches in from the lower right, RGBA [size, size, 4] uint8."""
    axis = (np.arange(size) + 0.5) / size
    x, y = axis[None, :], axis[:, None]
    along = (x + y - 0.62) / 1.0  # from the fist towards the corner
    across = x - y
    inside = (along > 0) & (np.abs(across) < 0.3)
    shade = np.where(across > 0.12, 0.74, 1.0) - 0.12 * (along > 0.52) - 0.08 * (np.abs(along - 0.06) < 0.03)
    grain = 0.96 + 0.06 * TILES[0, 3, :, :, 0][(y * 16).astype(int), (x * 16).astype(int)] / 255
    picture = np.zeros((size, size, 4))
    picture[..., :3] = np.asarray(_SKIN) * (shade * grain)[..., None]
    sleeve = along > 0.62
    picture[sleeve, :3] = np.array((46.0, 128.0, 138.0)) * (shade * grain)[sleeve, None]
    picture[..., 3] = 255 * inside
    return np.clip(picture, 0, 255).astype(np.uint8)


@njit(cache=True)
def _blend(frame: np.ndarray, sprite: np.ndarray, top: int, left: int) -> None:  # pragma: no cover
    """Lays sprite [h, w, 4] over frame [H, W, 3] at (top, left); what lies outside is cut off."""
    for row in range(max(0, -top), min(sprite.shape[0], frame.shape[0] - top)):
        for column in range(max(0, -left), min(sprite.shape[1], frame.shape[1] - left)):
            alpha = np.int64(sprite[row, column, 3])
            if alpha == 0:
                continue
            for channel in range(3):
                under = np.int64(frame[top + row, left + column, channel])
                over = np.int64(sprite[row, column, channel])
                frame[top + row, left + column, channel] = under + (over - under) * alpha // 255
