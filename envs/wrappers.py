"""Wrappers that make environments with MineRL's actions fit usual agents; for one environment or many.

    env = DiscreteActions(PixelsOnly(gymnasium.make("unified/WorldModel-v0")))       # for DQN
    rows = DiscreteActions.of_rows(PixelsOnly.of_rows(gymnasium.make_vec("unified/WorldModel-v0", 4)))

They work on the world model, the voxel world and MineRL alike. `PixelsOnly` leaves the image alone, so that
gymnasium's own wrappers (resize, grey, stack) go on top of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorActionWrapper, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from unified.tokenizers.action import ActionConfig, ActionTokenizer
from unified.tokenizers.environment_action import complete

Action = Mapping[str, Any]
VPT_CAMERA = ActionConfig(camera_bins=11, camera_binsize=2.0, camera_maxval=10.0, camera_mu=10.0)
VPT_GROUPS: tuple[tuple[str, ...], ...] = (
    tuple(f"hotbar.{number}" for number in range(1, 10)),
    ("forward", "back"),
    ("left", "right"),
    ("sprint", "sneak"),
    ("use",),
    ("drop",),
    ("attack",),
    ("jump",),
    ("inventory",),
)
"""Keys that exclude each other, as VPT (arXiv 2206.11795) groups them; `inventory` has a group of its own."""

WALKING: tuple[Action, ...] = (
    {},
    {"forward": 1},
    {"forward": 1, "jump": 1},
    {"back": 1},
    {"left": 1},
    {"right": 1},
    {"camera": (0.0, -15.0)},
    {"camera": (0.0, 15.0)},
    {"camera": (-15.0, 0.0)},
    {"camera": (15.0, 0.0)},
    {"attack": 1},
    {"use": 1},
)
"""The default actions of `DiscreteActions`; the first presses nothing."""


class PixelsOnly(gymnasium.ObservationWrapper):
    """The image `pov`, uint8 [H, W, 3], in place of the dictionary."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.observation_space = _pov(env.observation_space)

    def observation(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        return observation["pov"]

    @staticmethod
    def of_rows(env: VectorEnv) -> VectorEnv:
        """The same for a vector environment: uint8 [n, H, W, 3]."""
        return _PixelRows(env)


class DiscreteActions(gymnasium.ActionWrapper):
    """Number k of `Discrete(n)` is the k-th of `actions`. ValueError for malformed actions and for numbers
    out of range."""

    def __init__(self, env: gymnasium.Env, actions: Sequence[Action] = WALKING) -> None:
        super().__init__(env)
        self.actions = _whole(actions)
        self.action_space = spaces.Discrete(len(self.actions))

    def action(self, action: Any) -> dict[str, Any]:
        return self.actions[_number(action, len(self.actions))]

    @staticmethod
    def of_rows(env: VectorEnv, actions: Sequence[Action] = WALKING) -> VectorEnv:
        """The same for a vector environment: numbers [n]."""
        whole = _whole(actions)
        return _ActionRows(
            env, spaces.Discrete(len(whole)), lambda number: whole[_number(number, len(whole))]
        )


class MultiDiscreteActions(gymnasium.ActionWrapper):
    """VPT's factored actions: for each of `VPT_GROUPS` 0 (none) or the number of the key pressed, then the
    camera's pitch and yaw in `camera`'s mu-law bins (by default VPT's eleven to +-10 degrees, 5 is still).
    ValueError for numbers out of range."""

    def __init__(self, env: gymnasium.Env, camera: ActionConfig = VPT_CAMERA) -> None:
        super().__init__(env)
        self.tokenizer = ActionTokenizer(camera)
        self.action_space = _factored(camera)

    def action(self, action: Any) -> dict[str, Any]:
        return _from_factors(action, self.tokenizer)

    @staticmethod
    def of_rows(env: VectorEnv, camera: ActionConfig = VPT_CAMERA) -> VectorEnv:
        """The same for a vector environment: numbers [n, 11]."""
        tokenizer = ActionTokenizer(camera)
        return _ActionRows(env, _factored(camera), lambda numbers: _from_factors(numbers, tokenizer))


class FrameSkip(gymnasium.Wrapper):
    """Every action is taken `skip` times, or until the episode ends; rewards are added up, the last
    observation and info are returned. The camera turns each time."""

    def __init__(self, env: gymnasium.Env, skip: int = 4) -> None:
        super().__init__(env)
        if isinstance(skip, bool) or not isinstance(skip, int) or skip < 1:
            raise ValueError(f"skip must be a whole number of at least 1, got {skip!r}")
        self.skip = skip

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        total = 0.0
        for _ in range(self.skip):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


class WithoutEscape(gymnasium.ActionWrapper):
    """No ESC: the action space lacks it, and it is never pressed, whatever an agent says."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        keys = env.action_space
        if not isinstance(keys, spaces.Dict):
            raise ValueError(
                f"needs a dictionary of actions, got {type(keys).__name__}: put it further inside"
            )
        self.action_space = spaces.Dict({name: keys[name] for name in keys.spaces if name != "ESC"})

    def action(self, action: Action) -> dict[str, Any]:
        return {**action, "ESC": 0}


class FourTuple:
    """An environment for code of gym before 0.26 (MineRL's examples): `reset()` returns the observation, and
    `step` returns (observation, reward, done, info), where `info["TimeLimit.truncated"]` says whether the
    episode was cut off. All else is the environment's own."""

    def __init__(self, env: gymnasium.Env) -> None:
        self.env = env
        self._seed: int | None = None

    def seed(self, seed: int | None = None) -> list[int | None]:
        """The seed of the next `reset`."""
        self._seed = seed
        return [seed]

    def reset(self, **options: Any) -> Any:
        seed, self._seed = options.pop("seed", self._seed), None
        return self.env.reset(seed=seed, **options)[0]

    def step(self, action: Any) -> tuple[Any, float, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        done = terminated or truncated
        if done:
            info = {**info, "TimeLimit.truncated": truncated and not terminated}
        return observation, float(reward), done, info

    def render(self, mode: str | None = None) -> Any:
        """`mode` is gym's former argument; what is rendered was chosen when the environment was made."""
        return self.env.render()

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # not set yet, while a copy is unpickled
            raise AttributeError(name)
        return getattr(self.env, name)


class _PixelRows(VectorWrapper):
    """`pov` of all rows, and of the last observations of rows that were reset in the same step, which
    gymnasium's own base class of such wrappers does not know."""

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        self.single_observation_space = _pov(env.single_observation_space)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        observations, infos = self.env.reset(seed=seed, options=options)
        return observations["pov"], infos

    def step(self, actions: Any) -> Any:
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        if "final_obs" in infos:
            final = infos["final_obs"]
            pixels = np.empty(len(final), dtype=object)
            for row, found in enumerate(final):
                pixels[row] = None if found is None else found["pov"]
            infos = {**infos, "final_obs": pixels}
        return observations["pov"], rewards, terminations, truncations, infos


class _ActionRows(VectorActionWrapper):
    """Actions of another space, turned row by row into dictionaries by `change`."""

    def __init__(self, env: VectorEnv, space: spaces.Space, change: Callable[[Any], dict[str, Any]]) -> None:
        super().__init__(env)
        self.single_action_space, self.change = space, change
        self.action_space = batch_space(space, env.num_envs)

    def actions(self, actions: Any) -> dict[str, np.ndarray]:
        if len(actions) != self.num_envs:
            raise ValueError(f"{self.num_envs} rows need as many actions, got {len(actions)}")
        rows = [self.change(action) for action in actions]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _pov(space: spaces.Space) -> spaces.Box:
    if not isinstance(space, spaces.Dict) or not isinstance(space.spaces.get("pov"), spaces.Box):
        raise ValueError(f"needs observations with an image 'pov', got {space}")
    return space["pov"]  # type: ignore[return-value]


def _whole(actions: Sequence[Action]) -> list[dict[str, Any]]:
    if not actions:
        raise ValueError("a table of no actions: give at least one")
    return [complete(action) for action in actions]


def _number(action: Any, count: int) -> int:
    value = np.asarray(action)
    if value.size != 1 or value.dtype.kind not in "iu" or not 0 <= value.item() < count:
        raise ValueError(f"an action must be a whole number of 0 to {count - 1}, got {action!r}")
    return int(value.item())


def _factored(camera: ActionConfig) -> spaces.MultiDiscrete:
    return spaces.MultiDiscrete([len(group) + 1 for group in VPT_GROUPS] + [camera.camera_bins] * 2)


def _from_factors(action: Any, tokenizer: ActionTokenizer) -> dict[str, Any]:
    numbers, most = np.asarray(action), _factored(tokenizer.config).nvec
    right = numbers.shape == most.shape and numbers.dtype.kind in "iu"
    if not right or (numbers < 0).any() or (numbers >= most).any():
        raise ValueError(f"an action must be whole numbers of 0 to {(most - 1).tolist()}, got {action!r}")
    *keys, pitch, yaw = numbers.tolist()
    pressed = {group[key - 1]: 1 for group, key in zip(VPT_GROUPS, keys, strict=True) if key}
    return complete({**pressed, "camera": tokenizer.degrees([pitch, yaw])})
