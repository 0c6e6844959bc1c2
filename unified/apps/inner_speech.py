"""What a model says to itself on the way to an answer: lists of parts, steps of a drawing, chains of thought.

Models trained on the scene tasks write these down because they help (`looking`); they are no part of what is
said to a person. The forms are those of `tasks.scenes`: "Seen: ...", "1 of 2: ...", "red star? ... So 1".
"""

from __future__ import annotations

import re

OPENING = re.compile(r"\bSeen:|\b\d+ of \d+:|[\w ,]*\? [^?.;:]{1,80}: [^?.;]{1,80}[.;]|^\s*So\b")
# A text that may go on as one of the first two, or as the last.
BEGUN = re.compile(r"\b(S(een?)?|Se|\d+( (o(f( (\d+)?)?)?)?)?)$|^\s*So$")

HELD = 40


def spoken(text: str) -> str:
    """The text up to where inner speech begins, stripped: "" if nothing else was said."""
    found = OPENING.search(text)
    return (text[: found.start()] if found else text).strip()


def is_spoken(text: str) -> bool:
    """Whether there is text, and none of it is inner speech."""
    return bool(text.strip()) and not OPENING.search(text)


class Outspoken:
    """The same piece by piece. The first `HELD` letters are held, since "Here you are." may introduce an
    image that nobody asked for, and later ones while they may be the beginning of inner speech, which goes on
    up to the next image."""

    def __init__(self) -> None:
        self.held, self.inside, self.begun = "", False, False

    def hear(self, text: str) -> str:
        """What a piece of text makes sure is to be said."""
        if self.inside:
            return ""
        self.held += text
        if found := OPENING.search(self.held):
            self.held, self.inside = self.held[: found.start()], True
            return ""
        if not self.begun and len(self.held) < HELD:
            return ""
        self.begun = True
        begun = BEGUN.search(self.held)
        end = begun.start() if begun else len(self.held)
        said, self.held = self.held[:end], self.held[end:]
        return said

    def flush(self) -> str:
        """What is held, before an image or at the end."""
        said, self.held, self.inside = self.held, "", False
        return said
