"""The action space of all environments: MineRL's 24 keys, with MineRL's `noop` and samples without ESC."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from unified.tokenizers.environment_action import BUTTONS, CAMERA_LIMIT


class ActionSpace(spaces.Dict):
    """23 buttons (0 or 1) and `camera` float32 [2], pitch and yaw in degrees. ESC may be pressed, but samples
    never press it: in MineRL, and in worlds where `escape_ends`, it ends the episode."""

    def __init__(self, seed: int | None = None) -> None:
        parts: dict[str, spaces.Space[Any]] = {name: spaces.Discrete(2) for name in BUTTONS}
        parts["camera"] = spaces.Box(-CAMERA_LIMIT, CAMERA_LIMIT, shape=(2,), dtype=np.float32)
        super().__init__(parts, seed=seed)

    def noop(self) -> dict[str, Any]:
        """The action that presses nothing, with all 24 keys."""
        return {**dict.fromkeys(BUTTONS, 0), "camera": np.zeros(2, dtype=np.float32)}

    def sample(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """A random action without ESC."""
        return {**super().sample(*arguments, **options), "ESC": np.int64(0)}


class ActionSpaceOfRows(spaces.Dict):
    """The actions of `rows` environments: the keys of `ActionSpace`, each with one value a row."""

    def __init__(self, rows: int, seed: Any = None) -> None:
        parts = {name: batch_space(space, rows) for name, space in ActionSpace().spaces.items()}
        super().__init__(parts, seed=seed)

    def noop(self) -> dict[str, Any]:
        """The actions that press nothing."""
        return {name: np.zeros(space.shape, dtype=space.dtype) for name, space in self.spaces.items()}

    def sample(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Random actions without ESC."""
        found = super().sample(*arguments, **options)
        return {**found, "ESC": np.zeros_like(found["ESC"])}


@batch_space.register(ActionSpace)
def _of_rows(space: ActionSpace, n: int = 1) -> ActionSpaceOfRows:
    return ActionSpaceOfRows(n, seed=deepcopy(space.np_random))
