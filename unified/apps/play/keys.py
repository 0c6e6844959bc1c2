"""Keys of the keyboard -> an action of one step, and scripts of keys for playing without a keyboard."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from unified.apps.commands.script import repetitions
from unified.text_files import decoded, read_lines

BUTTON_OF = {
    **{"w": "forward", "s": "back", "a": "left", "d": "right", "space": "jump"},
    **{"c": "sneak", "v": "sprint", "j": "attack", "k": "use", "p": "pickItem"},
    **{"e": "inventory", "z": "drop", "f": "swapHands"},
    **{str(number): f"hotbar.{number}" for number in range(1, 10)},
}
"""What a key presses."""

TURN_OF = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
"""Arrow keys: signs of pitch and yaw."""

RECORD, NEW, WAKE, LEAVE = "r", "n", "b", ("q", "escape")
COMMANDS = {RECORD, NEW, WAKE, *LEAVE}
HELD = frozenset(
    key
    for key, button in BUTTON_OF.items()
    if button in ("forward", "back", "left", "right", "jump", "sneak", "sprint", "attack", "use")
)
"""Keys that act as long as they are down; the others, and turns in a terminal, act once a press."""

KNOWN = frozenset((*BUTTON_OF, *TURN_OF, *COMMANDS))
TURN = 10.0  # degrees a step: what the shipped model follows well ends there
HELP = (
    "w a s d walk, space jump, c sneak, v sprint, arrows look, j dig, k place, 1-9 hotbar, e inventory",
    "r record (a clip and a GIF), n another world, b dream on from the real frame, q leave",
)


class Keyboard(Protocol):
    """Where keys come from."""

    def pressed(self) -> Collection[str] | None:
        """The names of the keys of the next step; None when there are no more."""
        ...


def action_of(keys: Collection[str], turn: float = TURN) -> dict[str, Any]:
    """The action of a step with these keys down; an arrow turns the camera by `turn` degrees."""
    action: dict[str, Any] = {BUTTON_OF[key]: 1 for key in keys if key in BUTTON_OF}
    turns = [TURN_OF[key] for key in keys if key in TURN_OF]
    action["camera"] = [turn * sum(pitch for pitch, _ in turns), turn * sum(yaw for _, yaw in turns)]
    return action


class Script:
    """The keyboard of a script."""

    def __init__(self, steps: Sequence[Collection[str]]) -> None:
        self._left: Iterator[Collection[str]] = iter(steps)

    def pressed(self) -> Collection[str] | None:
        return next(self._left, None)


def read_keys(path: Path) -> list[frozenset[str]]:
    """A script: each line the keys of one step, such as `w space x10` (for ten steps), `right`, `r`, or
    `wait` for none. Empty lines and lines with # are skipped. ValueError names the line at fault."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    steps: list[frozenset[str]] = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            words = decoded(line, "the line").split()
            if words and not words[0].startswith("#"):
                keys, times = _spelt(words)
                steps += [keys] * times
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    if not steps:
        raise ValueError(f"{path}: no keys in it")
    return steps


def _spelt(words: Sequence[str]) -> tuple[frozenset[str], int]:
    keys, times = set(), 1
    for word in words:
        repeated = repetitions(word)
        if repeated is not None:
            times = repeated
        elif word in KNOWN:
            keys.add(word)
        elif word != "wait":
            raise ValueError(f"no key {word!r:.40}: keys are {', '.join(sorted(KNOWN))}, or wait")
    return frozenset(keys), times
