"""One imagined episode as a `gymnasium.Env` with MineRL's action and observation names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from unified.envs.world_model.config import WorldModelConfig, config_of
from unified.envs.world_model.episodes import Episodes, EpisodeState, RewardFn
from unified.envs.world_model.scoring import Action, ClipScore, score
from unified.envs.world_model.vector import WorldModelVectorEnv

from unified.apps.assistant import Assistant
from unified.apps.loading import load

Observation = dict[str, np.ndarray]
MOST_SEED = 2**62  # of the noise, with room for the seeds of forks


class WorldModelEnv(gymnasium.Env):
    """`model`: an assistant, a folder, a hub name or None (the shipped model). `start`: where episodes start
    unless a reset says otherwise, see `starts.Starts`; None is the voxel world. `reward_fn(previous, action,
    frame)`: the reward of a step, or (reward, terminated). Settings are those of `WorldModelConfig`, as one
    object or as keyword arguments.

    Actions and the observation `pov` are those of MineRL and of the voxel world, so recorders, players and
    metrics work on it unchanged. `info` of a step: `codes` int32 [h, w] of the frame, `log_prob` of all codes
    written under the model (nats, before temperature and filters), `entropy` (nats, a mean over codes),
    `steps`. A step costs the same however long the episode is.

    `max_steps` counts the steps of the episode, which are part of its state: one that is restored or forked
    is truncated where it would have been. gymnasium's `TimeLimit`, which `gymnasium.make` adds for
    `max_episode_steps`, counts since the reset; -1 leaves it out."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 - gymnasium's own convention

    def __init__(
        self,
        model: Assistant | str | Path | None = None,
        start: Any = None,
        *,
        reward_fn: RewardFn | None = None,
        render_mode: str | None = "rgb_array",
        config: WorldModelConfig | None = None,
        **settings: Any,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        self.render_mode, self.start, self.reward_fn = render_mode, start, reward_fn
        self.config = config_of(config, settings)
        self._open(model)

    def _open(self, model: Assistant | str | Path | None) -> None:
        self.episodes = Episodes(model, self.start, self.config, 1, self.reward_fn)
        self.observation_space, self.action_space = (
            self.episodes.observation_space,
            self.episodes.action_space,
        )

    @property
    def assistant(self) -> Assistant:
        """The model. ClosedEnvironmentError once the environment is closed."""
        return self.episodes.opened

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode. `options`: `start` (whatever the constructor takes), `frame`, or `frames` (a
        sequence) with the `actions` between them, one fewer. ValueError for other options and for what is no
        start, the running episode unchanged."""
        drawn = (deepcopy(self.np_random), self._np_random_seed) if seed is None else seeding.np_random(seed)
        (info,) = self.episodes.reset([0], [drawn[0]], options)
        self._np_random, self._np_random_seed = drawn
        return self._observe(), info

    def step(self, action: Mapping[str, Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """The next imagined frame. ValueError on a bad action, with nothing changed; ResetNeeded before
        `reset` and after the end."""
        if action is None:
            raise ValueError("an action must be a dictionary of MineRL's keys, got None")
        (step,) = self.episodes.step([action], [self.np_random])
        assert step is not None
        return {"pov": step.frame}, step.reward, step.terminated, step.truncated, step.info

    def render(self) -> np.ndarray | None:
        """The current frame uint8 [H, W, 3]; None before the first reset or without a render mode.
        ClosedEnvironmentError after `close`."""
        self.episodes.check_open()
        frame = self.episodes.frames[0]
        return None if frame is None or self.render_mode is None else frame.copy()

    def close(self) -> None:
        """Let the model go; further steps raise ClosedEnvironmentError."""
        self.episodes.close()

    # Saving and branching -----------------------------------------------------------------------------------

    def get_state(self) -> EpisodeState:
        """The state of the episode, a few kilobytes that can be pickled. ResetNeeded before the reset."""
        return self.episodes.state(0, self.np_random)

    def set_state(self, state: EpisodeState, *, seed: int | None = None) -> Observation:
        """Restore a state: what follows is what would have followed, or with a `seed` another sample of it.
        The observation. ValueError for what is no state, or one of another model or size."""
        self.episodes.load([0], [state if seed is None else _reseeded(state, seed)])
        self.np_random.bit_generator.state = state.rng
        return self._observe()

    def step_back(self) -> Observation:
        """Take the latest step back, up to `undo` of them: the observation before it. ValueError without
        one."""
        state = self.episodes.step_back(0)
        self.np_random.bit_generator.state = state.rng
        return self._observe()

    def fork(self, count: int = 1, *, seed: int | None = None) -> list[WorldModelEnv]:
        """`count` environments that go on from here, with the same weights. After the same actions they show
        the same frames; with a `seed`, fork k draws its own with the seed `seed` + k."""
        state, found = self.get_state(), []
        for own in _seeds(seed, _positive(count)):
            other = WorldModelEnv(
                self.assistant,
                self.start,
                reward_fn=self.reward_fn,
                render_mode=self.render_mode,
                config=replace(self.config, size=self.episodes.size),
            )
            other.set_state(state, seed=own)
            found.append(other)
        return found

    def fork_rows(self, count: int, *, seed: int | None = None) -> WorldModelVectorEnv:
        """As `fork`, but rows of one vector environment, which does not reset by itself."""
        state, seeds = self.get_state(), _seeds(seed, _positive(count))
        rows = WorldModelVectorEnv(
            len(seeds),
            self.assistant,
            self.start,
            reward_fn=self.reward_fn,
            autoreset_mode="Disabled",
            render_mode=self.render_mode,
            config=replace(self.config, size=self.episodes.size),
        )
        rows.set_states([state if own is None else _reseeded(state, own) for own in seeds])
        return rows

    def score(self, frames: Sequence[Any], actions: Sequence[Action]) -> ClipScore:
        """How likely n known frames are after the first one, given the n actions between them, and what they
        earn; `scoring.score` takes many clips at once. The episode is left as it is."""
        return score(self, [(frames, actions)])[0]

    def __getstate__(self) -> dict[str, Any]:
        """Settings and the running episode; weights only where they come from no folder."""
        kept = {name: value for name, value in vars(self).items() if name != "episodes"}
        model = self.episodes.opened
        source = model if model.folder is None else (model.folder, model.model.dtype)
        running = None if self.episodes.frames[0] is None else self.get_state()
        return {**kept, "source": source, "running": running}

    def __setstate__(self, state: dict[str, Any]) -> None:
        source, running = state.pop("source"), state.pop("running")
        vars(self).update(state)
        self._open(load(source[0], dtype=source[1]) if isinstance(source, tuple) else source)
        if running is not None:
            self.set_state(running)

    def _observe(self) -> Observation:
        frame = self.episodes.frames[0]
        if frame is None:
            raise ResetNeeded("call reset() first")
        return {"pov": frame.copy()}


def _reseeded(state: EpisodeState, seed: int) -> EpisodeState:
    """The state with other random numbers for the frames to come. ValueError for a seed out of range."""
    _seeds(seed, 1)
    return replace(state, dream=replace(state.dream, seed=seed))


def _seeds(seed: int | None, count: int) -> list[int | None]:
    """`seed`, `seed` + 1, ..., or `count` times None. ValueError for a seed out of range."""
    if seed is None:
        return [None] * count
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < MOST_SEED:
        raise ValueError(f"a seed must be a whole number of 0 to {MOST_SEED - 1}, got {seed!r:.60}")
    return [int(seed) + number for number in range(count)]


def _positive(count: int) -> int:
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise ValueError(f"a number of forks of at least 1, got {count!r}")
    return int(count)
