"""The loop of playing: keys, a step of the worlds, their frames on the screen, and what is recorded."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import numpy as np

from unified.apps.play.clips import Clip
from unified.apps.play.keys import COMMANDS, HELP, LEAVE, NEW, RECORD, TURN, WAKE, Keyboard, action_of
from unified.apps.play.worlds import Worlds

RECENT = 20  # steps over which frames a second are counted


class Screen(Protocol):
    """Where frames are shown."""

    def show(self, picture: np.ndarray, lines: Collection[str]) -> None:
        """A picture uint8 [H, W, 3] with lines of text."""
        ...


class Game:
    """A game that is played until its keyboard ends it. `screen`: None shows nothing. `most`: steps a
    second at most, 0 for as many as there can be. `turn`: degrees of an arrow key. After `play`: `steps`,
    `rate` (steps a second of playing, all in all) and the `files` that were recorded to `folder`."""

    def __init__(
        self,
        worlds: Worlds,
        keyboard: Keyboard,
        screen: Screen | None,
        *,
        folder: Path,
        most: float = 0.0,
        turn: float = TURN,
    ) -> None:
        self.worlds, self.keyboard, self.screen = worlds, keyboard, screen
        self.folder, self.pause, self.turn = folder, 1 / most if most else 0.0, turn
        self.files: list[Path] = []
        self.steps, self.rate = 0, 0.0
        self._said = ""
        self._clip: Clip | None = None
        self._recent: deque[float] = deque(maxlen=RECENT + 1)

    def play(self) -> None:
        """Play to the end; a recording that is under way is finished whatever happens."""
        began = due = time.perf_counter()
        try:
            self._show()
            while (keys := self.keyboard.pressed()) is not None and not any(key in LEAVE for key in keys):
                self._command(keys)
                if not keys or any(key not in COMMANDS for key in keys):
                    self._step(keys)
                self._show()
                due = max(due + self.pause, time.perf_counter())
                time.sleep(max(0.0, due - time.perf_counter()) if self.pause else 0.0)
        finally:
            self._end_clip()
            self.rate = self.steps / max(time.perf_counter() - began, 1e-9)

    def _step(self, keys: Collection[str]) -> None:
        action = action_of(keys, self.turn)
        if self._clip is not None:
            self._clip.add(action)
        ended = self.worlds.step(action)
        self.steps += 1
        self._recent.append(time.perf_counter())
        if ended:
            self._end_clip()
            self.worlds.another()
            self._said = "the episode ended: another world"

    def _command(self, keys: Collection[str]) -> None:
        """What keys ask for beside an action. Clips end where the frames jump: what follows a line is what
        its action led to."""
        if NEW in keys:
            self._end_clip()
            self.worlds.another()
            self._said = f"world {self.worlds.seed}"
        if WAKE in keys:
            self._end_clip()
            self._said = (
                "the dream goes on from the real frame" if self.worlds.wake() else "needs both worlds"
            )
        if RECORD in keys and self._clip is not None:
            self._end_clip()
        elif RECORD in keys:
            self._clip = Clip(self.folder, self.worlds)

    def _end_clip(self) -> None:
        clip, self._clip = self._clip, None
        if clip is not None:
            written = clip.close()
            self.files += written
            self._said = f"wrote {written[-1]}" if written else "nothing recorded"

    def _show(self) -> None:
        if self.screen is None:
            return
        recording = f" - recording, {self._clip.count} steps" if self._clip is not None else ""
        said = f" - {self._said}" if self._said else ""
        status = f"{' | '.join(self.worlds.frames)} - {self._speed():.1f} frames/s{recording}{said}"
        self.screen.show(self.worlds.picture(), (status, *HELP))

    def _speed(self) -> float:
        """Frames a second over the latest steps."""
        if len(self._recent) < 2:
            return 0.0
        return (len(self._recent) - 1) / max(self._recent[-1] - self._recent[0], 1e-9)
