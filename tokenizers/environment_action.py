"""Environment actions, and what a recorder line says of them.

An action has MineRL's 23 buttons (0 or 1) and `camera` = [pitch, yaw] in degrees of this step: positive pitch
looks down, positive yaw turns right. This module needs NumPy alone, so that environments and their workers
start without torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from unified.tokenizers.shown import shown

Action = dict[str, Any]

HOTBAR = tuple(f"hotbar.{n}" for n in range(1, 10))
BUTTONS = (
    *("use", "attack", "forward", "back", "left", "right", "jump", "sneak", "sprint"),
    *("drop", "swapHands", "pickItem", "inventory", "ESC"),
    *HOTBAR,
)
"""The 23 buttons in the order of their ids."""

KEYS = {
    "key.keyboard.w": "forward",
    "key.keyboard.s": "back",
    "key.keyboard.a": "left",
    "key.keyboard.d": "right",
    "key.keyboard.space": "jump",
    "key.keyboard.left.shift": "sneak",
    "key.keyboard.left.control": "sprint",
    "key.keyboard.q": "drop",
    "key.keyboard.e": "inventory",
    "key.keyboard.escape": "ESC",
    "key.keyboard.f": "swapHands",
    **{f"key.keyboard.{n}": f"hotbar.{n}" for n in range(1, 10)},
}
MOUSE_BUTTONS = {0: "attack", 1: "use", 2: "pickItem"}
CAMERA_LIMIT = 180.0  # of the environments, degrees per step
MOST = 1e9  # pixels of a mouse in one step: far beyond any mouse, far below where floats end
_KNOWN = frozenset(BUTTONS) | {"camera"}


def read_recorder_line(line: Mapping[str, Any], mouse_to_degrees: float = 360 / 2400) -> tuple[Action, bool]:
    """What the player did on a recorder line: (all 23 buttons and camera, whether anything was pressed or
    moved).

    Reads `keyboard.keys`, `mouse.dx`, `mouse.dy` and `mouse.buttons`; unknown keys and buttons are
    skipped. `camera` is float64 [2]. Raises ValueError naming the field that is missing or malformed."""
    keys = _field(line, "keyboard", "keys", list)
    clicks = _field(line, "mouse", "buttons", list)
    moves = [_number(line, "dy"), _number(line, "dx")]  # pitch is vertical: y comes first
    pressed = {KEYS[key] for key in keys if isinstance(key, str) and key in KEYS}
    pressed |= {MOUSE_BUTTONS[b] for b in clicks if isinstance(b, int) and b in MOUSE_BUTTONS}
    action: Action = {name: int(name in pressed) for name in BUTTONS}
    action["camera"] = np.array(moves) * mouse_to_degrees
    return action, bool(pressed) or any(moves)


def complete(action: Mapping[str, Any]) -> Action:
    """The action as the environments take it: all 23 buttons as int (missing ones 0), camera float32 [2].

    Raises ValueError on unknown keys, buttons other than 0 and 1, and cameras that are not two numbers in
    +-180."""
    _check_keys(action)
    whole: Action = {}
    for name in BUTTONS:
        try:
            value = np.asarray(action.get(name, 0))
        except ValueError:  # lists of lists of several lengths
            value = np.zeros(0)
        if value.size != 1 or value.dtype.kind not in "biuf" or value.item() not in (0, 1):
            raise ValueError(f"button {name!r} must be 0 or 1, got {shown(action[name])}")
        whole[name] = int(value.item())
    angles = _angles(action.get("camera", (0.0, 0.0)), (2,))
    if np.abs(angles).max() > CAMERA_LIMIT:
        raise ValueError(f"camera must lie in -180 to 180 degrees, got {angles.tolist()}")
    whole["camera"] = angles.astype(np.float32)
    return whole


def stacked(actions: Iterable[Mapping[str, Any]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A list of actions -> which buttons are pressed (bool [N] each) and the cameras [N, 2]."""
    actions = list(actions)
    for k, action in enumerate(actions):
        _check_keys(action, f"action {k}: ")
    buttons = {name: _pressed(name, [a.get(name, 0) for a in actions], len(actions)) for name in BUTTONS}
    cameras = [_angles(a.get("camera", (0, 0)), (2,), f"action {k}: ") for k, a in enumerate(actions)]
    return buttons, np.array(cameras).reshape(-1, 2)


def batched(actions: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The same from one dict of arrays, whose camera says how many actions there are."""
    _check_keys(actions)
    if "camera" not in actions:
        raise ValueError("a batch of actions needs 'camera', degrees [N, 2]")
    camera = np.asarray(actions["camera"])
    single = camera.ndim == 1
    camera = _angles(camera, (2,) if single else (len(camera) if camera.ndim else 0, 2)).reshape(-1, 2)
    count = len(camera)
    columns = {name: actions.get(name, np.zeros(count, dtype=np.int64)) for name in BUTTONS}
    if single:
        columns = {name: np.reshape(column, -1) for name, column in columns.items()}
    return {name: _pressed(name, column, count) for name, column in columns.items()}, camera


def _pressed(name: str, column: Any, count: int) -> np.ndarray:
    values = np.asarray(column)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.shape != (count,):
        raise ValueError(
            f"button {name!r} must be one value per action ({count}), got shape {list(values.shape)}"
        )
    return values == 1


def _check_keys(action: Mapping[str, Any], where: str = "") -> None:
    if not isinstance(action, Mapping):
        raise ValueError(f"{where}an action must be a dict, got {type(action).__name__}")
    unknown = sorted(str(name) for name in action.keys() - _KNOWN)
    if unknown:
        raise ValueError(
            f"{where}unknown action key {unknown[0]!r:.60}: an action has 23 buttons and 'camera'"
        )


def _angles(camera: Any, shape: tuple[int, ...], where: str = "") -> np.ndarray:
    try:
        angles = np.asarray(camera, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        found = shown(camera)
        raise ValueError(f"{where}camera must be numbers [pitch, yaw] in degrees, got {found}") from None
    if angles.shape != shape:
        raise ValueError(f"{where}camera must have shape {list(shape)}, got {list(angles.shape)}")
    if not np.isfinite(angles).all():
        raise ValueError(f"{where}camera must be finite, got {angles[~np.isfinite(angles)][0]}")
    return angles


def _field(line: Mapping[str, Any], part: str, name: str, kind: type) -> Any:
    section = line.get(part) if isinstance(line, Mapping) else None
    value = section.get(name) if isinstance(section, Mapping) else None
    if not isinstance(value, kind):
        raise ValueError(f"recorder line: {part}.{name} must be a {kind.__name__}, got {value!r:.60}")
    return value


def _number(line: Mapping[str, Any], name: str) -> float:
    section = line.get("mouse") if isinstance(line, Mapping) else None
    value = section.get(name) if isinstance(section, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MOST <= value <= MOST:
        raise ValueError(f"recorder line: mouse.{name} must be a finite number, got {value!r:.60}")
    return float(value)
