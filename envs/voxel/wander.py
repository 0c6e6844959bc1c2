"""A player without a goal: it walks, looks, jumps, digs and builds, in varied spells, for training data."""

import math
from collections.abc import Iterator

import numpy as np
from unified.envs.voxel import physics as p
from unified.envs.voxel.blocks import AIR, WATER
from unified.envs.voxel.simulation import Simulation
from unified.envs.voxel.solvers import LogPlayer, walks
from unified.envs.voxel.steering import Action, Walk, turn
from unified.envs.voxel.tasks import Explore, Task


class Wanderer:
    """Strings together spells of a second or more. The same seed and world give the same actions."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._spell: Iterator[Action] = iter(())
        self._tremor = np.zeros(2)

    def act(self, simulation: Simulation, task: Task) -> Action:
        action = next(self._spell, None)
        while action is None:
            self._spell = self._next_spell(simulation)
            action = next(self._spell, None)
        # A hand is never quite still, and it drifts rather than jumps.
        self._tremor = 0.8 * self._tremor + self._rng.normal(0.0, 0.12, 2)
        camera = np.asarray(action.get("camera", (0.0, 0.0))) + self._tremor
        return {**action, "camera": np.clip(camera, -10.0, 10.0).astype(np.float32)}

    def _next_spell(self, simulation: Simulation) -> Iterator[Action]:
        spells = (
            (_stroll, 34),
            (_look_around, 14),
            (_dash, 15),
            (_dig, 16),
            (_build, 10),
            (_chop, 6),
            (_fidget, 5),
        )
        weights = np.array([weight for _, weight in spells])
        spell = spells[int(self._rng.choice(len(spells), p=weights / weights.sum()))][0]
        if simulation.hands.gui_open:
            spell = _close_panel
        elif simulation.status[p.IN_WATER]:
            spell = _stroll  # ashore
        return spell(self._rng, simulation)


def _stroll(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    """Walks to a place within sight, on land where there is some, rather to the light than into the dark."""
    reach = walks(simulation)
    x, y, z = reach.cells.T
    wet = simulation.world.blocks[x, y, z] == WATER
    near = np.nonzero((reach.steps >= 4) & (reach.steps <= 24) & ~wet)[0]
    if near.size == 0:
        near = np.nonzero((reach.steps >= 4) & ~wet)[0][:20]
    if near.size == 0:
        yield from _climb_out(rng, simulation)
        return
    choice = rng.choice(near, 3)
    light = simulation.world.light[x[choice] + 1, y[choice] + 1, z[choice] + 1]
    way = reach.path(int(choice[light.argmax()]))
    walk = Walk(way[1:], pitch=rng.uniform(-4.0, 24.0), sprint=bool(rng.random() < 0.35))
    while not (walk.done or walk.stuck):
        action = walk.act(simulation)
        if rng.random() < 0.01:
            action["jump"] = 1
        yield action


def _chop(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    """Goes to a tree and fells a part of it."""
    player = LogPlayer(int(rng.integers(2**31)))
    for _ in range(int(rng.integers(80, 220))):
        yield player.act(simulation, Explore())


def _climb_out(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    """From a pit: digs a way forward and up while walking."""
    yaw = float(simulation.body[p.YAW])
    for pitch in (0.0, -35.0, 20.0):
        for _ in range(40):
            yield {"camera": turn(simulation, yaw, pitch), "attack": 1, "forward": 1, "jump": int(pitch > 0)}


def _dash(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    """Free running with curves, strafing and jumps, not along any path."""
    curve = rng.normal(0.0, 2.5)
    keys = {"forward": 1, "sprint": int(rng.random() < 0.5)}
    sideways = ("left", "right", None, None, None)[int(rng.integers(5))]
    if sideways:
        keys[sideways] = 1
    if rng.random() < 0.15:
        keys = {"back": 1}
    for _ in range(int(rng.integers(15, 60))):
        curve = 0.95 * curve + rng.normal(0.0, 0.5)
        pitch = 0.1 * (10.0 - simulation.body[p.PITCH])
        if simulation.status[p.IN_WATER] or _near_edge(simulation):
            return
        blocked = bool(simulation.status[p.COLLIDED])
        yield {**keys, "jump": int(blocked or rng.random() < 0.03), "camera": np.array([pitch, curve])}


def _near_edge(simulation: Simulation) -> bool:
    x, _, z = simulation.feet
    width, _, depth = simulation.world.size
    return min(x, z, width - 1 - x, depth - 1 - z) < 4


def _look_around(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    """Two or three glances at different directions."""
    for _ in range(int(rng.integers(1, 4))):
        yaw = simulation.body[p.YAW] + rng.normal(0.0, 70.0)
        pitch = float(np.clip(rng.normal(8.0, 22.0), -60.0, 70.0))
        for _ in range(int(rng.integers(10, 25))):
            yield {"camera": turn(simulation, yaw, pitch)}


def _dig(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    """Looks at something near and hits it for a while."""
    yaw = simulation.body[p.YAW] + rng.normal(0.0, 30.0)
    pitch = float(rng.uniform(15.0, 60.0))
    sneak = int(rng.random() < 0.1)
    for tick in range(int(rng.integers(30, 110))):
        yield {"camera": turn(simulation, yaw, pitch), "attack": int(tick > 8), "sneak": sneak}
        if tick > 12 and simulation.target() is None:
            return


def _build(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    """Chooses a carried block and sets a few of them."""
    carried = np.nonzero(simulation.inventory.hotbar != AIR)[0]
    if carried.size == 0:
        yield from _dig(rng, simulation)
        return
    yield {f"hotbar.{int(rng.choice(carried)) + 1}": 1}
    yaw = simulation.body[p.YAW] + rng.normal(0.0, 30.0)
    pitch = float(rng.uniform(25.0, 60.0))
    for tick in range(int(rng.integers(14, 50))):
        angle = yaw + 12.0 * math.sin(tick / 6.0)
        yield {"camera": turn(simulation, angle, pitch), "use": int(tick > 8 and tick % 7 == 0)}


def _fidget(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    """Small things: another slot, a hop, ducking, a look into the bag, throwing something away."""
    choice = int(rng.integers(5))
    if choice == 0:
        yield {f"hotbar.{int(rng.integers(1, 10))}": 1}
    elif choice == 4:
        yield {"drop": int(rng.random() < 0.3)}
    elif choice == 1:
        yield {"inventory": 1}
        for _ in range(int(rng.integers(8, 25))):
            yield {}
        yield {"inventory": 1}
    key = ("jump", "sneak")[int(rng.integers(2))]
    for _ in range(int(rng.integers(4, 20))):
        yield {key: 1}


def _close_panel(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    yield {"inventory": 0}
    yield {"inventory": 1}
