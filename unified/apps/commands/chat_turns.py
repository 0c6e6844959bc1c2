"""Lines of a chat that can be taken back, and tried again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Back = Callable[[], None]


@dataclass(frozen=True)
class Turn:
    """A line that was answered, what takes it back, and how often it was tried before."""

    line: str
    back: Back
    attempt: int


class Turns:
    """The turns of a chat, the latest last. `point` gives what takes everything but the turns back to where
    it is now; `answered`: whether anything has come of the line that is being answered."""

    def __init__(self, point: Callable[[], Back], answered: Callable[[], bool]) -> None:
        self.point, self.answered = point, answered
        self.all: list[Turn] = []
        self.attempt = 0  # how often the line that is being answered was tried before

    def run(self, line: str, work: Callable[[], None]) -> None:
        """Work that can be taken back. If it fails, or is stopped before anything came of it, it is."""
        back = self.point()
        finished = False
        try:
            work()
            finished = True
        finally:
            if finished or self.answered():
                self.all.append(Turn(line, back, self.attempt))
            else:
                back()

    def undo(self) -> Turn:
        """Take the latest turn back. ValueError if there is none."""
        if not self.all:
            raise ValueError("there is nothing to take back: nothing was said yet")
        turn = self.all.pop()
        turn.back()
        return turn

    def retry(self, work: Callable[[str], None]) -> None:
        """`work` on the line of the latest turn again. If nothing comes of it, the turn stays as it was."""
        forward, turns = self.point(), list(self.all)
        turn = self.undo()
        self.attempt = turn.attempt + 1
        try:
            work(turn.line)
        except BaseException:
            if not self.answered():
                forward()
                self.all = turns
            raise
        finally:
            self.attempt = 0
