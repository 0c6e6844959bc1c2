"""`unified/RemoteWorld-v0`: an imagined world on a server (`unified serve`), as a gymnasium environment."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from PIL import Image
from unified.envs.action_space import ActionSpace
from unified.tokenizers.environment_action import complete
from unified.tokenizers.images import to_images, to_uint8

from unified.server.uploads import data_url
from unified.stream.message_forms import read_picture

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
        import httpx

        self.render_mode, self.start, self.temperature = render_mode, start, temperature
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)
        self._number = ""
        self._frame: np.ndarray | None = None
        self.action_space = ActionSpace()
        if start is None:
            raise ValueError("a remote world starts from a picture or from words: give start=")
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
        body: dict[str, Any] = {"temperature": self.temperature, "seed": seed}
        if isinstance(start, str) and not start.startswith("data:"):
            body["words"] = start
        else:
            body["image"] = data_url(to_uint8(to_images(read_picture(start)))[0])
        self._end()
        found = self._asked("POST", "/v1/worlds", body)
        self._number, self._frame = found["id"], _pixels(found["frame"])
        return self._frame

    def step(self, action: Mapping[str, Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """The next imagined frame. ResetNeeded after `close`."""
        if not self._number:
            raise ResetNeeded("call reset() first")
        found = self._asked("POST", f"/v1/worlds/{self._number}/step", {"actions": [_plain(action)]})
        self._frame = _pixels(found["frames"][0])
        return {"pov": self._frame.copy()}, 0.0, False, False, {"steps": found["steps"]}

    def render(self) -> np.ndarray | None:
        """The current frame uint8 [H, W, 3]."""
        return None if self._frame is None or self.render_mode is None else self._frame.copy()

    def close(self) -> None:
        """Close the world on the server."""
        self._end()
        self._http.close()

    def _end(self) -> None:
        number, self._number = self._number, ""
        if number:
            self._http.delete(f"/v1/worlds/{number}")  # one that is idle too long has ended by itself

    def _asked(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        import httpx

        try:
            answer = self._http.request(method, path, json=body)
            found: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ConnectionError(f"no answer of {self._http.base_url}: {error}") from None
        if answer.is_error:
            raise ValueError(found["error"]["message"])
        return found


def _plain(action: Mapping[str, Any]) -> dict[str, Any]:
    """What is pressed, and the camera, as plain numbers. ValueError for a malformed action."""
    whole = complete(action)
    pressed = {name: 1 for name, value in whole.items() if name != "camera" and value}
    return {**pressed, "camera": whole["camera"].tolist()}


def _pixels(url: str) -> np.ndarray:
    """uint8 [H, W, 3] of a data URL with a PNG."""
    held = base64.b64decode(url.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(held), formats=["PNG"]).convert("RGB"))
