"""What a chat shows: words as they come, a line that says how far a drawing is, pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unified.apps.commands.common import save
from unified.apps.commands.transcript import Transcript
from unified.apps.conversation import Event, Painted, Scale, Text
from unified.apps.inner_speech import Outspoken
from unified.apps.terminal import render, size

MARGIN = 2  # lines of a terminal that stay free under a picture


class Screen:
    """`write` prints, `images` is a protocol of `terminal` ("": pictures are saved to `folder`). `progress`:
    whether there is a line that is overwritten, as on terminals. What is shown is added to `transcript`."""

    def __init__(
        self, write: Callable[[str], Any], folder: Path, images: str, progress: bool, transcript: Transcript
    ) -> None:
        self.write, self.folder, self.images, self.progress = write, folder, images, progress
        self.transcript = transcript
        self.answered = Answered()  # of the latest turn
        self.busy = 0  # letters of the line that is overwritten

    def say(self, text: str) -> None:
        """A line of the chat itself."""
        self.clear()
        self.transcript.add(text)
        self.write(text.rstrip() + "\n")

    def count(self, words: str) -> None:
        """Overwrite the line that says what is going on."""
        if self.progress:
            line = f"({words})"[: size()[0] - 1]
            self.write(f"\r{line}{' ' * (self.busy - len(line))}")
            self.busy = max(self.busy, len(line))

    def clear(self) -> None:
        if self.busy:
            self.write(f"\r{' ' * self.busy}\r")
            self.busy = 0

    def show(self, image: np.ndarray) -> None:
        """A picture, as large as the terminal is now has room for; its file where it shows none."""
        self.clear()
        self.transcript.add(image)
        if self.images:
            columns, lines = size()
            self.write(render(image, self.images, columns, max(2, lines - MARGIN)))
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"picture_{len(self.transcript.pictures):03}.png"
        save(image, path)
        self.write(f"(picture: {path})\n")

    def stream(self, events: Iterator[Event], *, thinks: bool) -> None:
        """Show an answer as it comes. Of a model that `thinks` what it says to itself becomes part of the
        line about the drawing. Of several images the last is shown. `answered`: what came of it,
        interrupted or not."""
        found = self.answered = Answered()
        speech, thought = Outspoken() if thinks else None, ""
        try:
            for event in events:
                if isinstance(event, Text):
                    thought += event.text
                    self._speak(found, speech.hear(event.text) if speech else event.text)
                elif isinstance(event, Scale):
                    self._speak(found, speech.flush() if speech else "")
                    self._break_line(found)
                    plan = thought.rsplit(". ", 1)[-1].strip().rstrip(".") if thinks else ""
                    self.count(f"drawing {event.step}/{event.steps}{': ' + plan if plan else ''}")
                elif isinstance(event, Painted):
                    thought = ""
                    found.images.append(event.image)
            self._speak(found, speech.flush() if speech else "")
        finally:
            events.close()  # type: ignore[attr-defined]
            self.clear()
            self._break_line(found)
            if found.images:
                self.show(found.images[-1])

    def _speak(self, found: Answered, text: str) -> None:
        if not found.text:
            text = text.lstrip()
        if text:
            self.clear()
            self.write(text)
            found.text, found.open = found.text + text, True

    def _break_line(self, found: Answered) -> None:
        """End the line of words that were written, which are a part of the transcript then."""
        if found.open:
            self.write("\n")
            self.transcript.add(found.text[found.noted :])
            found.open, found.noted = False, len(found.text)


class Answered:
    """What came of an answer: its words, without those that the model said to itself, and images."""

    def __init__(self) -> None:
        self.text, self.images = "", list[np.ndarray]()
        self.open, self.noted = False, 0  # whether a line of words is not ended; letters in the transcript

    def __bool__(self) -> bool:
        return bool(self.text or self.images)
