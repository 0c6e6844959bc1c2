"""Ids of text as they come -> text: whole characters, and nothing from a stop string on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what an incomplete UTF-8 character decodes to
LONGEST = 4  # bytes of a character


class Speech:
    """`stop`: strings before which the text ends. What may be the beginning of one, and bytes of an
    incomplete character, are held until the rest comes."""

    def __init__(self, decode: Callable[[list[int]], str], stop: Sequence[str] = ()) -> None:
        self.decode, self.stop = decode, [text for text in stop if text]
        self.ids: list[int] = []
        self.held = ""
        self.stopped = False

    def hear(self, token: int) -> str:
        """What one more id makes sure is part of the text."""
        self.ids.append(token)
        text = self.decode(self.ids)
        if text.endswith(UNFINISHED) and len(self.ids) < LONGEST:
            return ""
        self.ids = []
        return self._before_stop(text)

    def flush(self) -> str:
        """What is held, before an image or at the end."""
        text = self._before_stop(self.decode(self.ids)) if self.ids else ""
        text, self.ids, self.held = text + self.held, [], ""
        return text

    def _before_stop(self, text: str) -> str:
        if self.stopped:
            return ""
        self.held += text
        found = [place for place in map(self.held.find, self.stop) if place >= 0]
        if found:
            said, self.held, self.stopped = self.held[: min(found)], "", True
            return said
        end = len(self.held) - self._begun()
        said, self.held = self.held[:end], self.held[end:]
        return said

    def _begun(self) -> int:
        """How many letters at the end may be the beginning of a stop string."""
        lengths = [n for text in self.stop for n in range(1, len(text)) if self.held.endswith(text[:n])]
        return max(lengths, default=0)
