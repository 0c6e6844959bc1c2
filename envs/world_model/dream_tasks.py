"""Tasks of the voxel world in the dream: episodes start as the task does, and a learned read-out tells what
a step earns. The real twin of `unified/DreamReach-v0` is `unified/VoxelReach-v0`, that of
`unified/DreamDig-v0` is `unified/VoxelDigDown-v0`.

The read-out sees two frames and has no memory: it ends an episode of "reach" at the post; one of "dig_down"
is rewarded for each level and ends by its length, since the sixth level looks like those before (of 15 true
ends it told none).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from unified.envs.world_model.env import WorldModelEnv
from unified.envs.world_model.episodes import RewardFn
from unified.envs.world_model.read_out import LearnedReward, find_read_out, load_read_out
from unified.envs.world_model.vector import WorldModelVectorEnv

from unified.apps.assistant import Assistant
from unified.apps.loading import load


class TaskStart:
    """A start of the world model: what is seen when a `task` of the voxel world begins, on another island
    each time. ValueError for an unknown task."""

    def __init__(self, task: str) -> None:
        from unified.envs.voxel import VoxelEnv

        self.env = VoxelEnv(task=task)

    def __call__(self, rng: np.random.Generator) -> dict[str, Any]:
        self.env.reset(seed=int(rng.integers(2**31)))
        return self.env.get_state()


def make_dream(
    task: str,
    model: Assistant | str | Path | None = None,
    *,
    reward_fn: RewardFn | None = None,
    **settings: Any,
) -> WorldModelEnv:
    """A `WorldModelEnv` of a task. `reward_fn`: in place of the read-out beside the model or the shipped one;
    `start` and all other `settings` as of that class. ValueError for a task without a read-out."""
    assistant = load(model) if model is None or isinstance(model, str | Path) else model
    return WorldModelEnv(assistant, **_settings(task, assistant, reward_fn, settings))


def make_dream_rows(
    num_envs: int,
    task: str,
    model: Assistant | str | Path | None = None,
    *,
    reward_fn: RewardFn | None = None,
    **settings: Any,
) -> WorldModelVectorEnv:
    """The same as rows of one `WorldModelVectorEnv`."""
    assistant = load(model) if model is None or isinstance(model, str | Path) else model
    return WorldModelVectorEnv(num_envs, assistant, **_settings(task, assistant, reward_fn, settings))


def _settings(
    task: str, assistant: Assistant, reward_fn: RewardFn | None, settings: dict[str, Any]
) -> dict[str, Any]:
    if reward_fn is None:
        reward_fn = LearnedReward(load_read_out(find_read_out(task, assistant.folder)))
    return {"start": TaskStart(task), **settings, "reward_fn": reward_fn}
