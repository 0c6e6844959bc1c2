"""The voxel world and the model's dream of it, stepped by the same actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from unified.apps.assistant import Assistant

GAP = 2  # pixels between two frames


class Worlds:
    """`assistant`: who dreams, or None for the real world alone. `real`: whether the voxel world is stepped,
    too; else it only gives the first frame, unless `start` does (whatever `WorldModelEnv` starts from).
    `size`: (height, width) of the frames in pixels. ValueError for a size or model that will not do.

    `stepped` are the environments that are played, by name ("real", "dream"), `frames` their current frames,
    `told` observation and info of each, `steps` those since the start."""

    def __init__(
        self,
        assistant: Assistant | None,
        size: tuple[int, int],
        *,
        real: bool = True,
        start: Any = None,
        seed: int = 0,
    ) -> None:
        from unified.envs.voxel import VoxelEnv
        from unified.envs.world_model import WorldModelEnv

        self.seed, self.start = seed, start
        self.dream = None if assistant is None else WorldModelEnv(assistant, size=size, undo=0)
        self.real = VoxelEnv(height=size[0], width=size[1], max_steps=0) if start is None else None
        self.stepped = {
            name: env
            for name, env in (("real", self.real if real else None), ("dream", self.dream))
            if env is not None
        }
        self.steps = 0
        self.frames: dict[str, np.ndarray] = {}
        self.told: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
        self.begin()

    def begin(self) -> None:
        """Start both worlds with the seed, the dream from what is seen in the real one."""
        self.steps, options = 0, {"start": self.start}
        if self.real is not None:
            observation, info = self.real.reset(seed=self.seed)
            self._seen("real", observation, info)
            options = {"frame": observation["pov"]}
        if self.dream is not None:
            self._seen("dream", *self.dream.reset(seed=self.seed, options=options))

    def another(self) -> None:
        """Start both with the next seed."""
        self.seed += 1
        self.begin()

    def wake(self) -> bool:
        """Let the dream go on from the frame of the real world; False where only one of them is played."""
        if self.dream is None or "real" not in self.stepped:
            return False
        self._seen("dream", *self.dream.reset(options={"frame": self.frames["real"]}))
        return True

    def step(self, action: Mapping[str, Any]) -> bool:
        """One step of every world; whether an episode has ended. ValueError for a bad action."""
        ended, self.steps = False, self.steps + 1
        for name, env in self.stepped.items():
            observation, _, terminated, truncated, info = env.step(action)
            self._seen(name, observation, info)
            ended = ended or terminated or truncated
        return ended

    def picture(self) -> np.ndarray:
        """The frames side by side: uint8 [H, W', 3]."""
        return side_by_side(list(self.frames.values()))

    def close(self) -> None:
        for env in self.stepped.values():
            env.close()

    def _seen(self, name: str, observation: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        if name in self.stepped:
            self.frames[name] = observation["pov"]
            self.told[name] = (observation, info)


def side_by_side(frames: list[np.ndarray]) -> np.ndarray:
    """Frames uint8 [H, W, 3] in a row, with black between them."""
    black = np.zeros((frames[0].shape[0], GAP, 3), dtype=np.uint8)
    parts = [part for frame in frames for part in (black, frame)]
    return np.concatenate(parts[1:], axis=1)
