"""`unified/RemoteWorld-v0`: an imagined world on a server (`unified serve`), as a gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from unified.envs.action_space import ActionSpace
from unified.envs.remote_worlds import RemoteWorlds, start_of

Observation = dict[str, np.ndarray]


class RemoteWorldEnv(gymnasium.Env):
    """`url`: of the server, such as http://127.0.0.1:8000; `key`: its API key, if it asks for one. `start`:
    where episodes start, a picture or words, unless a reset has the option `start`. `temperature` 0 is greedy
    decoding. Actions and the observation `pov` are those of `unified/WorldModel-v0`; rewards are 0 and no
    episode ends by itself. ValueError for what the server refuses, in its words; ConnectionError where it is
    not reached."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 - gymnasium's own convention

    def __init__(
        self,
        url: str,
        start: Any = None,
        *,
        key: str | None = None,
        temperature: float = 0.0,
        timeout: float = 60.0,
        render_mode: str | None = "rgb_array",
    ) -> None:
        self.render_mode, self.start = render_mode, start
        self._worlds = RemoteWorlds(url, key=key, temperature=temperature, timeout=timeout)
        self._number = ""
        self._frame: np.ndarray | None = None
        self.action_space = ActionSpace()
        frame = self._begin(start, 0)  # its size is the server's
        pov = spaces.Box(0, 255, shape=frame.shape, dtype=np.uint8)
        self.observation_space = spaces.Dict({"pov": pov})

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; the world of the one before is closed."""
        super().reset(seed=seed)
        start = (options or {}).get("start", self.start)
        frame = self._begin(start, int(self.np_random.integers(2**31)))
        return {"pov": frame.copy()}, {"steps": 0}

    def _begin(self, start: Any, seed: int) -> np.ndarray:
        """The first frame of a new world, uint8 [H, W, 3]; the one before is closed."""
        where = start_of(start)
        self._end()
        self._number, self._frame = self._worlds.create(where, [seed])[0]
        return self._frame

    def step(self, action: Mapping[str, Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """The next imagined frame. ResetNeeded after `close`."""
        if not self._number:
            raise ResetNeeded("call reset() first")
        self._frame, steps = self._worlds.step(self._number, action)
        return {"pov": self._frame.copy()}, 0.0, False, False, {"steps": steps}

    def render(self) -> np.ndarray | None:
        """The current frame uint8 [H, W, 3]."""
        return None if self._frame is None or self.render_mode is None else self._frame.copy()

    def close(self) -> None:
        """Close the world on the server."""
        self._end()
        self._worlds.leave()

    def _end(self) -> None:
        number, self._number = self._number, ""
        if number:
            self._worlds.close([number])
