"""One line of a recording <-> one environment action, and the reading of whole line files.

A line is a JSON object: `mouse` {x, y, dx, dy, buttons, newButtons, ...}, `keyboard` {keys, newKeys, chars},
and the state of the frame (`isGuiOpen`, `hotbar`, `yaw`, `pitch`, `xpos`, ...). Only the pressed keys and
buttons and dx, dy are required. dx and dy are pixels (0.15 degrees each); the lines we write hold fractions
of a pixel, so a camera angle (float32, as environments take it) comes back bit for bit. Files of plain
environment actions, one dict per line as MineWorld's clips have them, are turned into such lines on the way
in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from unified.tokenizers.environment_action import (
    CAMERA_LIMIT,
    KEYS,
    MOUSE_BUTTONS,
    Action,
    complete,
    read_recorder_line,
)

from unified.text_files import parse_json
from unified.text_files import read_lines as read_texts

Line = dict[str, Any]

DEGREES_PER_PIXEL = 360 / 2400
FARTHEST = 1e6  # pixels of a cursor from the corner of the window
STATE_FIELDS = (
    *("isGuiOpen", "isGuiInventory", "hotbar", "yaw", "pitch", "xpos", "ypos", "zpos"),
    *("inventory", "serverTick", "stats", "cursorInFrame"),
)
"""What a caller may say about the frame of a line. `cursorInFrame` is ours: the frame already shows the
cursor."""

_IGNORED_IN_CLIPS = ("camera_bins",)  # published tracks carry the bins beside the degrees
_KEY_OF = {action: key for key, action in KEYS.items()}
_BUTTON_OF = {action: button for button, action in MOUSE_BUTTONS.items()}


def action_of(line: Mapping[str, Any]) -> tuple[Action, bool]:
    """(What was pressed and how far the camera moved, whether the step counts as null).

    The camera is float32 [2] in degrees, cut at +-180. Contradicting buttons are kept, as the game itself
    sorts them out (the tokenizer's `from_recorder` cancels them). Null: nothing happened, or inventory or
    menu key; training skips those. Raises ValueError naming the malformed field."""
    action, active = read_recorder_line(line, DEGREES_PER_PIXEL)
    action["camera"] = np.clip(action["camera"], -CAMERA_LIMIT, CAMERA_LIMIT).astype(np.float32)
    return action, not active or bool(action["inventory"] or action["ESC"])


def line_of(
    action: Mapping[str, Any],
    *,
    previous: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    tick: int = 0,
    fps: float = 20.0,
) -> Line:
    """The line of an action. `previous` (the line before) says which keys are newly pressed; in a first line
    none are, since a first line whose `newButtons` is [0] is the recorder's sign of a stuck button.

    Raises ValueError on a bad action (see `complete`) or an unknown name in `state`."""
    whole = complete(action)
    keys = [key for name, key in _KEY_OF.items() if whole[name]]
    buttons = [button for name, button in _BUTTON_OF.items() if whole[name]]
    pitch, yaw = (float(angle) / DEGREES_PER_PIXEL for angle in whole["camera"])
    held_keys = previous["keyboard"]["keys"] if previous else keys
    held_buttons = previous["mouse"]["buttons"] if previous else buttons
    return {
        "mouse": {
            **{"x": 640.0, "y": 360.0, "dx": yaw, "dy": pitch, "scaledX": 0.0, "scaledY": 0.0, "dwheel": 0.0},
            "buttons": buttons,
            "newButtons": [button for button in buttons if button not in held_buttons],
        },
        "keyboard": {"keys": keys, "newKeys": [key for key in keys if key not in held_keys], "chars": ""},
        "isGuiOpen": False,
        "isGuiInventory": False,
        **_checked_state(state or {}),
        "tick": tick,
        "milli": round(1000 * tick / fps),
    }


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The lines of a file in order. An unreadable one is replaced by a line on which nothing is pressed,
    so that later lines keep their frames; `valid` [N] is False there. `problem` says what was wrong, or is
    None; `faults` says it of each such line."""

    lines: list[Line]
    valid: np.ndarray
    problem: str | None
    faults: tuple[str, ...] = ()


def read_lines(path: Path) -> Lines:
    """Reads a `.jsonl` of recorder lines or environment actions. Raises ValueError if no line is usable."""
    lines: list[Line] = []
    faults: dict[int, str] = {}
    for number, text in enumerate(read_texts(path)):
        try:
            lines.append(_parse(text))
        except ValueError as error:
            faults[number] = str(error)
            lines.append(line_of({}))
    if len(faults) == len(lines):
        first = f" (line 1: {faults[0]})" if faults else ""
        raise ValueError(f"{path}: no usable line{first}")
    valid = np.array([number not in faults for number in range(len(lines))])
    each = tuple(f"{path.name}:{number + 1}: {fault}" for number, fault in faults.items())
    return Lines(lines=lines, valid=valid, problem=_summary(path, faults, len(lines)), faults=each)


def _parse(text: bytes) -> Line:
    """One checked line. Raises ValueError."""
    try:
        line = parse_json(text)
    except ValueError as error:
        said = str(error)
        raise ValueError("not a JSON object" if said.startswith("not JSON") else said) from None
    if not isinstance(line, dict):
        raise ValueError("not a JSON object")
    if "ESC" in line or ("camera" in line and "mouse" not in line):
        return line_of({name: value for name, value in line.items() if name not in _IGNORED_IN_CLIPS})
    read_recorder_line(line)
    _check_optional(line)
    return line


def _check_optional(line: Line) -> None:
    """Fields that repairs rely on may be missing, but not malformed."""
    mouse = line["mouse"]
    if not isinstance(mouse.get("newButtons", []), list):
        raise ValueError(f"recorder line: mouse.newButtons must be a list, got {mouse['newButtons']!r:.60}")
    slot = line.get("hotbar", 0)
    if type(slot) is not int or not 0 <= slot <= 8:
        raise ValueError(f"recorder line: hotbar must be 0 to 8, got {slot!r:.60}")
    for name in ("x", "y"):
        value = mouse.get(name, 0.0)
        if type(value) not in (int, float) or not -FARTHEST <= value <= FARTHEST:
            raise ValueError(f"recorder line: mouse.{name} must be a number of pixels, got {value!r:.60}")


def _summary(path: Path, faults: dict[int, str], count: int) -> str | None:
    if not faults:
        return None
    first = min(faults)
    which = f"line {first + 1}" if len(faults) == 1 else f"{len(faults)} lines, first line {first + 1}"
    return f"{path}: {which} of {count} unreadable, marked invalid ({faults[first]})"


def _checked_state(state: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(state.keys() - set(STATE_FIELDS))
    if unknown:
        raise ValueError(f"unknown state field {unknown[0]!r}: choose from {', '.join(STATE_FIELDS)}")
    return {name: _plain(name, value) for name, value in state.items()}


def _plain(name: str, value: Any) -> Any:
    """Numpy values as plain JSON ones."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError(f"state field {name!r} is not plain JSON data: {value!r}") from None
    return value
