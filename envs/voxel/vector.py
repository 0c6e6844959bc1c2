"""Many voxel worlds as a `gymnasium.vector.VectorEnv`: one process, one compiled loop draws all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from unified.envs.vector_rows import Action, RowsVectorEnv, Step, count_of
from unified.envs.voxel.actions import parse_action
from unified.envs.voxel.config import VoxelConfig
from unified.envs.voxel.env import VoxelEnv
from unified.envs.voxel.render import draw_world, draw_worlds


class VoxelVectorEnv(RowsVectorEnv):
    """`num_envs` rows, each as a `VoxelEnv` of the same settings would be with the same seed (row b of
    `reset(seed=s)` has the seed s + b). `autoreset_mode`: "NextStep", "SameStep" or "Disabled", as gymnasium
    has them. `max_episode_steps`: gymnasium's name of `max_steps`; the smaller one counts."""

    def __init__(
        self,
        num_envs: int = 1,
        config: VoxelConfig | None = None,
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        count, given = count_of(num_envs), VoxelEnv(config, **settings).config
        limits = [steps for steps in (max_episode_steps, given.max_steps) if steps and steps > 0]
        shared = replace(given, max_steps=min(limits, default=0))
        worlds = Worlds([VoxelEnv(shared) for _ in range(count)])
        super().__init__(worlds, count, autoreset_mode=autoreset_mode, render_mode=render_mode)
        self.episodes: Worlds = worlds

    def get_states(self) -> list[dict[str, Any]]:
        """The state of every row, for `reset(options={"state": ...})` here or of a single environment."""
        return [env.get_state() for env in self.episodes.envs]


class Worlds:
    """Games of one configuration; their blocks and light lie in one array [n, x, y, z] each."""

    def __init__(self, envs: Sequence[VoxelEnv]) -> None:
        self.envs, self.config = list(envs), envs[0].config
        self.observation_space, self.action_space = envs[0].observation_space, envs[0].action_space
        padded = [length + 2 for length in self.config.world_size]
        self.cells, self.light = (np.zeros((len(self.envs), *padded), dtype=np.uint8) for _ in range(2))
        self.frames: list[np.ndarray | None] = [None] * len(self.envs)

    @property
    def ended(self) -> list[bool]:
        """Of every row, whether it has to be reset."""
        return [env.ended for env in self.envs]

    def reset(
        self, rows: Sequence[int], rngs: Sequence[np.random.Generator], options: Any = None
    ) -> list[dict[str, Any]]:
        """Start some rows; their infos. ValueError for bad options, the running games unchanged."""
        made = []
        for row, rng in zip(rows, rngs, strict=True):
            env = self.envs[row]
            env.np_random = rng
            made.append(env.prepare(options or None))
            rng.bit_generator.state = env.np_random.bit_generator.state  # a state brings its own
        for row, begun in zip(rows, made, strict=True):
            self.envs[row].begin(begun)
            world = self.envs[row].simulation.world
            self.cells[row], self.light[row] = world.cells, world.light
            world.cells, world.light = self.cells[row], self.light[row]  # from here on it lies in the array
        self._draw(rows)
        return [self.envs[row].info() for row in rows]

    def step(
        self, actions: Sequence[Action | None], rngs: Sequence[np.random.Generator]
    ) -> list[Step | None]:
        """One tick of the rows that have an action. ValueError for a bad action and ResetNeeded before the
        start and after the end of an episode, the games unchanged."""
        controls = {row: parse_action(action) for row, action in enumerate(actions) if action is not None}
        for row in controls:
            self.envs[row].check_running()
        results = {row: self.envs[row].tick(pressed) for row, pressed in controls.items()}
        self._draw(list(controls))
        steps: list[Step | None] = [None] * len(actions)
        for row, (reward, terminated, truncated) in results.items():
            frame = self.frames[row]
            assert frame is not None
            steps[row] = Step(frame.copy(), reward, terminated, truncated, self.envs[row].info())
        return steps

    def close(self) -> None:
        """Let the worlds go."""
        self.envs = []

    def _draw(self, rows: Sequence[int]) -> None:
        """Draw some rows anew."""
        if not rows:
            return
        if len(rows) == 1:  # threads would only wait for each other
            env = self.envs[rows[0]]
            frames = draw_world(env.simulation.world, env.view(), self.config.width, self.config.height)[None]
        else:
            frames = self._drawn(rows)
        for row, frame in zip(rows, frames, strict=True):
            self.envs[row].draw_over(frame)
            self.frames[row] = frame

    def _drawn(self, rows: Sequence[int]) -> np.ndarray:
        """Pictures of some worlds, uint8 [n, H, W, 3], in one call."""
        every = len(rows) == len(self.envs)
        cells, light = (self.cells, self.light) if every else (self.cells[list(rows)], self.light[list(rows)])
        views = [self.envs[row].view() for row in rows]
        level, config = self.envs[rows[0]].simulation.world.sea_level, self.config
        return draw_worlds(cells, light, views, level, config.width, config.height)
