"""The vector form of `unified/RemoteWorld-v0`: one client, whose rows are worlds of a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import AutoresetMode
from unified.envs.action_space import ActionSpace
from unified.envs.remote_worlds import RemoteWorlds, start_of
from unified.envs.vector_rows import Action, RowsVectorEnv, Step, check_running, count_of

OPTIONS = ("start",)  # of a reset


class RemoteWorldVectorEnv(RowsVectorEnv):
    """`num_envs` rows, each as a `RemoteWorldEnv` would be with the same seed (row b of `reset(seed=s)` has
    the seed s + b). A step of all rows is one request, and the server draws their frames in the same passes.
    The server must allow a client so many worlds (`unified serve --worlds`). `autoreset_mode`: "NextStep",
    "SameStep" or "Disabled", as gymnasium has them. `max_episode_steps`: after which a row is truncated, not
    above 0 or None for never. Other arguments and errors as of `RemoteWorldEnv`."""

    def __init__(
        self,
        num_envs: int = 1,
        url: str = "http://127.0.0.1:8000",
        start: Any = None,
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = "rgb_array",
        **connection: Any,
    ) -> None:
        worlds = RemoteWorlds(url, **connection)
        try:
            rows = RemoteRows(worlds, start, count_of(num_envs), max(max_episode_steps or 0, 0))
            super().__init__(rows, num_envs, autoreset_mode=autoreset_mode, render_mode=render_mode)
        except BaseException:
            worlds.leave()
            raise
        self.episodes: RemoteRows = rows


class RemoteRows:
    """`count` episodes in worlds of a server, which end after `most` steps (0: never)."""

    def __init__(self, worlds: RemoteWorlds, start: Any, count: int, most: int) -> None:
        self.worlds, self.start, self.most = worlds, start, most
        (number, frame), *_ = worlds.create(start_of(start), [0])  # its size is the server's
        worlds.close([number])
        pov = spaces.Box(0, 255, shape=frame.shape, dtype=np.uint8)
        self.observation_space, self.action_space = spaces.Dict({"pov": pov}), ActionSpace()
        self.frames: list[np.ndarray | None] = [None] * count
        self.ended, self.numbers = [False] * count, [""] * count
        self.closed = False

    def reset(
        self,
        rows: Sequence[int],
        rngs: Sequence[np.random.Generator],
        options: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Start some rows; their infos. The worlds of the episodes before are closed first, since a client
        may have so many: where the server refuses new ones, these rows have ended. ValueError for unknown
        options and what is no start."""
        self.check_open()
        for name in options or {}:
            if name not in OPTIONS:
                raise ValueError(f"unknown option {name!r} of a reset: it has {', '.join(OPTIONS)}")
        where = start_of((options or {}).get("start", self.start))
        seeds = [int(rng.integers(2**31)) for rng in rngs]
        self._end(rows)
        made = self.worlds.create(where, seeds)
        for row, (number, frame) in zip(rows, made, strict=True):
            self.numbers[row], self.frames[row], self.ended[row] = number, frame, False
        return [{"steps": 0} for _ in rows]

    def step(
        self, actions: Sequence[Action | None], rngs: Sequence[np.random.Generator]
    ) -> list[Step | None]:
        """One step of every row that has an action. ValueError for a bad action and ResetNeeded before the
        start and after the end of an episode, the episodes unchanged."""
        self.check_open()
        acting = {row: action for row, action in enumerate(actions) if action is not None}
        for row in acting:
            check_running(self.frames[row], self.ended[row])
        steps: list[Step | None] = [None] * len(actions)
        if not acting:
            return steps
        found = self.worlds.step_all({self.numbers[row]: action for row, action in acting.items()})
        for row in acting:
            frame, taken = found[self.numbers[row]]
            self.frames[row], self.ended[row] = frame, taken == self.most
            steps[row] = Step(frame, 0.0, False, self.ended[row], {"steps": taken})
        return steps

    def close(self) -> None:
        """End the worlds on the server."""
        if not self.closed:
            self.closed = True
            self._end(range(len(self.numbers)))
            self.worlds.leave()

    def check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("the environment is closed: make another one")

    def _end(self, rows: Sequence[int]) -> None:
        numbers = [self.numbers[row] for row in rows if self.numbers[row]]
        for row in rows:
            self.numbers[row], self.ended[row] = "", self.frames[row] is not None
        self.worlds.close(numbers)
