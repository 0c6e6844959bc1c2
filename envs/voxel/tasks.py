"""What a player can be asked to do. Every task pays rewards that add up to 1 when it is done.

A task is a small dataclass of plain data (so that a state can hold it). `begin` may mark the world; `score`
is asked once per tick.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from unified.envs.voxel.blocks import GRASS, LEAVES, LOG, MARKER, PATH, SOLID
from unified.envs.voxel.config import VoxelConfig
from unified.envs.voxel.physics import EYE
from unified.envs.voxel.simulation import Events, Simulation
from unified.envs.voxel.terrain import plant_tree
from unified.envs.voxel.walking import Reach, reachable
from unified.envs.voxel.world import World

_MISSED_CELLS = 2
_MOST_TREES = 40


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The reward of one tick, and whether the task is over (done or failed)."""

    reward: float = 0.0
    over: bool = False


class Task(Protocol):
    """One thing to do; `progress` runs from 0 to 1."""

    name: ClassVar[str]
    goal: int
    progress: float

    @property
    def text(self) -> str: ...

    def begin(self, simulation: Simulation, rng: np.random.Generator) -> None: ...

    def score(self, simulation: Simulation, events: Events) -> Outcome: ...


def _advance(task: Task, progress: float) -> Outcome:
    """Pays for progress beyond the best so far."""
    gain = max(progress - task.progress, 0.0)
    task.progress = max(progress, task.progress)
    return Outcome(reward=gain, over=task.progress >= 1.0)


@dataclass
class Explore:
    """No task: no reward, no end."""

    name: ClassVar[str] = "explore"
    goal: int = 1
    progress: float = 0.0

    @property
    def text(self) -> str:
        return "Explore the island."

    def begin(self, simulation: Simulation, rng: np.random.Generator) -> None:
        pass

    def score(self, simulation: Simulation, events: Events) -> Outcome:
        return Outcome()


@dataclass
class ReachMarker:
    """Walk to a red and white post about `goal` steps away."""

    name: ClassVar[str] = "reach"
    goal: int = 16
    progress: float = 0.0
    marker: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "Walk to the red and white post."

    def begin(self, simulation: Simulation, rng: np.random.Generator) -> None:
        reach = _walks(simulation, swim=False)
        blocks = simulation.world.blocks
        open_sky = np.array([_open_above(blocks, cell) for cell in reach.cells])
        wrong = (
            np.abs(reach.steps - self.goal)
            + np.where(open_sky, 0, 10**6)
            + np.where(reach.steps < 2, 10**7, 0)
        )
        best = np.nonzero(wrong <= wrong.min() + 2)[0]
        x, y, z = reach.cells[rng.choice(best)].tolist()
        self.marker = [x, y, z]
        blocks[x, y : y + 3, z] = MARKER
        simulation.world.refresh_light()

    def score(self, simulation: Simulation, events: Events) -> Outcome:
        gap = simulation.body[:3] - np.array(self.marker) - (0.5, 0.0, 0.5)
        near = np.hypot(gap[0], gap[2]) <= 1.6 and abs(gap[1]) <= 2.5
        return _advance(self, 1.0 if near else 0.0)


@dataclass
class CollectLogs:
    """Break `goal` logs; each pays its share."""

    name: ClassVar[str] = "collect_logs"
    goal: int = 3
    progress: float = 0.0
    collected: int = 0

    @property
    def text(self) -> str:
        return f"Collect {self.goal} log{'s' if self.goal > 1 else ''}."

    def begin(self, simulation: Simulation, rng: np.random.Generator) -> None:
        """Plants trees near the player until there are enough logs within reach."""
        for _ in range(_MOST_TREES):
            reach = _walks(simulation, swim=False)
            if len(logs_in_reach(simulation.world, reach)) >= self.goal + 3:
                return
            _plant_nearby(simulation, reach, rng)
        if len(logs_in_reach(simulation.world, _walks(simulation, swim=False))) < self.goal:
            raise ValueError(f"no room for {self.goal} logs in this world; lower goal or enlarge world_size")

    def score(self, simulation: Simulation, events: Events) -> Outcome:
        self.collected += events.broken == LOG
        return _advance(self, min(self.collected / self.goal, 1.0))


@dataclass
class DigDown:
    """Get `goal` blocks below the start, or to bedrock, within two blocks of it; every level pays."""

    name: ClassVar[str] = "dig_down"
    goal: int = 6
    progress: float = 0.0
    start: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        return f"Dig {self.goal} blocks straight down."

    def begin(self, simulation: Simulation, rng: np.random.Generator) -> None:
        x, y, z = simulation.feet
        if y < 2:
            raise ValueError(f"nothing to dig: the player starts at height {y}, bedrock is at 0")
        self.goal = min(self.goal, y - 1)  # bedrock cannot be dug
        self.start = [x, y, z]

    def score(self, simulation: Simulation, events: Events) -> Outcome:
        x, y, z = simulation.feet
        if max(abs(x - self.start[0]), abs(z - self.start[2])) > 2:
            return Outcome()
        return _advance(self, min(max(self.start[1] - y, 0) / self.goal, 1.0))


