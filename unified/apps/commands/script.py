"""Scripts of actions: JSON lines, or words such as `forward jump x10 camera 0 5`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unified.tokenizers.action import complete


def read_script(path: Path) -> list[dict[str, Any]]:
    """Actions from a file: one JSON object per line (a recording's `.jsonl` of environment actions), or lines
    of words such as `forward jump x10 camera 0 5`. Empty lines and lines with # are skipped. ValueError
    names the line at fault."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable text ({error.__class__.__name__})") from None
    actions = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            action, times = (json.loads(line), 1) if line.lstrip().startswith("{") else spelt(line.split())
            actions += [complete(action)] * times
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    if not actions:
        raise ValueError(f"{path}: no actions in it")
    return actions


def spelt(words: list[str]) -> tuple[dict[str, Any], int]:
    """["forward", "camera", "0", "5", "x3"] -> ({"forward": 1, "camera": [0, 5]}, 3). "wait" presses
    nothing."""
    action: dict[str, Any] = {}
    times, left = 1, list(words)
    while left:
        word = left.pop(0)
        if word == "camera":
            if len(left) < 2:
                raise ValueError("camera needs two angles in degrees: pitch and yaw")
            action["camera"] = [_angle(left.pop(0)), _angle(left.pop(0))]
        elif word[:1] == "x" and word[1:].isdigit():
            times = int(word[1:])
            if not 1 <= times <= 10_000:
                raise ValueError(f"an action is repeated 1 to 10000 times, got {times}")
        elif word != "wait":
            action[word] = 1
    return action, times


def _angle(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"camera needs angles in degrees, got {text!r}") from None
