"""A real MineRL environment as a gymnasium environment with the 24-key action dict and a `pov` image.

MineRL speaks the old gym interface (`obs = reset()`, a 4-tuple from `step`) in two generations: 1.0
(Minecraft 1.16; 24 keys; pov 360 x 640) and 0.3 / 0.4 (Minecraft 1.11; a subset of those keys and others such
as `craft`, `place`, `equip`; pov 64 x 64). Any object with that interface will do, so recorded sessions can
be replayed through the adapter. Where the generations differ, the wrapped environment's own action space
decides.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from unified.envs.action_space import ActionSpace
from unified.tokenizers.environment_action import BUTTONS, complete

INSTALL = (
    "MineRL is not usable here: install a Java 8 JDK and, without a display, xvfb (Debian, Ubuntu: "
    "apt-get install openjdk-8-jdk xvfb), then MineRL 1.0 with "
    "`pip install git+https://github.com/minerllabs/minerl@v1.0.2` "
    "(BASALT, HumanSurvival) or MineRL 0.4 with `pip install 'unified-multimodal[minerl]'` "
    "(Treechop, Navigate, Obtain)"
)
_NAMES = (*BUTTONS, "camera")


class MineRLEnv(gymnasium.Env):
    """`inner` is the environment to wrap; `MineRLEnv.make(env_id)` starts a real one.

    Actions: the 24 keys (see `unified.tokenizers.action.complete`); keys that only the wrapped environment
    knows may be added and are passed on as they are, otherwise they rest. A pressed button that the wrapped
    environment lacks has no effect and is listed in `info["unsupported"]`. Observations: `pov`, uint8 [H, W,
    3]; whatever else MineRL observes is put into `info` under its own name.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 - gymnasium's own convention

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.render_mode = "rgb_array"
        theirs = _members(inner, "action_space")
        self._supported = frozenset(name for name in _NAMES if name in theirs)
        if "camera" not in self._supported:
            raise ValueError(
                f"not a MineRL environment: its actions are {', '.join(sorted(theirs)) or 'empty'}"
            )
        self._resting = _resting(inner.action_space, [name for name in theirs if name not in _NAMES])
        shape = _pov_shape(_members(inner, "observation_space"))
        self.action_space = ActionSpace()
        self._shape = shape
        self.observation_space = spaces.Dict({"pov": spaces.Box(0, 255, shape=shape, dtype=np.uint8)})
        limit = getattr(getattr(inner, "spec", None), "max_episode_steps", None)
        self._limit = limit if isinstance(limit, int) else None
        self._steps = 0
        self._running = False
        self._pov: np.ndarray | None = None

    @classmethod
    def make(cls, env_id: str) -> MineRLEnv:
        """Starts a real environment such as "MineRLBasaltFindCave-v0". Raises ImportError, with the
        installation's steps, when MineRL, gym or Java is missing."""
        try:
            import gym
            import minerl  # noqa: F401 - registers the environments
        except ImportError as error:
            raise ImportError(f"{INSTALL} ({error})") from error
        if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
            raise ImportError(f"{INSTALL} (no java found)")
        return cls(gym.make(env_id))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """`seed` is handed to the game before it resets. There are no options (ValueError)."""
        if options:
            raise ValueError(f"MineRL takes no reset options, got {', '.join(map(str, options))}")
        super().reset(seed=seed)
        if seed is not None:
            self.inner.seed(seed)
        result = self.inner.reset()
        observation, info = result if isinstance(result, tuple) else (result, {})  # a tuple before MineRL 0.3
        self._steps, self._running = 0, True
        return self._observe(observation), {**_rest(observation), **info}

    def step(
        self, action: Mapping[str, Any]
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One tick. Raises ValueError on a bad action and RuntimeError when the episode is over.

        When the game times out, MineRL hands out a *random* observation with `info["error"]`. That image
        is dropped: the last true one is repeated, `truncated` is True, the reward 0, and `info` has the
        error and `"repeated": True`."""
        sent, unsupported = self._translate(action)
        if not self._running or self._pov is None:
            raise RuntimeError("the episode is over or has not begun: call reset() first")
        result = self.inner.step(sent)
        if not isinstance(result, tuple) or len(result) != 4:
            raise RuntimeError("the wrapped environment does not speak old gym: step must return 4 values")
        observation, reward, done, info = result
        info = {**info, "unsupported": unsupported} if unsupported else dict(info)
        self._steps += 1
        if "error" in info:
            self._running = False
            return {"pov": self._pov.copy()}, 0.0, False, True, {**info, "repeated": True}
        self._running = not done
        truncated = bool(done) and self._ran_out(info)
        terminated = bool(done) and not truncated
        return (
            self._observe(observation),
            float(reward),
            terminated,
            truncated,
            {**_rest(observation), **info},
        )

    def render(self) -> np.ndarray | None:
        return None if self._pov is None else self._pov.copy()

    def close(self) -> None:
        self.inner.close()

    def _translate(self, action: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The wrapped environment's action, and the pressed buttons that it does not have."""
        if not isinstance(action, Mapping):
            raise ValueError(f"an action must be a dict, got {type(action).__name__}")
        theirs = {name: value for name, value in action.items() if name in self._resting}
        ours = complete({name: value for name, value in action.items() if name not in self._resting})
        sent = {**self._resting, **theirs, **{name: ours[name] for name in _NAMES if name in self._supported}}
        return sent, [name for name in BUTTONS if ours[name] and name not in self._supported]

    def _observe(self, observation: Any) -> dict[str, np.ndarray]:
        pov = observation.get("pov") if isinstance(observation, Mapping) else None
        image = np.asarray(pov)
        if image.dtype != np.uint8 or image.shape != self._shape:
            raise RuntimeError(
                f"MineRL sent a pov of {image.dtype} {list(image.shape)}, expected uint8 {list(self._shape)}"
            )
        self._pov = np.array(image)  # a copy: MineRL reuses its buffer
        return {"pov": self._pov.copy()}

    def _ran_out(self, info: Mapping[str, Any]) -> bool:
        return bool(info.get("TimeLimit.truncated")) or (
            self._limit is not None and self._steps >= self._limit
        )


def _members(inner: Any, name: str) -> Mapping[str, Any]:
    """The parts of a gym Dict space (or of a plain mapping)."""
    space = getattr(inner, name, None)
    parts = getattr(space, "spaces", space)
    if not isinstance(parts, Mapping):
        raise ValueError(f"not a MineRL environment: {name} is {type(space).__name__}, expected a Dict space")
    return parts


def _pov_shape(parts: Mapping[str, Any]) -> tuple[int, ...]:
    shape = tuple(getattr(parts.get("pov"), "shape", None) or ())
    if len(shape) != 3 or shape[2] != 3:
        raise ValueError(
            f"not a MineRL environment: its observation 'pov' must be [H, W, 3], got {list(shape)}"
        )
    return shape


def _resting(action_space: Any, names: list[str]) -> dict[str, Any]:
    """What the other keys hold when nothing is asked of them (`craft`: "none", ...)."""
    if not names:
        return {}
    no_op = getattr(action_space, "noop", None) or getattr(action_space, "no_op", None)
    if no_op is None:
        raise ValueError(f"the action space has no noop(): cannot tell how {', '.join(names)} rest")
    rest = no_op()
    return {name: rest[name] for name in names}


def _rest(observation: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in observation.items() if name != "pov"}
