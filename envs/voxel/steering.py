"""Turning and walking as a person would: small eased turns, keys held for as long as they help."""

import math
from typing import Any

import numpy as np
from unified.envs.voxel import physics as p
from unified.envs.voxel.simulation import Simulation
from unified.envs.voxel.walking import Cell

TURN_LIMIT = 10.0  # degrees a tick, the range of VPT's camera quantiser
_EASE = 0.4
Action = dict[str, Any]


def wrapped(angle: float) -> float:
    """An angle in -180 to 180 degrees."""
    return (angle + 180.0) % 360.0 - 180.0


def angles_to(simulation: Simulation, point: np.ndarray) -> tuple[float, float]:
    """(yaw, pitch) in degrees at which the player looks at a point [3]."""
    dx, dy, dz = (point - simulation.eye).tolist()
    return math.degrees(math.atan2(-dx, dz)), -math.degrees(math.atan2(dy, math.hypot(dx, dz)))


def turn(simulation: Simulation, yaw: float, pitch: float) -> np.ndarray:
    """The camera action [2] float32 of one tick towards a direction."""
    errors = (pitch - simulation.body[p.PITCH], wrapped(yaw - simulation.body[p.YAW]))
    return np.array([_eased(error) for error in errors], dtype=np.float32)


def _eased(error: float) -> float:
    if abs(error) < 1.5:
        return error
    return min(max(error * _EASE, -TURN_LIMIT), TURN_LIMIT)


def off_by(simulation: Simulation, yaw: float, pitch: float) -> float:
    """The larger of the two angles still missing, in degrees."""
    return max(abs(pitch - simulation.body[p.PITCH]), abs(wrapped(yaw - simulation.body[p.YAW])))


class Walk:
    """Follows a list of neighbouring cells, one action a tick.

    `done` when the last cell is reached, `stuck` when a cell takes longer than `patience` ticks.
    """

    def __init__(
        self, path: list[Cell], *, pitch: float = 12.0, sprint: bool = False, patience: int = 60
    ) -> None:
        self._path = path
        self._next = 0
        self._waited = 0
        self._pitch = pitch
        self._sprint = sprint
        self._patience = patience

    @property
    def done(self) -> bool:
        return self._next >= len(self._path)

    @property
    def stuck(self) -> bool:
        return self._waited > self._patience

    def act(self, simulation: Simulation) -> Action:
        """The next action; an empty one once done."""
        self._waited += 1
        while not self.done and self._reached(simulation, self._path[self._next]):
            self._next += 1
            self._waited = 0
        if self.done:
            return {}
        return self._towards(simulation, self._path[self._next])

    def _reached(self, simulation: Simulation, cell: Cell) -> bool:
        x, y, z = simulation.body[:3].tolist()
        last = self._next == len(self._path) - 1
        gap = max(abs(x - cell[0] - 0.5), abs(z - cell[2] - 0.5))
        return gap < (0.25 if last else 0.4) and abs(y - cell[1]) < 0.7

    def _towards(self, simulation: Simulation, cell: Cell) -> Action:
        x, y, z = simulation.body[:3].tolist()
        dx, dz = cell[0] + 0.5 - x, cell[2] + 0.5 - z
        gap = math.hypot(dx, dz)
        yaw = math.degrees(math.atan2(-dx, dz))
        action: Action = {"camera": turn(simulation, yaw, self._pitch)}
        error = abs(wrapped(yaw - simulation.body[p.YAW]))
        # Close to the goal a wrong heading leads around it: stop, turn, then go.
        if error < (50.0 if gap > 0.8 else 25.0):
            action["forward"] = 1
            action["sprint"] = int(self._sprint and error < 12.0 and len(self._path) - self._next > 4)
        rises = cell[1] > y + 0.5 and gap < 1.7 and error < 40.0
        if cell[1] < y - 0.7 and gap < 0.6 and not simulation.status[p.ON_GROUND]:
            action["forward"] = 0  # falling onto it: do not overshoot
        action["jump"] = int(rises or bool(simulation.status[p.IN_WATER]))
        return action
