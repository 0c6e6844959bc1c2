"""Many imagined episodes as a `gymnasium.vector.VectorEnv`: one model, one forward pass for all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gymnasium.vector import AutoresetMode
from unified.envs.vector_rows import Observations, RowsVectorEnv, count_of
from unified.envs.world_model.config import WorldModelConfig, config_of
from unified.envs.world_model.episodes import Episodes, EpisodeState, RewardFn

from unified.apps.assistant import Assistant


class WorldModelVectorEnv(RowsVectorEnv):
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
        config = config_of(config, settings)
        if max_episode_steps is not None and not config.max_steps:
            config = replace(config, max_steps=max(max_episode_steps, 0))
        rows = Episodes(model, start, config, count_of(num_envs), reward_fn)
        super().__init__(rows, num_envs, autoreset_mode=autoreset_mode, render_mode=render_mode)
        self.episodes: Episodes = rows

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
