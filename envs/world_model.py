"""The model as an environment: actions in, imagined frames out.

    env = WorldModelEnv(unified.load(), frame=picture)
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step({"forward": 1, "camera": [0, 5]})

Actions and the observation `pov` are those of MineRL and of the voxel world, so recorders, players and
metrics work on it unchanged. The model remembers the latest `window` steps: a step costs the same however
long the episode is. There is no reward, and an episode ends only by `max_steps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from unified.tokenizers.action import BUTTONS, complete

from unified.apps.assistant import Assistant, load
from unified.apps.rollout import WINDOW, Rollout
from unified.decoding.sampling import Sampler
from unified.finite import check_count


class WorldModelEnv(gymnasium.Env):
    """`model`: an assistant, a folder, a hub name or None (the shipped model). `frame`: where episodes start
    unless `reset` is given frames; anything that `tokenizers.images` takes. `temperature` 0 imagines the
    likeliest frame. `max_steps` 0 means never truncated."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 - gymnasium's own convention

    def __init__(
        self,
        model: Assistant | str | None = None,
        frame: Any = None,
        *,
        window: int = WINDOW,
        temperature: float = 0.0,
        max_steps: int = 0,
        size: tuple[int, int] | None = None,
        render_mode: str | None = "rgb_array",
    ) -> None:
        check_count("window", window, 1)
        check_count("max_steps", max_steps)
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        self.assistant = model if isinstance(model, Assistant) else load(model)
        if self.assistant.processor.action is None:
            raise ValueError("this model has no action tokenizer: it cannot be stepped")
        self.window, self.max_steps, self.render_mode = window, max_steps, render_mode
        self.sampler = Sampler(temperature=temperature)
        self.frame = None if frame is None else self.assistant.picture(frame)
        side = self.assistant.side
        shape = (*(size or (self.frame.shape[:2] if self.frame is not None else (side, side))), 3)
        self.assistant.shapes(shape[:2])
        pov = spaces.Box(0, 255, shape=shape, dtype=np.uint8)
        self.observation_space = spaces.Dict({"pov": pov})
        self._shape = shape
        buttons: dict[str, spaces.Space] = {name: spaces.Discrete(2) for name in BUTTONS}
        camera = spaces.Box(-180, 180, shape=(2,), dtype=np.float32)
        self.action_space = spaces.Dict({**buttons, "camera": camera})
        self._rollout: Rollout | None = None
        self._pov: np.ndarray | None = None
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start from known frames. `options`: `frame`, or `frames` (a sequence) with the `actions` between
        them (one fewer). ValueError for other options, no frame at all, or a frame of another size."""
        super().reset(seed=seed)
        frames, actions = self._start(dict(options or {}))
        known = [self.assistant.picture(frame) for frame in frames]
        wrong = next((frame.shape for frame in known if frame.shape != self._shape), None)
        if wrong is not None:
            raise ValueError(f"a frame must have shape {list(self._shape)}, got {list(wrong)}")
        drawn = int(self.np_random.integers(2**31))
        model = self.assistant
        self._rollout = Rollout(
            model.model,
            model.processor,
            [known],
            [actions],
            window=self.window,
            seed=drawn,
            sampler=self.sampler,
        )
        self._steps, self._pov = 0, known[-1]
        return {"pov": self._pov.copy()}, {"known_frames": len(known)}

    def step(
        self, action: Mapping[str, Any]
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """The next imagined frame. ValueError on a bad action, with nothing changed; ResetNeeded before
        `reset` and after the end."""
        whole = complete(action)
        if self._rollout is None:
            raise ResetNeeded("call reset() first")
        self._pov = self._rollout.step([whole])[0]
        self._steps += 1
        truncated = 0 < self.max_steps <= self._steps
        if truncated:
            self._rollout = None
        return {"pov": self._pov.copy()}, 0.0, False, truncated, {"steps": self._steps}

    def render(self) -> np.ndarray | None:
        """The current frame uint8 [H, W, 3]."""
        return None if self._pov is None or self.render_mode is None else self._pov.copy()

    def _start(self, options: dict[str, Any]) -> tuple[Sequence[Any], Sequence[Mapping[str, Any]]]:
        known = {"frame", "frames", "actions"}
        unknown = [str(name) for name in options if name not in known]
        if unknown or {"frame", "frames"} <= set(options):
            problem = f"unknown option {unknown[0]!r}" if unknown else "both 'frame' and 'frames'"
            raise ValueError(f"reset takes 'frame', or 'frames' with 'actions': got {problem}")
        frame = options.get("frame", self.frame)
        if "frames" not in options and frame is None:
            raise ValueError("no frame to start from: give one to the environment or to reset")
        frames = list(options["frames"]) if "frames" in options else [frame]
        return frames, [complete(action) for action in options.get("actions", ())]
