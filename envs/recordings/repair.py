"""The recorder's known quirks, each repaired by one small function over the lines (listed in VPT's loader).

Functions take and return lists of lines and leave their input as it was. What is read here, besides keys and
buttons: `mouse.newButtons`, `hotbar`, `isGuiOpen`; lines without those fields pass through. Null steps are
only marked (`action_of`), missing frames are dealt with by the reader, the cursor is drawn by `cursor.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache

from unified.tokenizers.environment_action import KEYS

from .lines import Line

Repair = Callable[[Sequence[Line]], list[Line]]

GUI_MOUSE_SCALE = {"5.7": 0.5, "5.8": 0.5, "6.7": 2.0, "6.8": 2.0, "6.9": 2.0}
_ATTACK_BUTTON = 0
_PICK_BUTTON = 2
_HOTBAR_KEYS = frozenset(key for key, action in KEYS.items() if action.startswith("hotbar."))


def drop_stuck_attack(lines: Sequence[Line]) -> list[Line]:
    """If line 0 newly presses the attack button alone, that button is stuck: it is taken away until a
    later line newly presses it."""
    if not lines or lines[0]["mouse"].get("newButtons") != [_ATTACK_BUTTON]:
        return list(lines)
    pressed = [k for k in range(1, len(lines)) if _ATTACK_BUTTON in lines[k]["mouse"].get("newButtons", [])]
    free = min(pressed, default=len(lines))
    return [_without_attack(line) if k < free else line for k, line in enumerate(lines)]


def press_wheel_hotbar(lines: Sequence[Line]) -> list[Line]:
    """The mouse wheel is not recorded as a key: where `hotbar` changes from one line to the next (it starts
    at 0), the key of the new slot is pressed. A change made by a number key or by picking a block, on that
    line or the one before, needs no second press and gets none; `repeat_hotbar_changes` is the published
    rule, which adds it."""
    return _press_changes(lines, spare_explained=True)


def repeat_hotbar_changes(lines: Sequence[Line]) -> list[Line]:
    """The published form of `press_wheel_hotbar`: presses the new slot's key at every change, whatever
    caused it."""
    return _press_changes(lines, spare_explained=False)


def scale_gui_mouse(lines: Sequence[Line], version: str) -> list[Line]:
    """Some versions of the recorder stored mouse moves inside a GUI at half or double size. `version` is
    "major.minor"; lines of other versions pass through, which is said once for each."""
    if version not in GUI_MOUSE_SCALE:
        _say_unscaled(version)
    scale = GUI_MOUSE_SCALE.get(version, 1.0)
    return [_scaled(line, scale) if line.get("isGuiOpen") and scale != 1.0 else line for line in lines]


@cache
def _say_unscaled(version: str) -> None:
    warnings.warn(
        f"recorder version {version!r} is none of those whose mouse moves inside a GUI are known to need "
        f"scaling ({', '.join(GUI_MOUSE_SCALE)}): they are read as they were recorded",
        stacklevel=3,
    )


REPAIRS: tuple[Repair, ...] = (drop_stuck_attack, press_wheel_hotbar)
"""What the reader applies unless told otherwise."""


def _press_changes(lines: Sequence[Line], *, spare_explained: bool) -> list[Line]:
    repaired, slot, chosen_before = [], 0, False
    for line in lines:
        new_slot = line.get("hotbar", slot)
        chosen_now = _chooses_slot(line)
        explained = spare_explained and (chosen_now or chosen_before)
        repaired.append(_with_slot(line, new_slot) if new_slot != slot and not explained else line)
        slot, chosen_before = new_slot, chosen_now
    return repaired


def _chooses_slot(line: Line) -> bool:
    keys = {key for key in line["keyboard"]["keys"] if isinstance(key, str)}
    return not _HOTBAR_KEYS.isdisjoint(keys) or _PICK_BUTTON in line["mouse"]["buttons"]


def _with_slot(line: Line, slot: int) -> Line:
    key = f"key.keyboard.{slot + 1}"
    keys = line["keyboard"]["keys"]
    return line if key in keys else {**line, "keyboard": {**line["keyboard"], "keys": [*keys, key]}}


def _without_attack(line: Line) -> Line:
    buttons = [button for button in line["mouse"]["buttons"] if button != _ATTACK_BUTTON]
    return {**line, "mouse": {**line["mouse"], "buttons": buttons}}


def _scaled(line: Line, scale: float) -> Line:
    mouse = line["mouse"]
    return {**line, "mouse": {**mouse, "dx": mouse["dx"] * scale, "dy": mouse["dy"] * scale}}
