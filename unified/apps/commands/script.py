"""Scripts of actions: JSON lines, or words such as `forward jump x10 camera 0 5`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unified.text_files import decoded, parse_json, read_lines
from unified.tokenizers.environment_action import complete


def read_script(path: Path) -> list[dict[str, Any]]:
    """Actions from a file: one JSON object per line (a recording's `.jsonl` of environment actions), or lines
    of words such as `forward jump x10 camera 0 5`. Empty lines and lines with # are skipped. ValueError
    names the line at fault."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file of actions (lines such as: forward camera 0 5 x4)")
    actions: list[dict[str, Any]] = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            written = line.lstrip().startswith(b"{")
            action, times = (parse_json(line), 1) if written else spelt(decoded(line, "the line").split())
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
        elif (repeated := repetitions(word)) is not None:
            times = repeated
        elif word != "wait":
            action[word] = 1
    return action, times


def repetitions(word: str) -> int | None:
    """`x10` is 10; None for a word of another form. ValueError for less than 1 or more than 10,000."""
    if word[:1] != "x" or not word[1:].isdecimal():
        return None
    times = int(word[1:7])
    if not 1 <= times <= 10_000:
        raise ValueError(f"an action is repeated 1 to 10000 times, got {word[1:21]}")
    return times


def _angle(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"camera needs angles in degrees, got {text!r}") from None
