"""Scripted players by the name of their task, and a way to let one play an episode.

player = make_player(env.task.name, seed=0)
action = player.act(env.simulation, env.task)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from unified.envs.voxel.env import VoxelEnv
from unified.envs.voxel.probe import Prober
from unified.envs.voxel.roam import Roamer
from unified.envs.voxel.simulation import Simulation
from unified.envs.voxel.solvers import DigPlayer, LogPlayer, PathPlayer, ReachPlayer
from unified.envs.voxel.steering import Action
from unified.envs.voxel.tasks import Task
from unified.envs.voxel.wander import Wanderer


class Player(Protocol):
    """Chooses one action per tick from the true state."""

    def act(self, simulation: Simulation, task: Task) -> Action: ...


PLAYERS: dict[str, Callable[[int], Player]] = {
    "explore": Wanderer,
    "reach": ReachPlayer,
    "collect_logs": LogPlayer,
    "dig_down": DigPlayer,
    "follow_path": PathPlayer,
    "roam": Roamer,
    "probe": Prober,
}
WITHOUT_TASK = ("roam", "probe")


def task_of(player: str) -> str:
    """The task that a player plays: its name, but for those who have none."""
    return "explore" if player in WITHOUT_TASK else player


def make_player(task_name: str, seed: int) -> Player:
    """The scripted player of a task; for "explore" the wanderer. ValueError for an unknown name."""
    if task_name not in PLAYERS:
        raise ValueError(f"no player for {task_name!r}; there are {', '.join(PLAYERS)}")
    return PLAYERS[task_name](seed)


@dataclass(frozen=True, kw_only=True)
class Episode:
    """How an episode went."""

    success: bool
    steps: int
    reward: float


def play_episode(env: VoxelEnv, player: Player, seed: int) -> Episode:
    """Resets env with a seed and lets the player act until the end."""
    _, info = env.reset(seed=seed)
    steps, total, over = 0, 0.0, False
    while not over:
        _, reward, terminated, truncated, info = env.step(player.act(env.simulation, env.task))
        steps, total, over = steps + 1, total + reward, terminated or truncated
    return Episode(success=info["success"], steps=steps, reward=total)
