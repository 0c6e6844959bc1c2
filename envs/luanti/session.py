"""A running game: its keeper, commands to the mod and its answers, and the client's frames.

Lock-step. The server of the game waits for each command inside the mod, so its world stands still between
ticks; the whole program is halted by SIGSTOP meanwhile, so that it costs no processor time. After a tick the
mod changes the colour of a marker in the strip above `pov`; when that colour is on the display, some pixels
of the strip below are written over, and once the client has drawn those anew a whole frame shows the tick's
state.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from unified.envs.luanti.config import LuantiConfig
from unified.envs.luanti.display import KEYCODE_OF_1, Keys, Pixels
from unified.envs.luanti.files import (
    STRIP,
    Picture,
    display_command,
    game_command,
    game_environment,
    write_files,
)
from unified.envs.luanti.installed import installed

KEEPER = Path(__file__).with_name("keeper.py")
COLOURS = 7  # of the marker, without black
POLL = 0.0005  # seconds between two looks at the display
STILL = 12  # equal frames in a row after a start
RESTED = 4  # and after a tick that changes a node, the held item or the panel
MOST_FRAMES = 600  # until they must have been equal
END = 15.0  # seconds until a keeper must have cleaned up


class NoGround(ValueError):
    """A map that is all sea, or all rock."""


class Session:
    """One world of a seed, from start to end. ImportError where the game is not installed, RuntimeError
    where it does not start or answer."""

    def __init__(self, seed: int, config: LuantiConfig) -> None:
        programs = installed()
        self.config, self.picture = config, Picture(width=config.width, height=config.height)
        self._marks = itertools.cycle(range(1, COLOURS + 1))
        self._keys: Keys | None = None
        self._fifos: list[int] = []
        self._folder: Path | None = None
        self._answered = b""
        self.frame: np.ndarray | None = None
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(KEEPER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # so that `select` sees all that was said
            start_new_session=True,  # Ctrl-C and signals to our process group are not for it
        )
        try:
            folder = self._folder = Path(self._heard()["folder"])
            write_files(folder, seed, config)
            world = folder / "world"
            # Opened for reading and writing, no side ever waits for the other to open it.
            self._fifos = [
                os.open(world / name, os.O_RDWR | os.O_NONBLOCK) for name in ("commands", "answers")
            ]
            request = {
                "display": display_command(programs, self.picture, folder),
                "game": game_command(programs, folder),
                "environment": game_environment(folder),
            }
            self._say(json.dumps(request))
            started = self._heard()
            self._pixels = Pixels(folder / "Xvfb_screen0")
            self._keys = Keys(started["display"], config.patience)
        except BaseException:
            self.close()
            raise

    def begin(self, place: tuple[float, float], yaw: float, items: list[str]) -> dict[str, Any]:
        """Put the player down near column `place`: the mod's state, once the client draws all of it."""
        x, z = place
        state = self._ask({"op": "begin", "x": x, "z": z, "yaw": yaw, "items": items, "time": 0.5})
        if "failed" in state:
            kind = NoGround if state.get("ground") is False else ValueError
            raise kind(f"this world has {state['failed']}")
        assert self._keys is not None
        self._keys.focus()
        self.frame = self._at_rest(STILL)
        self._say("stop")
        return state

    def tick(self, pressed: dict[str, bool], camera: tuple[float, float], slot: int | None) -> dict[str, Any]:
        """One tick with these keys: the mod's state; `frame` is what is seen after it."""
        self._say("go")
        order: dict[str, Any] = {"op": "step", "keys": pressed, "pitch": camera[0], "yaw": camera[1]}
        if slot is not None and self._keys is not None:
            self._keys.press(KEYCODE_OF_1 + slot)
            order["slot"] = slot
        state = self._ask(order)
        if "failed" in state:
            raise RuntimeError(f"the game has {state['failed']}")
        if state["changed"]:
            self.frame = self._at_rest(RESTED)
        else:
            self._draw_another()
            self.frame = self._picture()
        self._say("stop")
        return state

    def close(self) -> None:
        """End the game; nothing of it is left when this returns."""
        if self._keys is not None:
            self._keys.close()
        for descriptor in self._fifos:
            os.close(descriptor)
        self._fifos = []
        keeper = self._keeper
        for stream in (keeper.stdin, keeper.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # it may have ended with a line unread
                    stream.close()
        try:
            keeper.wait(END)
        except subprocess.TimeoutExpired:  # its children get signals of their own when it dies
            keeper.kill()
            keeper.wait()
        if keeper.returncode and self._folder is not None:  # it was killed
            shutil.rmtree(self._folder, ignore_errors=True)

    def _at_rest(self, wanted: int) -> np.ndarray:
        """The picture once it was the same in so many frames in a row, for what the client does over time:
        it draws changed nodes when it gets to it, and moves the held item when another one is taken."""
        last, equal = self._picture(), 0
        for _ in range(MOST_FRAMES):
            self._draw_another()
            frame = self._picture()
            equal = equal + 1 if np.array_equal(last, frame) else 0
            if equal >= wanted:
                return frame
            last = frame
        raise RuntimeError("the game's picture does not come to rest")

    def _draw_another(self) -> None:
        self._pixels.flag()
        for _ in self._waiting(time.monotonic() + self.config.patience, "draws nothing"):
            if self._pixels.redrawn():
                return

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Send a command; the answer, once its marker is on the display."""
        mark = next(self._marks)
        os.write(self._fifos[0], (json.dumps({**order, "mark": mark}) + "\n").encode())
        until = time.monotonic() + self.config.patience
        state = json.loads(self._answer(until)) or {}
        if "failed" in state:
            return state
        wanted = [255 * (mark >> bit & 1) for bit in (2, 1, 0)]
        for _ in self._waiting(until, "draws nothing new"):
            if np.abs(self._pixels.read(slice(1, 2), slice(1, 2))[0, 0].astype(int) - wanted).max() < 64:
                return state
        raise AssertionError("waiting ends by an error")

    def _answer(self, until: float) -> bytes:
        for _ in self._waiting(until, "does not answer", pause=False):
            if b"\n" in self._answered:
                line, _, self._answered = self._answered.partition(b"\n")
                return line
            if select.select([self._fifos[1]], [], [], 0.2)[0]:
                self._answered += os.read(self._fifos[1], 65536)
        raise AssertionError("waiting ends by an error")

    def _waiting(self, until: float, otherwise: str, *, pause: bool = True) -> Iterator[None]:
        """Turns of a loop, while the keeper says nothing and there is time. RuntimeError then."""
        assert self._keeper.stdout is not None
        while True:
            yield
            if pause:
                time.sleep(POLL)
            if select.select([self._keeper.stdout], [], [], 0)[0]:
                self._heard()  # it only speaks of an end, which raises
            if time.monotonic() > until:
                raise RuntimeError(f"the game {otherwise} for {self.config.patience:g} s")

    def _picture(self) -> np.ndarray:
        """`pov` uint8 [H, W, 3] of the display as it is."""
        times, (height, width) = self.picture.times, (self.picture.height, self.picture.width)
        drawn = self._pixels.read(slice(STRIP, STRIP + times * height))
        if times == 1:
            return drawn
        tiles = drawn.reshape(height, times, width, times, 3)
        return np.round(tiles.mean(axis=(1, 3))).astype(np.uint8)

    def _say(self, line: str) -> None:
        assert self._keeper.stdin is not None
        try:
            self._keeper.stdin.write(line.encode() + b"\n")
            self._keeper.stdin.flush()
        except OSError:
            raise RuntimeError("the game has ended by itself") from None

    def _heard(self) -> dict[str, Any]:
        """The keeper's next line. RuntimeError where it tells of a failure or says nothing."""
        assert self._keeper.stdout is not None
        line = self._keeper.stdout.readline() if self._in_time() else b""
        message: dict[str, Any] = json.loads(line) if line else {"failed": "its keeper has ended"}
        if "failed" in message:
            raise RuntimeError(f"the game does not start: {message['failed']}")
        if "ended" in message:
            words = f" ({message['words']})" if message["words"] else ""
            raise RuntimeError(f"the {message['ended']} has ended by itself{words}")
        return message

    def _in_time(self) -> bool:
        assert self._keeper.stdout is not None
        return bool(select.select([self._keeper.stdout], [], [], self.config.patience)[0])
