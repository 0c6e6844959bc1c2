"""Keeps one game, its display and its folder, and leaves nothing of them when its standard input ends.

Run by path as a program of its own, with the standard library alone. The system closes that input whenever
the process that started it goes away, SIGKILL included, so game, Xvfb and folder go with it. Speaks lines:

    out {"folder": PATH}                          a new temporary folder
    in  {"display": [COMMAND...], "game": [COMMAND...], "environment": {...}}
    out {"display": NUMBER, "game": PID}          both run, or {"failed": WHY}
    in  "stop" and "go"                           halt the game (SIGSTOP) and let it run (SIGCONT)
    out {"ended": "game" or "display", "words": ERRORS IN ITS LOG}    before it ends by itself
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

DISPLAY_PATIENCE = 20.0  # seconds until Xvfb must have said its number
GENTLE = 3.0  # seconds for Xvfb to remove its lock file
PR_SET_PDEATHSIG = 1
Process = subprocess.Popen[bytes]


def say(**message: Any) -> None:
    with contextlib.suppress(OSError):
        os.write(1, (json.dumps(message) + "\n").encode())


def dies_with_us(number: int) -> Callable[[], None] | None:
    """What a child does before it starts, so that it gets this signal should the keeper itself be killed."""
    try:
        control = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):  # no Linux: the keeper's own end still cleans up
        return None

    def ask() -> None:
        control(PR_SET_PDEATHSIG, number)

    return ask


class Lines:
    """Lines of a descriptor, waited for no longer than asked."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.held, self.ended = descriptor, b"", False

    def next(self, patience: float) -> str | None:
        """The next line, None if there is none in so many seconds or ever again."""
        until = time.monotonic() + patience
        while b"\n" not in self.held:
            ready, _, _ = select.select([self.descriptor], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
            read = os.read(self.descriptor, 65536)
            if not read:
                self.ended = True
                return None
            self.held += read
        line, _, self.held = self.held.partition(b"\n")
        return line.decode()


def start(request: dict[str, Any], folder: str) -> tuple[Process, Process, int]:
    """Display, game and the display's number. RuntimeError if one does not start."""
    reading, writing = os.pipe()
    with open(os.path.join(folder, "display.txt"), "wb") as said:
        display = subprocess.Popen(
            [*request["display"], "-displayfd", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=[writing],
            preexec_fn=dies_with_us(signal.SIGTERM),
        )
    os.close(writing)
    number = Lines(reading).next(DISPLAY_PATIENCE)
    os.close(reading)
    if number is None:
        end(display, signal.SIGTERM)
        raise RuntimeError("Xvfb did not start")
    environment = {**os.environ, **request["environment"], "DISPLAY": f":{number}"}
    with open(os.path.join(folder, "game.txt"), "wb") as said:
        try:
            game = subprocess.Popen(
                request["game"],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                preexec_fn=dies_with_us(signal.SIGKILL),
            )
        except OSError as error:
            end(display, signal.SIGTERM)
            raise RuntimeError(f"the game did not start: {error}") from None
    return display, game, int(number)


def end(process: Process, number: int) -> None:
    """End a child by a signal, by SIGKILL if it does not."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    try:
        process.wait(GENTLE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def errors_of(folder: str, name: str) -> str:
    """What a child wrote of errors."""
    for file in ("log.txt", "game.txt") if name == "game" else ("display.txt",):
        with contextlib.suppress(OSError), open(os.path.join(folder, file), errors="replace") as said:
            lines = [line.strip() for line in said if "ERROR" in line or file != "log.txt"]
            if lines:
                return " ".join(lines)[:500]
    return ""


def serve(lines: Lines, display: Process, game: Process, folder: str) -> None:
    """Halt and wake the game until the input or one of the two ends."""
    while not lines.ended:
        order = lines.next(0.25)
        if order == "stop":
            game.send_signal(signal.SIGSTOP)
        elif order == "go":
            game.send_signal(signal.SIGCONT)
        for name, process in (("game", game), ("display", display)):
            if process.poll() is not None:
                say(ended=name, words=errors_of(folder, name))
                return


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the environment's process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = tempfile.mkdtemp(prefix="unified-luanti-")
    display, game, number = None, None, None
    try:
        say(folder=folder)
        lines = Lines(0)
        request = None
        while request is None and not lines.ended:
            request = lines.next(1.0)
        if request is None:
            return
        try:
            display, game, number = start(json.loads(request), folder)
        except (RuntimeError, OSError) as error:
            say(failed=str(error))
            return
        say(display=number, game=game.pid)
        serve(lines, display, game, folder)
    finally:
        if game is not None:
            end(game, signal.SIGKILL)
        if display is not None:
            end(display, signal.SIGTERM)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
