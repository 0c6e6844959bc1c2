"""A player for what a world model must know and players with a goal hardly show: turns of up to 30 degrees a
tick, another hotbar slot, the inventory, ESC, nothing at all, and looking away and back.

`Wanderer` and `Roamer` turn at most 10 degrees a tick: a model that learns from them alone treats 30 as 10.
"""

from collections.abc import Callable, Iterator

import numpy as np
from unified.envs.voxel import physics as p
from unified.envs.voxel.roam import Roamer
from unified.envs.voxel.simulation import Simulation
from unified.envs.voxel.steering import Action
from unified.envs.voxel.tasks import Explore, Task

FASTEST = 30.0  # degrees a tick
HIGHEST, LOWEST = -45.0, 65.0  # pitches between which it looks
Spell = Callable[[np.random.Generator, Simulation], Iterator[Action]]


class Prober:
    """Strings together spells of some ticks. The same seed and world give the same actions."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._spell: Iterator[Action] = iter(())

    def act(self, simulation: Simulation, task: Task) -> Action:
        action = next(self._spell, None)
        while action is None:
            self._spell = self._next_spell(simulation)(self._rng, simulation)
            action = next(self._spell, None)
        return {**action, "camera": np.asarray(action.get("camera", (0.0, 0.0)), dtype=np.float32)}

    def _next_spell(self, simulation: Simulation) -> Spell:
        if simulation.status[p.IN_WATER]:
            return _roam  # ashore
        return SPELLS[int(self._rng.choice(len(SPELLS), p=SHARES))]


def _roam(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    """Walks on and uses its hands as the player who uses every key."""
    roamer = Roamer(int(rng.integers(2**31)))
    for _ in range(int(rng.integers(6, 17))):
        yield roamer.act(simulation, Explore())


def _turn_fast(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    """Turns at changing speeds, standing or walking."""
    keys = {"forward": 1} if rng.random() < 0.4 else {}
    side = rng.choice([-1.0, 1.0])
    pitch = float(rng.uniform(HIGHEST, LOWEST))
    for _ in range(int(rng.integers(2, 9))):
        down = np.clip(pitch - simulation.body[p.PITCH], -FASTEST, FASTEST) * rng.uniform(0.3, 1.0)
        yield {**keys, "camera": (down, side * rng.uniform(2.0, FASTEST))}


def _look_away_and_back(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    """Some equal steps of the camera, a pause, and as many back."""
    steps, size = int(rng.integers(1, 5)), float(rng.uniform(6.0, FASTEST))
    away = np.array([0.0, rng.choice([-1.0, 1.0]) * size])
    if rng.random() < 0.3:  # up or down, where there is more room
        down = 1.0 if simulation.body[p.PITCH] < (HIGHEST + LOWEST) / 2 else -1.0
        away = np.array([down * min(size, 60.0 / steps), 0.0])
    for _ in range(steps):
        yield {"camera": away}
    for _ in range(int(rng.integers(0, 3))):
        yield {}
    for _ in range(steps):
        yield {"camera": -away}


def _change_slot(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    """Presses some hotbar keys."""
    for _ in range(int(rng.integers(1, 5))):
        yield {f"hotbar.{int(rng.integers(1, 10))}": 1}
        for _ in range(int(rng.integers(0, 3))):
            yield {}


def _open_inventory(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    """Opens the panel, tries to turn and walk in vain, and closes it by its key or by ESC."""
    yield {"inventory": 1}
    for _ in range(int(rng.integers(2, 9))):
        tries = ({}, {"forward": 1}, {"camera": rng.uniform(-FASTEST, FASTEST, 2)})
        yield tries[int(rng.integers(len(tries)))]
    yield {("inventory", "ESC")[int(rng.integers(2))]: 1}
    yield {}


def _press_escape(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    """ESC where no panel is open: nothing happens."""
    yield {"ESC": 1}
    yield {}


def _stand_still(rng: np.random.Generator, simulation: Simulation) -> Iterator[Action]:
    for _ in range(int(rng.integers(6, 21))):
        yield {}


SPELLS: tuple[Spell, ...] = (
    _roam,
    _turn_fast,
    _look_away_and_back,
    _change_slot,
    _open_inventory,
    _press_escape,
    _stand_still,
)
SHARES = (0.22, 0.26, 0.18, 0.16, 0.05, 0.03, 0.10)  # of spells, which are of unequal length
