"""What a session asks of a decoding strategy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from unified.decoding.drawing import Choice
from unified.decoding.image import ImageRun
from unified.decoding.text import TextRun


class Strategy(Protocol):
    """How the steps of an image, and the tokens of a text, become passes. It counts them in
    `run.session.stats`; what it draws must follow the distributions of one pass a step."""

    def image(self, run: ImageRun) -> Iterator[Choice]:
        """Write an image that is open; yields every step once it is committed in all rows. If it is broken
        off, the session undoes what was run."""
        ...

    def text(self, run: TextRun) -> Iterator[list[int | None]]:
        """Continue every row of the session; yields one id per row, None for rows that say nothing then.
        Whenever it is broken off, the session holds just what was yielded."""
        ...
