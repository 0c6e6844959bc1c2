"""Many imagined episodes as a `gymnasium.vector.VectorEnv`: one model, one forward pass for all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from unified.envs.vector_rows import Generators, Seeds, mode_of, reset_rows, row_actions
from unified.envs.world_model.config import WorldModelConfig, config_of
from unified.envs.world_model.episodes import Action, Episodes, EpisodeState, RewardFn, Step

from unified.apps.assistant import Assistant

Observations = dict[str, np.ndarray]
Results = tuple[Observations, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class WorldModelVectorEnv(VectorEnv):
    """`num_envs` rows, each as a `WorldModelEnv` of the same settings would be with the same seed (row b of
    `reset(seed=s)` has the seed s + b). `autoreset_mode`: "NextStep", "SameStep" or "Disabled", as gymnasium
    has them; rows are reset by themselves or by `reset(options={"reset_mask": ...})`. `max_episode_steps`:
    gymnasium's name of `max_steps`."""

    def __init__(
        self,
        num_envs: int = 1,
        model: Assistant | str | Path | None = None,
        start: Any = None,
        *,
        reward_fn: RewardFn | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = "rgb_array",
        config: WorldModelConfig | None = None,
        **settings: Any,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs must be a whole number of at least 1, got {num_envs!r}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        self.autoreset_mode = mode_of(autoreset_mode)
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": 20,
            "autoreset_mode": self.autoreset_mode,
        }
        config = config_of(config, settings)
        if max_episode_steps is not None and not config.max_steps:
            config = replace(config, max_steps=max(max_episode_steps, 0))
        self.num_envs, self.render_mode = num_envs, render_mode
        self.episodes = Episodes(model, start, config, num_envs, reward_fn)
        self.single_observation_space: spaces.Space = self.episodes.observation_space
        self.single_action_space: spaces.Space = self.episodes.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.generators = Generators(num_envs)

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The random numbers of every row."""
        return tuple(self.generators.rows)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The latest seed of every row, -1 before the first."""
        return tuple(self.generators.seeds)

    def reset(
        self, *, seed: Seeds = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start every row, or those marked in `options["reset_mask"]` (bool [num_envs]). Other options as of
        `WorldModelEnv.reset`, for all of these rows. ValueError or TypeError for bad ones, nothing
        changed."""
        rows, rest = reset_rows(options, self.num_envs)
        drawn = self.generators.drawn(rows, seed)
        found = self.episodes.reset(rows, [generator for generator, _ in drawn], rest)
        self.generators.keep(rows, drawn)
        infos: dict[str, Any] = {}
        for row, info in zip(rows, found, strict=True):
            infos = self._add_info(infos, info, row)
        return self._observe(), infos

    def step(self, actions: Mapping[str, Any] | Sequence[Action]) -> Results:
        """One step of all rows. `actions`: one dictionary of arrays [num_envs, ...], or one dictionary a row.
        ValueError for bad actions, with nothing changed."""
        ended, next_step = self.episodes.ended, self.autoreset_mode == AutoresetMode.NEXT_STEP
        waiting = [row for row in range(self.num_envs) if ended[row] and next_step]
        given: list[Action | None] = list(row_actions(actions, self.num_envs))
        for row in waiting:
            given[row] = None
        steps = self.episodes.step(given, self.generators.rows)
        infos: dict[str, Any] = {}
        for row, info in zip(waiting, self._again(waiting), strict=True):
            infos = self._add_info(infos, info, row)
        over = [row for row, step in enumerate(steps) if step and (step.terminated or step.truncated)]
        same_step = over if self.autoreset_mode == AutoresetMode.SAME_STEP else []
        fresh = dict(zip(same_step, self._again(same_step), strict=True))
        for row, step in enumerate(steps):
            if step is None:
                continue
            if row in fresh:
                final = {"final_obs": {"pov": step.frame}, "final_info": step.info}
                infos = self._add_info(infos, final, row)
            infos = self._add_info(infos, fresh.get(row, step.info), row)
        return self._observe(), *_columns(steps), infos

    def _again(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Reset rows whose episode has ended; their infos."""
        return self.episodes.reset(rows, [self.generators.rows[row] for row in rows]) if rows else []

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The current frame of every row; None before the first reset or without a render mode."""
        frames = self.episodes.frames
        if self.render_mode is None or any(frame is None for frame in frames):
            return None
        return tuple(frame.copy() for frame in frames if frame is not None)

    def close_extras(self, **_: Any) -> None:
        """Let the model go; further steps raise ClosedEnvironmentError."""
        self.episodes.close()

    def get_states(self) -> list[EpisodeState]:
        """The state of every row, for `set_states` here or `set_state` of a single environment."""
        return [self.episodes.state(row, self.generators.rows[row]) for row in range(self.num_envs)]

    def set_states(self, states: Sequence[EpisodeState], rows: Sequence[int] | None = None) -> Observations:
        """Restore states in all rows, or in `rows`. The observations of all rows. ValueError for another
        number of states than rows, what is no state, or one of another model or size."""
        rows = range(self.num_envs) if rows is None else rows
        if len(states) != len(rows):
            raise ValueError(f"{len(rows)} rows need as many states, got {len(states)}")
        self.episodes.load(rows, states)
        for row, state in zip(rows, states, strict=True):
            self.generators.rows[row].bit_generator.state = state.rng
        return self._observe()

    def _observe(self) -> Observations:
        empty = np.zeros((*self.episodes.size, 3), dtype=np.uint8)  # of rows that have not started yet
        return {"pov": np.stack([empty if frame is None else frame for frame in self.episodes.frames])}


def _columns(steps: Sequence[Step | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewards, terminations and truncations [n]; 0 and False for rows that were reset."""
    return (
        np.array([step.reward if step else 0.0 for step in steps], dtype=np.float64),
        np.array([bool(step and step.terminated) for step in steps]),
        np.array([bool(step and step.truncated) for step in steps]),
    )
