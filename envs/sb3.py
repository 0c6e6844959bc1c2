"""Vector environments of gymnasium as Stable-Baselines3's own `VecEnv`: no process, no copy of the model.

    rows = gymnasium.make_vec("unified/WorldModel-v0", num_envs=8)
    agent = PPO("CnnPolicy", VecMonitor(SB3VecEnv(DiscreteActions.of_rows(PixelsOnly.of_rows(rows)))))

Stable-Baselines3 resets an ended row in the same step and wants its last observation in `info`, under names
of its own; gymnasium's vector environments do so in one of three ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError("this needs Stable-Baselines3: pip install 'unified-multimodal[sb3]'") from error

ACTIONS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class SB3VecEnv(VecEnv):
    """`env`: any vector environment that SB3's agents can act in (its actions are no dictionary), in any
    autoreset mode. An ended row starts anew in the same step; its info then has `terminal_observation`, and
    always `TimeLimit.truncated`. ValueError for a dictionary of actions."""

    def __init__(self, env: VectorEnv) -> None:
        if not isinstance(env.single_action_space, ACTIONS):
            raise ValueError(
                f"Stable-Baselines3 has no agents for actions {env.single_action_space}: wrap the "
                "environment in DiscreteActions.of_rows or MultiDiscreteActions.of_rows"
            )
        self.env = env
        self.same_step = env.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP
        self._actions: Any = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Any:
        """Observations [n, ...]; seeds and options set before are used once."""
        options = next((some for some in self._options if some), None)
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        observations, infos = self.env.reset(seed=seeds, options=options)  # type: ignore[arg-type]
        self.reset_infos = info_rows(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> Any:
        observations, rewards, terminations, truncations, infos = self.env.step(self._actions)
        done = terminations | truncations
        rows = info_rows(infos, self.num_envs)
        if done.any() and not self.same_step:
            final = {row: _row(observations, row) for row in np.nonzero(done)[0].tolist()}
            observations, fresh = self.env.reset(options={"reset_mask": done})
            started = info_rows(fresh, self.num_envs)
        for row in np.nonzero(done)[0].tolist():
            if self.same_step:
                self.reset_infos[row] = {k: v for k, v in rows[row].items() if not k.startswith("final_")}
                rows[row] = {**rows[row]["final_info"], "terminal_observation": rows[row]["final_obs"]}
            else:
                self.reset_infos[row] = started[row]
                rows[row]["terminal_observation"] = final[row]
        for row, info in enumerate(rows):
            info["TimeLimit.truncated"] = bool(truncations[row] and not terminations[row])
        return observations, rewards.astype(np.float32), done, rows

    def close(self) -> None:
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        return self.env.render() or [None] * self.num_envs  # type: ignore[return-value]

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The vector environment's attribute, once for each row."""
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the vector environment, for all rows alike."""
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the vector environment once; its result for each row."""
        found = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [found] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


def info_rows(infos: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """gymnasium's dictionary of arrays, with a mask under "_" + name, as one dictionary for each row."""
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, values in infos.items():
        if name.startswith("_"):
            continue
        nested = info_rows(values, count) if isinstance(values, dict) else values
        for row in np.nonzero(infos.get(f"_{name}", np.ones(count, dtype=bool)))[0].tolist():
            rows[row][name] = nested[row]
    return rows


def _row(observations: Any, row: int) -> Any:
    """A copy of one row of observations: an array, or a dictionary of arrays."""
    if isinstance(observations, dict):
        return {name: _row(values, row) for name, values in observations.items()}
    return np.array(observations[row])
