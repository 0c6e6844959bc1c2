"""Which block a line of sight meets first."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from unified.envs.voxel.blocks import OUTSIDE, SOLID


@dataclass(frozen=True, kw_only=True)
class Target:
    """A block in view: its cell, the open cell in front of the face that is seen, and the distance."""

    cell: tuple[int, int, int]
    front: tuple[int, int, int]
    distance: float


def direction(yaw: float, pitch: float) -> np.ndarray:
    """Unit vector of a view in degrees, [3] float64: yaw 0 is +z, 90 is -x; positive pitch is down."""
    yaw, pitch = np.radians(yaw), np.radians(pitch)
    return np.array([-np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch)])


def find_target(cells: np.ndarray, eye: np.ndarray, view: np.ndarray, reach: float) -> Target | None:
    """First solid block within reach, through water. cells: padded grid; eye [3]; view [3], a unit vector."""
    found = np.zeros(6, dtype=np.int64)
    distance = _march(cells, SOLID, eye, view, reach, found)
    if distance < 0:
        return None
    cell, front = (tuple(int(v) for v in part) for part in (found[:3], found[3:]))
    return Target(cell=cell, front=front, distance=distance)  # type: ignore[arg-type]


@njit(cache=True)
def _march(
    cells: np.ndarray, solid: np.ndarray, eye: np.ndarray, view: np.ndarray, reach: float, found: np.ndarray
) -> float:  # pragma: no cover
    """Amanatides and Woo's grid walk; writes the cell and the one before it, returns the distance or -1."""
    cell = np.empty(3, dtype=np.int64)
    step = np.empty(3, dtype=np.int64)
    side = np.empty(3)
    gap = np.empty(3)
    for axis in range(3):
        cell[axis] = int(np.floor(eye[axis]))
        slope = view[axis] if abs(view[axis]) > 1e-12 else 1e-12
        step[axis] = 1 if slope > 0 else -1
        gap[axis] = abs(1.0 / slope)
        ahead = cell[axis] + 1 - eye[axis] if slope > 0 else eye[axis] - cell[axis]
        side[axis] = ahead * gap[axis]
    distance = 0.0
    while True:
        axis = 0
        if side[1] < side[axis]:
            axis = 1
        if side[2] < side[axis]:
            axis = 2
        distance = side[axis]
        if distance > reach:
            return -1.0
        found[3:] = cell
        cell[axis] += step[axis]
        side[axis] += gap[axis]
        for other in range(3):
            if cell[other] < 0 or cell[other] >= cells.shape[other] - 2:
                return -1.0
        block = cells[cell[0] + 1, cell[1] + 1, cell[2] + 1]
        if block != OUTSIDE and solid[block]:
            found[:3] = cell
            return distance
