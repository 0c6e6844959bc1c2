"""Scripted players that solve the tasks: each reads the world's state and acts through the action space."""

import math

import numpy as np
from unified.envs.voxel import physics as p
from unified.envs.voxel.blocks import BREAK_TICKS, LOG
from unified.envs.voxel.simulation import Simulation
from unified.envs.voxel.steering import Action, Walk, angles_to, off_by, turn
from unified.envs.voxel.tasks import DigDown, FollowPath, ReachMarker, Task
from unified.envs.voxel.walking import Cell, Reach, cell_below, reachable

_ARM = 4.0  # a little less than the reach, so that aiming need not be perfect


def walks(simulation: Simulation) -> Reach:
    """Everywhere the player can walk or swim to from where it is."""
    return reachable(simulation.world, cell_below(simulation.world, *simulation.feet), swim=True)


class _Walker:
    """Shared by the players: plan a walk, follow it, plan anew when stuck."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._walk: Walk | None = None
        self._free = 0

    def _start(self, path: list[Cell]) -> None:
        sprint = bool(self._rng.random() < 0.4)
        self._walk = Walk(path[1:], pitch=self._rng.uniform(4.0, 22.0), sprint=sprint)

    def _go_on(self, simulation: Simulation) -> Action | None:
        """The walk's next action, or None when there is no walk (any more)."""
        if self._free:
            # Backing off with a jump frees a player who hangs on a corner.
            self._free -= 1
            return {
                "back": 1,
                "jump": 1,
                "camera": np.array([0.0, self._rng.uniform(-8, 8)], dtype=np.float32),
            }
        if self._walk is None:
            return None
        action = self._walk.act(simulation)
        if self._walk.done:
            self._walk = None
            return None
        if self._walk.stuck:
            self._walk, self._free = None, 8
        return action


class ReachPlayer(_Walker):
    """Walks the shortest way to the cell beside the post."""

    def act(self, simulation: Simulation, task: Task) -> Action:
        assert isinstance(task, ReachMarker)
        action = self._go_on(simulation)
        if action is not None:
            return action
        reach = walks(simulation)
        gap = np.abs(reach.cells - np.array(task.marker))
        beside = np.nonzero((gap[:, [0, 2]].max(axis=1) <= 1) & (gap[:, 1] <= 1))[0]
        # Without a way the walk ends as near as it can, which may open one.
        index = int(beside[0]) if beside.size else int((gap**2).sum(axis=1).argmin())
        self._start(reach.path(index))
        return self._go_on(simulation) or {"forward": 1, "jump": 1}


class PathPlayer(_Walker):
    """Walks the path cell by cell, as laid."""

    def act(self, simulation: Simulation, task: Task) -> Action:
        assert isinstance(task, FollowPath)
        action = self._go_on(simulation)
        if action is not None:
            return action
        reach = walks(simulation)
        here = np.nonzero((reach.cells == np.array(task.path[task.passed])).all(axis=1))[0]
        way = reach.path(int(here[0])) if here.size else []
        ahead = [(x, y, z) for x, y, z in task.path[task.passed :]]
        self._walk = Walk(way[:-1] + ahead, pitch=self._rng.uniform(18.0, 32.0))
        return self._go_on(simulation) or {}


class DigPlayer(_Walker):
    """Stands on the middle of its block, looks straight down and hits."""

    def act(self, simulation: Simulation, task: Task) -> Action:
        assert isinstance(task, DigDown)
        x, y, z = simulation.body[:3].tolist()
        cell = (task.start[0], math.floor(y + 1e-4), task.start[2])
        gap = max(abs(x - cell[0] - 0.5), abs(z - cell[2] - 0.5))
        if gap > 0.3:
            return Walk([cell]).act(simulation)
        action: Action = {"camera": turn(simulation, simulation.body[p.YAW], 89.0), "attack": 0}
        action["attack"] = int(simulation.body[p.PITCH] > 80.0)
        return action


class LogPlayer(_Walker):
    """Goes to the log that is quickest to reach, looks at it and hits until it is gone; then the next."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._log: Cell | None = None
        self._hits = 0
        self._given_up: set[Cell] = set()

    def act(self, simulation: Simulation, task: Task) -> Action:
        action = self._go_on(simulation)
        if action is not None:
            return action
        if self._log is None or simulation.world.blocks[self._log] != LOG or self._hits > 150:
            self._choose(simulation)
            return self._go_on(simulation) or self._hit(simulation)
        return self._hit(simulation)

    def _choose(self, simulation: Simulation) -> None:
        """Picks the log with the shortest way to a place from where an arm reaches it."""
        if self._log is not None and simulation.world.blocks[self._log] == LOG:
            self._given_up.add(self._log)
        self._hits = 0
        reach = walks(simulation)
        eyes = reach.cells + np.array((0.5, p.EYE, 0.5))
        best, self._log = math.inf, None
        for log in np.argwhere(simulation.world.blocks == LOG):
            x, y, z = log.tolist()
            if (x, y, z) in self._given_up:
                continue
            offset = eyes - log - 0.5
            near = np.nonzero((offset**2).sum(axis=1) < _ARM**2)[0]
            if near.size == 0:
                continue
            cost = reach.steps[near] + 0.6 * np.abs(offset[near]).sum(axis=1)
            if cost.min() < best:
                best, self._log, index = float(cost.min()), (x, y, z), int(near[cost.argmin()])
        if self._log is None:
            self._given_up.clear()
            index = int(self._rng.integers(len(reach.cells)))
        self._start(reach.path(index))

    def _hit(self, simulation: Simulation) -> Action:
        if self._log is None:
            return {}
        self._hits += 1
        yaw, pitch = angles_to(simulation, np.array(self._log) + 0.5)
        action: Action = {"camera": turn(simulation, yaw, pitch)}
        target = simulation.target()
        # Leaves and earth in the way are broken as well.
        breakable = target is not None and BREAK_TICKS[simulation.world.blocks[target.cell]] > 0
        action["attack"] = int(breakable and off_by(simulation, yaw, pitch) < 6.0)
        if target is None and off_by(simulation, yaw, pitch) < 6.0:
            action["forward"] = 1
        if simulation.status[p.IN_WATER]:
            action["jump"] = 1
        return action
