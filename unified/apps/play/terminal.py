"""Play in a terminal: the keyboard read key by key, frames as half blocks in 24-bit colour.

A terminal tells that a key was pressed, or that it repeats, never that it was let go: keys of walking count
as down for `HOLD` seconds after that, all others for one step a press.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, TextIO

import numpy as np

from unified.apps.play.keys import HELD, KNOWN
from unified.apps.terminal import blocks, protocol

HOLD = 0.35  # seconds; a held key repeats after 0.25 to 0.5
REST = 0.02  # seconds in which the rest of an escape sequence arrives
ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}
WINDOWS_ARROWS = {"H": "up", "P": "down", "M": "right", "K": "left"}
ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"  # alternate screen, no cursor, cleared
RESTORE = "\x1b[0m\x1b[?25h\x1b[?1049l"
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_SEQUENCE = re.compile(r"\x1b[\[O][0-9;]*[@-~]|.", re.DOTALL)


def check_terminal(environment: Mapping[str, str], stdin: TextIO, stdout: TextIO) -> None:
    """ValueError, with what to do, for a terminal that cannot be played in."""
    otherwise = "use --view window on a display, or --script FILE"
    if not stdin.isatty() or not stdout.isatty():
        raise ValueError(f"no terminal to play in (input or output is a file or a pipe): {otherwise}")
    if not protocol(environment, stdout):
        can = "this terminal does not say that it has 24-bit colours: set COLORTERM=truecolor if it has"
        raise ValueError(f"{can}, or {otherwise}")
    try:
        "▀".encode(stdout.encoding or "ascii")
    except UnicodeEncodeError:
        raise ValueError(
            f"half blocks need a terminal of UTF-8, this one has {stdout.encoding}: {otherwise}"
        ) from None


class Held:
    """Which keys count as down. `hold`: seconds after a press, for keys of walking."""

    def __init__(self, hold: float = HOLD, clock: Callable[[], float] = time.monotonic) -> None:
        self.hold, self.clock = hold, clock
        self._until: dict[str, float] = {}

    def after(self, names: Collection[str]) -> set[str]:
        """The keys that are down after these were pressed."""
        now = self.clock()
        self._until.update({name: now + self.hold for name in names if name in HELD})
        return set(names) | {name for name, until in self._until.items() if until > now}


def names_of(text: str) -> list[str]:
    """The names of the keys that a terminal has sent as `text`; keys without a meaning are left out."""
    found = []
    for part in _SEQUENCE.findall(text):
        if part.startswith("\x1b") and len(part) > 1:
            name = ARROWS.get(part[-1], "")
        else:
            name = {" ": "space", "\x1b": "escape"}.get(part, part.lower())
        if name in KNOWN:
            found.append(name)
    return found


class TerminalKeyboard:
    """The keyboard of a POSIX terminal, without echo and without waiting for Enter. Ctrl-C interrupts as
    usual. `close` gives the terminal its settings back."""

    def __init__(self, stream: TextIO) -> None:
        import termios
        import tty

        self._descriptor, self._held = stream.fileno(), Held()
        self._settings = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)

    def pressed(self) -> Collection[str] | None:
        text = self._arrived(0)
        if text is not None and text.endswith(("\x1b", "\x1b[", "\x1bO")):
            text += self._arrived(REST) or ""
        return None if text is None else self._held.after(names_of(text))

    def close(self) -> None:
        import termios

        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._settings)

    def _arrived(self, seconds: float) -> str | None:
        """What was typed; None where the terminal was closed."""
        import select

        if not select.select([self._descriptor], [], [], seconds)[0]:
            return ""
        data = os.read(self._descriptor, 4096)
        return data.decode("utf-8", "ignore") if data else None


class WindowsKeyboard:
    """The keyboard of a Windows console."""

    def __init__(self) -> None:
        import msvcrt

        self._console: Any = msvcrt
        self._held = Held()
        os.system("")  # consoles before Windows Terminal understand colours only after a command ran in them

    def pressed(self) -> Collection[str] | None:
        names: list[str] = []
        while self._console.kbhit():
            letter = self._console.getwch()
            if letter == "\x03":
                raise KeyboardInterrupt
            if letter in ("\x00", "\xe0"):  # the first of two that stand for one key
                names += [name for name in [WINDOWS_ARROWS.get(self._console.getwch())] if name]
            else:
                names += names_of(letter)
        return self._held.after(names)

    def close(self) -> None:
        """Nothing was changed."""


class TerminalScreen:
    """Frames and lines of text on the alternate screen of a terminal; `close` brings back what was there."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stream.write(ENTER)

    def show(self, picture: np.ndarray, lines: Collection[str]) -> None:
        """A picture uint8 [H, W, 3], as large as fits, above the lines."""
        columns, rows = shutil.get_terminal_size()
        drawn = blocks(*fitted(picture, columns, rows - len(lines) - 1))
        text = "".join(f"{line[:columns]}{REST_OF_LINE}\n" for line in lines)
        self._stream.write(HOME + drawn.replace("\n", REST_OF_LINE + "\n") + text + REST_OF_SCREEN)
        self._stream.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # a terminal that is gone needs nothing back
            self._stream.write(RESTORE)
            self._stream.flush()


def fitted(picture: np.ndarray, columns: int, rows: int) -> tuple[np.ndarray, int]:
    """The picture enlarged by a whole factor, and the columns to show it in: half blocks of it fill at most
    columns x rows."""
    height, width = picture.shape[:2]
    times = max(1, min(columns // width, 2 * rows // height))
    large = picture.repeat(times, axis=0).repeat(times, axis=1)
    return large, max(4, min(columns, large.shape[1], 2 * rows * width // height))


def terminal_keyboard() -> TerminalKeyboard | WindowsKeyboard:
    """The keyboard of this process's terminal."""
    return WindowsKeyboard() if os.name == "nt" else TerminalKeyboard(sys.stdin)
