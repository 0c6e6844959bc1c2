"""The cursor that recordings leave out: while a GUI is open it is blended into the frame.

The drawing is our own arrow, 16 x 16, as large as the one the MineRL environments show.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

RECORDED_HEIGHT = 720  # cursor positions are pixels of the 1280 x 720 window
SIZE = 16
_ARROW = """
#
##
#o#
#oo#
#ooo#
#oooo#
#ooooo#
#oooooo#
#ooooooo#
#oooooooo#
#ooooo#####
#oo#oo#
#o# #oo#
##  #oo#
#    #oo#
     ####
"""


def _drawing() -> tuple[np.ndarray, np.ndarray]:
    """Colours [16, 16, 3] and opacity [16, 16, 1] in 0..1: a white arrow with a dark edge."""
    rows = [row.ljust(SIZE) for row in _ARROW.strip("\n").split("\n")]
    shape = np.array([list(row) for row in rows])
    colour = np.where(shape == "o", 255.0, 20.0)[..., None].repeat(3, axis=2)
    opacity = np.where(shape == " ", 0.0, np.where(shape == "#", 0.85, 1.0))
    return colour, opacity[..., None]


_COLOUR, _OPACITY = _drawing()


def needs_cursor(line: Mapping[str, Any]) -> bool:
    mouse = line["mouse"]
    return bool(line.get("isGuiOpen")) and not line.get("cursorInFrame") and "x" in mouse and "y" in mouse


def blend_cursor(frame: np.ndarray, x: float, y: float) -> np.ndarray:
    """A copy of the frame (uint8 [H, W, 3]) with the cursor's tip at window position (x, y), cut at the
    borders."""
    height, width = frame.shape[:2]
    left, top = int(x * height / RECORDED_HEIGHT), int(y * height / RECORDED_HEIGHT)
    rows = slice(max(top, 0), min(top + SIZE, height))
    columns = slice(max(left, 0), min(left + SIZE, width))
    blended = frame.copy()
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return blended
    part = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    opacity = _OPACITY[part]
    mixed = frame[rows, columns] * (1 - opacity) + _COLOUR[part] * opacity
    blended[rows, columns] = np.round(mixed).astype(np.uint8)
    return blended
