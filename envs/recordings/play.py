"""Plays actions in an environment, and records what is played. Any gymnasium environment with the 24-key
MineRL action dict and a `pov` observation will do: the voxel world, MineRL, a world model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from unified.tokenizers.environment_action import Action, complete

from .writer import RecordingWriter

Policy = Callable[[dict[str, Any]], Mapping[str, Any]]

_STATE_FROM_ENV = ("isGuiOpen", "isGuiInventory", "hotbar", "yaw", "pitch", "xpos", "ypos", "zpos")


def play(
    env: gymnasium.Env,
    actions: Iterable[Mapping[str, Any]],
    *,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
) -> np.ndarray:
    """Resets, then takes the actions one by one: frames uint8 [N + 1, H, W, 3], fewer if the episode ends
    early. Frame 0 is the start, frame k + 1 what action k led to."""
    observation, _ = env.reset(seed=seed, options=options)
    frames = [np.array(observation["pov"])]
    for action in actions:
        observation, _, terminated, truncated, _ = env.step(complete(action))
        frames.append(np.array(observation["pov"]))
        if terminated or truncated:
            break
    return np.stack(frames)


def record(
    env: gymnasium.Env,
    source: Policy | Iterable[Mapping[str, Any]],
    stem: str | Path,
    *,
    steps: int | None = None,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
    fps: float = 20.0,
    lossless: bool = True,
) -> int:
    """Plays and writes `stem`.mp4, .jsonl and .meta.json (seed and environment id); returns the number of
    steps.

    `source` is a policy (observation -> action; then give `steps`) or the actions themselves. Ends with
    the episode, the actions or `steps`. The video holds one frame more than there are lines: what the last
    action led to. A frame that comes with `info["error"]` (MineRL's time-out) is not written."""
    if callable(source) and steps is None:
        raise ValueError("recording a policy needs steps, the number of actions to take at most")
    observation, info = env.reset(seed=seed, options=options)
    meta = {"env": env.spec.id if env.spec else type(env.unwrapped).__name__, "seed": seed}
    next_action = _chooser(source)
    with RecordingWriter(stem, fps=fps, lossless=lossless, meta=meta) as writer:
        while steps is None or writer.count < steps:
            action = next_action(observation)
            if action is None:
                break
            writer.append(np.array(observation["pov"]), action, state_of(observation, info))
            observation, _, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                break
        writer.close(None if "error" in info else np.array(observation["pov"]))
    return writer.count


def _chooser(source: Policy | Iterable[Mapping[str, Any]]) -> Callable[[dict[str, Any]], Action | None]:
    """Observation -> complete action, or None when there are no more. Its camera is float32, so what is
    written is exactly what the environment is given."""
    if callable(source):
        return lambda observation: complete(source(observation))
    given = iter(source)

    def from_list(_: dict[str, Any]) -> Action | None:
        action = next(given, None)
        return None if action is None else complete(action)

    return from_list


def state_of(observation: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """What observation and info of an environment say about the frame, under the recorder's names: the
    `state` of `RecordingWriter.append`."""
    state: dict[str, Any] = {}
    for source in (observation.get("location_stats"), info.get("location_stats"), info):
        if isinstance(source, Mapping):
            state |= {name: source[name] for name in _STATE_FROM_ENV if name in source}
    if "isGuiOpen" in state:
        state["isGuiOpen"] = bool(state["isGuiOpen"])
        state["cursorInFrame"] = True  # an environment that has a cursor draws it, the recorder does not
    return state
