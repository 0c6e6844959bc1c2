"""Line editing and history of a prompt: Python's `readline`, where there is one."""

from __future__ import annotations

import atexit
import os
from contextlib import suppress
from pathlib import Path

MOST_LINES = 1000  # of a history file


def history_file(name: str) -> Path:
    """Where the lines of a prompt are kept: in the user's state folder (XDG base directories)."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "unified" / name


def edit_lines(history: Path | None) -> None:
    """From now on `input` in a terminal has line editing and the lines of a history file, to which its own
    are added at the end; None: those of this run alone. A file that cannot be read or written is passed over:
    it is a convenience."""
    try:
        import readline
    except ImportError:  # as on Windows, whose console has its own
        return
    readline.set_auto_history(True)
    if history is None:
        return
    with suppress(OSError):
        history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        readline.read_history_file(history)
    readline.set_history_length(MOST_LINES)
    atexit.register(_write, history)


def _write(history: Path) -> None:
    import readline

    with suppress(OSError):
        readline.write_history_file(history)
        history.chmod(0o600)