@dataclass
class FollowPath:
    """Walk along `goal` yellow path blocks in order; more than six blocks off the path is a failure."""

    name: ClassVar[str] = "follow_path"
    goal: int = 20
    progress: float = 0.0
    path: list[list[int]] = field(default_factory=list)
    passed: int = 0

    @property
    def text(self) -> str:
        return "Follow the yellow path to the red block at its end."

    def begin(self, simulation: Simulation, rng: np.random.Generator) -> None:
        """Lays the path to a random place at `goal` steps, or as far as one can walk."""
        reach = reachable(simulation.world, simulation.feet, diagonal=False, fall=1)
        distance = min(self.goal, int(reach.steps.max()))
        way = reach.path(int(rng.choice(np.nonzero(reach.steps == distance)[0])))
        self.path = [list(cell) for cell in way[1:]]
        if not self.path:
            raise ValueError("the player cannot walk anywhere in this world; try another seed")
        for x, y, z in self.path:
            simulation.world.blocks[x, y - 1, z] = PATH
        x, y, z = self.path[-1]
        simulation.world.blocks[x, y - 1, z] = MARKER
        simulation.world.refresh_light()

    def score(self, simulation: Simulation, events: Events) -> Outcome:
        centres = np.array(self.path) + np.array((0.5, 0.0, 0.5))
        gaps = np.abs(simulation.body[:3] - centres)
        on_cell = (np.maximum(gaps[:, 0], gaps[:, 2]) <= 0.8) & (gaps[:, 1] <= 1.6)
        # Running and jumping may miss a cell or two; what comes later still has to come in order.
        while on_cell[self.passed : self.passed + _MISSED_CELLS + 1].any():
            self.passed += 1 + int(on_cell[self.passed : self.passed + _MISSED_CELLS + 1].argmax())
        outcome = _advance(self, self.passed / len(self.path))
        lost = np.hypot(gaps[:, 0], gaps[:, 2]).min() > 6.0
        return dataclasses.replace(outcome, over=outcome.over or bool(lost))


TASKS: dict[str, type] = {
    task.name: task for task in (Explore, ReachMarker, CollectLogs, DigDown, FollowPath)
}


def make_task(config: VoxelConfig) -> Task:
    """The task a configuration asks for, not yet begun."""
    return TASKS[config.task]() if config.goal is None else TASKS[config.task](goal=config.goal)


def task_to_dict(task: Task) -> dict[str, Any]:
    return {"name": task.name, **dataclasses.asdict(task)}  # type: ignore[call-overload]


def task_from_dict(data: dict[str, Any]) -> Task:
    """The inverse of `task_to_dict`; ValueError where the data are not a task's."""
    if not isinstance(data, dict) or data.get("name") not in TASKS:
        raise ValueError(f"state['task'] must name one of {', '.join(TASKS)}")
    kind = TASKS[data["name"]]
    values = {key: value for key, value in data.items() if key != "name"}
    default = kind()
    expected = {item.name: type(getattr(default, item.name)) for item in dataclasses.fields(kind)}
    right = values.keys() == expected.keys() and all(type(values[key]) is expected[key] for key in values)
    if not right or not _plausible(values):
        raise ValueError(f"state['task'] does not fit the task {data['name']}: needs {', '.join(expected)}")
    return kind(**{key: _copied(value) for key, value in values.items()})


def _plausible(values: dict[str, Any]) -> bool:
    """Whether goal, progress and the cells of a task's data can be meant."""
    cells = list(values.get("path", []))
    cells += [values[key] for key in ("marker", "start") if key in values]
    triples = all(
        isinstance(cell, list) and len(cell) == 3 and all(type(number) is int for number in cell)
        for cell in cells
    )
    counts = all(values.get(key, 0) >= 0 for key in ("passed", "collected"))
    return (
        triples
        and counts
        and values["goal"] >= 1
        and 0.0 <= values["progress"] <= 1.0
        and values.get("path") != []
    )


def _copied(value: Any) -> Any:
    return [_copied(part) for part in value] if isinstance(value, list) else value


def _walks(simulation: Simulation, *, swim: bool) -> Reach:
    return reachable(simulation.world, simulation.feet, swim=swim)


def _open_above(blocks: np.ndarray, cell: np.ndarray) -> bool:
    x, y, z = cell.tolist()
    return y + 3 <= blocks.shape[1] and not blocks[x, y:, z].any()


def logs_in_reach(world: World, reach: Reach, arm: float = 3.9) -> np.ndarray:
    """Logs that a player could touch from some cell, [n, 3] int64 cells."""
    logs = np.argwhere(world.blocks == LOG)
    eyes = reach.cells + np.array((0.5, EYE, 0.5))
    near = [bool((((eyes - log - 0.5) ** 2).sum(axis=1) < arm**2).any()) for log in logs]
    return logs[np.array(near, dtype=bool)]


def _plant_nearby(simulation: Simulation, reach: Reach, rng: np.random.Generator) -> None:
    """One tree on open grass between three and twenty steps away, or as far as there is grass."""
    blocks = simulation.world.blocks
    x, y, z = reach.cells.T
    soil = (blocks[x, y - 1, z] == GRASS) & (reach.steps >= 3) & (reach.steps <= 20)
    room = [_open_above(blocks, cell) and cell[1] + 8 < blocks.shape[1] for cell in reach.cells]
    places = reach.cells[soil & np.array(room)]
    if not len(places):
        places = reach.cells[reach.steps >= 3][:60]
        places = places[[_open_above(blocks, cell) and cell[1] + 8 < blocks.shape[1] for cell in places]]
    if len(places):
        spot = rng.choice(places).tolist()
        if SOLID[blocks[spot[0], spot[1] - 1, spot[2]]] and blocks[spot[0], spot[1] - 1, spot[2]] != LEAVES:
            plant_tree(blocks, spot[0], spot[1], spot[2], 5)
            simulation.world.refresh_light()
