"""Steps of the voxel world's tasks with what they earned: data of a reward and termination read-out.

A scripted player solves the task and strays now and then, so that the same places are also seen by one who
walks past. Steps with a reward or an end all stay, of the others a share, each of which counts as many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from unified.tasks.sample import generator
from unified.tasks.worlds.clips import check_seed, draw_terrain_seed

if TYPE_CHECKING:
    from unified.envs.voxel import VoxelEnv

STRAY, SPELL = 0.04, 12  # chance a tick that the player strays, and for how many ticks at most
REWARDED_TASKS = ("reach", "collect_logs", "dig_down", "follow_path")


@dataclass(frozen=True, kw_only=True)
class RewardedConfig:
    """`task`; `episodes` on terrain of the `split`, of at most `ticks` each, in a world of `world_size`.
    `goals`: least and largest, None is the task's own; near ones are reached more often. `kept`: share of
    steps without a reward. `size`: side of a frame in pixels."""

    task: str = "reach"
    episodes: int = 400
    ticks: int = 200
    goals: tuple[int, int] | None = None
    kept: float = 0.25
    size: int = 64
    world_size: tuple[int, int, int] = (32, 32, 32)
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.task not in REWARDED_TASKS:
            raise ValueError(f"task must be one of {', '.join(REWARDED_TASKS)}, got {self.task!r}")
        for name in ("episodes", "ticks"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {getattr(self, name)!r}")
        if not 0 < self.kept <= 1:
            raise ValueError(f"kept must be a share above 0 and up to 1, got {self.kept}")


@dataclass(frozen=True)
class Steps:
    """`frames` uint8 [N, 2, H, W, 3] before and after a step, `rewards` [N], `ends` bool [N], and
    for how many steps each counts, `weights` [N]."""

    frames: Tensor
    rewards: Tensor
    ends: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.frames)


def rewarded_steps(config: RewardedConfig, split: str) -> Steps:
    """The steps of all episodes. ValueError if no terrain had room for the task."""
    found: list[tuple[np.ndarray, float, bool, float]] = []
    for index in range(config.episodes):
        found += _episode(config, split, generator(config.seed, split, index))
    if not found:
        raise ValueError(f"no step of {config.task} in {config.episodes} episodes: play more")
    frames, rewards, ends, weights = zip(*found, strict=True)
    return Steps(
        torch.from_numpy(np.stack(frames)),
        torch.tensor(rewards, dtype=torch.float32),
        torch.tensor(ends),
        torch.tensor(weights, dtype=torch.float32),
    )


def _episode(
    config: RewardedConfig, split: str, rng: np.random.Generator
) -> list[tuple[np.ndarray, float, bool, float]]:
    from unified.envs.voxel import VoxelEnv

    goal = None if config.goals is None else int(rng.integers(config.goals[0], config.goals[1] + 1))
    shape: dict[str, Any] = {"width": config.size, "height": config.size, "world_size": config.world_size}
    env = VoxelEnv(task=config.task, goal=goal, max_steps=config.ticks, **shape)
    terrain, seed = draw_terrain_seed(rng, split), int(rng.integers(2**31))
    try:
        previous = env.reset(seed=seed, options={"terrain_seed": terrain})[0]["pov"]
    except ValueError:
        return []  # no room for the task on this island
    found, player, over = [], Strayer(config.task, rng), False
    while not over:
        observation, reward, ended, truncated, _ = env.step(player.act(env))
        frame, over = observation["pov"], ended or truncated
        rare = reward != 0 or ended
        if rare or rng.random() < config.kept:
            found.append((np.stack([previous, frame]), reward, ended, 1.0 if rare else 1 / config.kept))
        previous = frame
    return found


class Strayer:
    """The scripted player of a task, who now and then lets one who uses every key play for a spell."""

    def __init__(self, task: str, rng: np.random.Generator) -> None:
        from unified.envs.voxel.players import make_player

        self.rng, self.left = rng, 0
        self.player, self.other = (make_player(name, int(rng.integers(2**31))) for name in (task, "roam"))

    def act(self, env: VoxelEnv) -> dict[str, Any]:
        if self.left == 0 and self.rng.random() < STRAY:
            self.left = int(self.rng.integers(1, SPELL + 1))
        player = self.other if self.left else self.player
        self.left = max(self.left - 1, 0)
        return player.act(env.simulation, env.task)
