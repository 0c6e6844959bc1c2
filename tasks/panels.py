"""A sample as a row of panels for a contact sheet: pictures with the words and actions under them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from unified.tasks.sample import Sample

BUTTON_WORDS = {"use": "use", "swapHands": "swap hands", "pickItem": "pick block", "ESC": "escape"}
STILL = 0.5  # degrees: smaller turns are not worth a word
_PART = re.compile(r"<actions>(.*?)</actions>", re.DOTALL)
_PLANNERS = ("maze", "maze_text", "maze_path", "maze_fill", "frozen_lake")
MOST_FRAMES = 8  # of a clip: a longer one is thinned


@dataclass
class Panel:
    """A picture uint8 [H, W, 3] (None for words alone), who showed it, notes of (role, text), and the actions
    taken on it by `actor`."""

    picture: np.ndarray | None = None
    role: str = "user"
    notes: list[tuple[str, str]] = field(default_factory=list)
    actions: list[dict[str, Any]] = field(default_factory=list)
    actor: str = "user"

    def words(self) -> list[tuple[str, str]]:
        """Notes and actions as (role, text)."""
        return [*self.notes, *([(self.actor, action_words(joined(self.actions)))] if self.actions else [])]


def panels(sample: Sample) -> list[Panel]:
    """Every picture opens a panel. Words go under the picture before them, words before the first picture
    under that; an action goes under the frame it was taken on. Of a long clip every second, third, ...
    frame is shown with all actions up to the next."""
    found: list[Panel] = []
    waiting = Panel()
    for message in sample.messages:
        for item in message["content"]:
            if item["type"] == "image":
                found.append(Panel(picture=item["image"], role=message["role"], notes=waiting.notes))
                waiting = Panel()
            elif item["type"] == "text":
                words = _words(sample.task, message["role"], item["text"])
                (found[-1] if found else waiting).notes.extend([(message["role"], words)] if words else [])
    _place_actions(sample, found)
    return _thinned(found, frame_step(sample)) or [waiting]


def joined(actions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several actions as one: every button that was pressed, turns added up."""
    buttons = {name: max(action[name] for action in actions) for name in actions[0] if name != "camera"}
    return {**buttons, "camera": np.sum([action["camera"] for action in actions], axis=0)}


def action_words(action: dict[str, Any]) -> str:
    """An action in words: "forward, turn right 12°"; "wait" if nothing is pressed or moved."""
    words = [_button(name) for name, value in action.items() if name != "camera" and value]
    pitch, yaw = (float(angle) for angle in action["camera"])
    if abs(yaw) >= STILL:
        words.append(f"turn {'right' if yaw > 0 else 'left'} {abs(yaw):.0f}°")
    if abs(pitch) >= STILL:
        words.append(f"look {'down' if pitch > 0 else 'up'} {abs(pitch):.0f}°")
    return ", ".join(words) or "wait"


def _place_actions(sample: Sample, found: list[Panel]) -> None:
    """Action k was taken on frame k, wherever the conversation names it."""
    told = [(m["role"], item["action"]) for m in sample.messages for item in m["content"] if "action" in item]
    for panel, (role, action) in zip(found, told, strict=False):
        panel.actions, panel.actor = [action], role


def frame_step(sample: Sample) -> int:
    """Which frames of a clip are shown: every first, second, third, ..."""
    items = [item["type"] for message in sample.messages for item in message["content"]]
    return -(-items.count("image") // MOST_FRAMES) if "action" in items else 1


def _thinned(found: list[Panel], step: int) -> list[Panel]:
    kept = found[::step]
    for number, panel in enumerate(kept):
        group = found[number * step : (number + 1) * step]
        panel.actions = [action for member in group for action in member.actions]
    return kept


def _button(name: str) -> str:
    return f"slot {name[-1]}" if name.startswith("hotbar.") else BUTTON_WORDS.get(name, name)


def _words(task: str, role: str, text: str) -> str:
    return _plan_words(role, text) if task in _PLANNERS else " ".join(text.split())


def _plan_words(role: str, text: str) -> str:
    """Of a planning trace only the actions: its prompt is always the same, its end repeats them."""
    return "" if role == "user" else ", ".join(_PART.findall(text))
