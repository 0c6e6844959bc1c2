"""MineRL's action dictionary: its space, its checks, and what it means to the game.

The 24 keys are those of MineRL 1.0 (minerllabs/minerl, `human_controls`); `camera` is [pitch, yaw] in degrees
for this tick, positive pitch looks down, positive yaw turns right.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

HOTBAR_KEYS = tuple(f"hotbar.{number}" for number in range(1, 10))
BUTTONS = (
    "ESC", "attack", "back", "drop", "forward", *HOTBAR_KEYS, "inventory", "jump", "left",
    "pickItem", "right", "sneak", "sprint", "swapHands", "use",
)  # fmt: skip
CAMERA = "camera"
CAMERA_LIMIT = 180.0
_KEYS = frozenset((*BUTTONS, CAMERA))


@dataclass(frozen=True, kw_only=True)
class Controls:
    """A checked action: the pressed buttons and the camera's turn in degrees."""

    pressed: frozenset[str]
    pitch: float
    yaw: float


def no_op() -> dict[str, Any]:
    """The action that presses nothing, with all 24 keys."""
    return {**dict.fromkeys(BUTTONS, 0), CAMERA: np.zeros(2, dtype=np.float32)}


def parse_action(action: Mapping[str, Any]) -> Controls:
    """Checks an action; what is missing is not pressed or does not turn. ValueError names the key."""
    if not isinstance(action, Mapping):
        raise ValueError(f"action must be a dictionary of MineRL's keys, got {type(action).__name__}")
    if not action.keys() <= _KEYS:
        unknown = sorted(str(key) for key in action if key not in _KEYS)
        raise ValueError(f"action has unknown keys {', '.join(unknown)}; keys are {', '.join(sorted(_KEYS))}")
    pitch, yaw = _camera(action[CAMERA]) if CAMERA in action else (0.0, 0.0)
    pressed = frozenset(key for key in action if key != CAMERA and _is_pressed(key, action[key]))
    return Controls(pressed=pressed, pitch=pitch, yaw=yaw)


def _is_pressed(key: str, value: Any) -> bool:
    if type(value) is not int:
        array = np.asarray(value)
        if array.size != 1 or array.dtype.kind not in "biuf":
            raise ValueError(f"action[{key!r}] must be 0 or 1, got {_brief(value)}")
        value = array.reshape(()).item()
    if value not in (0, 1):
        raise ValueError(f"action[{key!r}] must be 0 or 1, got {_brief(value)}")
    return bool(value)


def _camera(value: Any) -> tuple[float, float]:
    try:
        angles = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"action['camera'] must be two numbers, got {_brief(value)}") from None
    if angles.shape != (2,):
        raise ValueError(
            f"action['camera'] must have shape (2,): [pitch, yaw] in degrees, got {angles.shape}"
        )
    if not np.isfinite(angles).all() or np.abs(angles).max() > CAMERA_LIMIT:
        raise ValueError(f"action['camera'] must lie in -180 to 180 degrees, got {angles.tolist()}")
    return float(angles[0]), float(angles[1])


def _brief(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else text[:37] + "..."
