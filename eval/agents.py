"""Agents for the table of rewards: each plays several voxel worlds at once, from frames or from the true
state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from unified.envs.voxel import VoxelEnv
from unified.envs.voxel.players import make_player
from unified.envs.world_model import WorldModelEnv
from unified.envs.world_model.planning import PlannerConfig, plan
from unified.envs.world_model.read_out import LearnedReward, find_read_out, load_read_out
from unified.envs.wrappers import WALKING
from unified.tokenizers.environment_action import complete

from unified.apps.assistant import Assistant

Action = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Play:
    """What an agent is made for: the worlds `envs`, all at the start of an episode of `task`, the model (None
    for those that have none), a seed, and settings of the planner with `commit`, the actions of a plan that
    are taken before the next plan."""

    envs: Sequence[VoxelEnv]
    task: str
    assistant: Assistant | None = None
    seed: int = 0
    planner: PlannerConfig = field(default_factory=PlannerConfig)
    commit: int = 4


class Agent(Protocol):
    """Chooses the next actions from the frames of all rows; None for rows whose episode is over."""

    def act(self, frames: Sequence[np.ndarray | None]) -> list[Action | None]: ...


class RandomAgent:
    """One of the planner's actions at random."""

    def __init__(self, play: Play) -> None:
        self.rngs = [np.random.default_rng((play.seed, row)) for row in range(len(play.envs))]

    def act(self, frames: Sequence[np.ndarray | None]) -> list[Action | None]:
        drawn = [WALKING[int(rng.integers(len(WALKING)))] for rng in self.rngs]
        return [None if frame is None else action for frame, action in zip(frames, drawn, strict=True)]


class PlayerAgent:
    """The model as a player: told the task in words, actions sampled."""

    def __init__(self, play: Play) -> None:
        tasks = [env.task.text for env in play.envs]
        assistant = _model(play)
        self.player = assistant.player(tasks, rows=len(tasks))

    def act(self, frames: Sequence[np.ndarray | None]) -> list[Action | None]:
        return list(self.player.act_rows(frames))


class PlannerAgent:
    """Plans in the model's dream with the learned reward of the task, and takes the first actions of each
    plan."""

    def __init__(self, play: Play) -> None:
        assistant = _model(play)
        reward = LearnedReward(load_read_out(find_read_out(play.task, assistant.folder)), expected=True)
        side = (play.envs[0].config.height, play.envs[0].config.width)
        self.env = WorldModelEnv(assistant, reward_fn=reward, size=side, undo=0)
        self.play, self.plans = play, 0
        window = self.env.config.window
        self.seen: list[deque[np.ndarray]] = [deque(maxlen=window) for _ in play.envs]
        self.taken: list[deque[Action]] = [deque(maxlen=window - 1) for _ in play.envs]
        self.queues: list[deque[Action]] = [deque() for _ in play.envs]

    def act(self, frames: Sequence[np.ndarray | None]) -> list[Action | None]:
        return [None if frame is None else self._next(row, frame) for row, frame in enumerate(frames)]

    def _next(self, row: int, frame: np.ndarray) -> Action:
        self.seen[row].append(frame)
        if not self.queues[row]:
            known = {"frames": list(self.seen[row]), "actions": list(self.taken[row])}
            self.env.reset(seed=self.play.seed + self.plans, options=known)
            found = plan(self.env, WALKING, self.play.planner, seed=self.play.seed + self.plans)
            self.plans += 1
            self.queues[row].extend(found.actions[: self.play.commit])
        action = complete(self.queues[row].popleft())
        self.taken[row].append(action)
        return action


class ScriptedAgent:
    """The voxel world's own player of the task, who reads the true state."""

    def __init__(self, play: Play) -> None:
        self.envs = play.envs
        self.players = [make_player(play.task, play.seed + row) for row in range(len(play.envs))]

    def act(self, frames: Sequence[np.ndarray | None]) -> list[Action | None]:
        return [
            None if frame is None else player.act(env.simulation, env.task)
            for frame, player, env in zip(frames, self.players, self.envs, strict=True)
        ]


AGENTS: dict[str, Callable[[Play], Agent]] = {
    "random": RandomAgent,
    "player": PlayerAgent,
    "planner": PlannerAgent,
    "scripted": ScriptedAgent,
}
NEED_A_MODEL = ("player", "planner")


@dataclass(frozen=True)
class Outcome:
    """How episodes went: `rewards` and `lengths` [n], and whether each was a success [n]."""

    rewards: np.ndarray
    lengths: np.ndarray
    successes: np.ndarray


def play_episodes(make: Callable[[Play], Agent], play: Play, seeds: Sequence[int]) -> Outcome:
    """One episode in each world, reset with its seed; episodes end with the task or by their length."""
    envs = play.envs
    frames: list[np.ndarray | None] = [
        env.reset(seed=seed)[0]["pov"] for env, seed in zip(envs, seeds, strict=True)
    ]
    agent = make(replace(play, envs=envs))
    rewards, lengths = np.zeros(len(envs)), np.zeros(len(envs), dtype=np.int64)
    while any(frame is not None for frame in frames):
        for row, action in enumerate(agent.act(frames)):
            if action is None:
                continue
            observation, reward, terminated, truncated, _ = envs[row].step(action)
            rewards[row] += reward
            lengths[row] += 1
            frames[row] = None if terminated or truncated else observation["pov"]
    return Outcome(rewards, lengths, np.array([env.task.progress >= 1 for env in envs]))


def _model(play: Play) -> Assistant:
    if play.assistant is None:
        raise ValueError("this agent needs a model")
    return play.assistant
