"""A player that uses every key, each often and in changing combinations, and only where a key does something.

What a scripted player with a goal presses is mostly "forward". From such clips alone a model learns neither
to step aside nor to sneak, and whether it obeys those keys cannot be measured with them.
"""

import numpy as np
from unified.envs.voxel import physics as p
from unified.envs.voxel.simulation import Simulation
from unified.envs.voxel.steering import TURN_LIMIT, Action, turn
from unified.envs.voxel.tasks import Task

SHORTEST, LONGEST = 8, 24  # ticks that keys are held
SHORE = 4  # blocks from the end of the world at which it turns back
HOP, PLACE = 0.03, 0.06  # chances a tick, where they can be done


class Roamer:
    """Holds some keys for a spell, then others. The same seed and world give the same actions."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._left = 0
        self._keys: Action = {}
        self._pitch = self._curve = 0.0

    def act(self, simulation: Simulation, task: Task) -> Action:
        self._left -= 1
        if (self._left < 0 and simulation.status[p.ON_GROUND]) or simulation.status[p.COLLIDED]:
            self._next_spell(simulation)
        self._curve = 0.95 * self._curve + self._rng.normal(0.0, 0.4)
        action = {**self._keys, "camera": self._camera(simulation)}
        if simulation.status[p.IN_WATER]:  # ashore
            sprint = int(simulation.status[p.SPRINTING])
            return {**action, "forward": 1, "back": 0, "sneak": 0, "sprint": sprint, "jump": 1}
        if simulation.status[p.ON_GROUND] and self._rng.random() < HOP:
            action["jump"] = 1
        placing = not action.get("attack") and simulation.can_place(simulation.target())
        if placing and self._rng.random() < PLACE:
            action["use"] = 1
        return action

    def _next_spell(self, simulation: Simulation) -> None:
        rng = self._rng
        self._left = int(rng.integers(SHORTEST, LONGEST + 1))
        along = rng.choice(["forward", "back", ""], p=[0.45, 0.25, 0.3])
        across = rng.choice(["left", "right", ""], p=[0.3, 0.3, 0.4])
        pace = rng.choice(["sprint", "sneak", ""], p=[0.35, 0.25, 0.4])
        if pace == "sprint" and along != "forward":
            pace = ""  # nobody sprints backwards
        elif pace == "" and along == "forward" and simulation.status[p.SPRINTING]:
            pace = "sprint"  # it goes on until "forward" is let go, with the key or without
        self._keys = {str(key): 1 for key in (along, across, pace) if key}
        if rng.random() < 0.25:
            self._keys["attack"] = 1
        self._pitch, self._curve = float(rng.uniform(-5.0, 45.0)), float(rng.normal(0.0, 2.5))
        if simulation.status[p.COLLIDED]:
            self._curve = float(rng.choice([-1, 1]) * rng.uniform(4.0, TURN_LIMIT))

    def _camera(self, simulation: Simulation) -> np.ndarray:
        body = simulation.body
        pitch = 0.1 * (self._pitch - body[p.PITCH]) + self._rng.normal(0.0, 0.1)
        yaw = self._curve + self._rng.normal(0.0, 0.1)
        width, _, depth = simulation.world.size
        x, _, z = simulation.feet
        if min(x, z, width - 1 - x, depth - 1 - z) < SHORE:
            home = np.degrees(np.arctan2(x - width / 2, depth / 2 - z))
            yaw = float(turn(simulation, float(home), 0.0)[1])
        return np.clip([pitch, yaw], -TURN_LIMIT, TURN_LIMIT).astype(np.float32)
