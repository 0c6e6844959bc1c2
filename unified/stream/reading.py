"""Ids -> messages: what segments say, turn by turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unified.orders import plan_for
from unified.stream.base_words import FEATURES
from unified.stream.segments import Kind, Segment, role_tokens
from unified.stream.vocabulary import Vocabulary


class MessageReader:
    """Collects messages while the segments of one row go by. `letters` decodes text ids."""

    def __init__(self, row: list[int], vocabulary: Vocabulary, letters: Callable[[list[int]], str]) -> None:
        self.row, self.vocabulary, self.letters = row, vocabulary, letters
        self.messages: list[dict[str, Any]] = []
        self.items: list[dict[str, Any]] | None = None  # of the open turn
        self.drawn: Segment | None = None  # a WRITE segment whose READ segment must follow
        self.roles = role_tokens(vocabulary)

    def read(self, segment: Segment) -> None:
        """Take in the next segment. ValueError, with a position, if no messages give it."""
        if segment.kind == Kind.TEXT:
            self.text(segment)
        elif segment.kind == Kind.ACTION:
            start = self.vocabulary.action_start
            found = [token - start for token in self.row[segment.start : segment.stop]]
            self.add(segment.start, {"type": "action", "ids": found})
        elif segment.is_image:
            self.image(segment)
        else:
            content = {"placeholder": segment.placeholder, "count": segment.shapes[0][1]}
            self.add(segment.start, {"type": "features", **content})

    def text(self, segment: Segment) -> None:
        letters: list[int] | None = None
        for position in range(segment.start, segment.stop):
            token = self.row[position]
            if self.items is None and self.vocabulary.base and self.vocabulary.is_text(token):
                continue  # what a chat template spells between turns
            if self.vocabulary.is_text(token):
                letters = [] if letters is None else letters
                letters.append(token)
                continue
            if letters is not None:
                self.add(position - 1, self._letters(letters))
            letters = [] if token == self.vocabulary.part else None
            if token == self.vocabulary.image:
                self._feature(position)
            elif token != self.vocabulary.part:
                self._control(position, token)
        if letters is not None:
            self.add(segment.stop - 1, self._letters(letters))

    def _letters(self, letters: list[int]) -> dict[str, Any]:
        return {"type": "text", "text": self.letters(letters) if letters else ""}

    def _feature(self, position: int) -> None:
        """One more placeholder of a line of them inside a text."""
        latest = self.items[-1] if self.items else {}
        if self.row[position - 1] == self.vocabulary.image and latest.get("type") == "features":
            latest["count"] += 1
            return
        self.add(position, {"type": "features", "placeholder": FEATURES, "count": 1})

    def _control(self, position: int, token: int) -> None:
        self._no_drawing(position)
        if token == self.vocabulary.begin:
            if position:
                raise ValueError(f"a second <|begin|> at position {position}: decode one sample at a time")
        elif token == self.vocabulary.end:
            if self.items is None and not self.vocabulary.base:
                raise ValueError(f"<|end|> at position {position} closes no turn")
            self.items = None
        elif self.items is not None:
            raise ValueError(f"{self.vocabulary.name(token)} at position {position} inside an open turn")
        else:
            self.items = []
            self.messages.append({"role": self.roles[token], "content": self.items})

    def image(self, segment: Segment) -> None:
        if self.drawn is not None and segment.kind == Kind.READ:
            self._check_drawn(segment)
            self.drawn = None
            return
        item: dict[str, Any] = {"type": "image", "shapes": [list(shape) for shape in segment.shapes]}
        if segment.placeholder:
            item["placeholder"] = segment.placeholder
        else:
            item["codes"] = [token - self.vocabulary.visual_start for token in self._body(segment)]
        if segment.kind == Kind.WRITE:
            item |= {"order": segment.order, **({"data": list(segment.data)} if segment.data else {})}
        self.add(segment.start, item)
        self.drawn = segment if segment.kind == Kind.WRITE else None

    def _body(self, segment: Segment) -> list[int]:
        return self.row[segment.codes : segment.stop - 1]

    def _check_drawn(self, segment: Segment) -> None:
        write: Any = self.drawn
        try:
            plan = plan_for(write.order, write.shapes, write.data)
        except ValueError as error:
            raise ValueError(f"the image before position {segment.start}: {error}") from None
        written = self._body(write)
        read = [written[slot] for slot in plan.read.tolist()]
        if plan.read_shapes != segment.shapes or self._body(segment) != read:
            raise ValueError(f"the image read at position {segment.start} is not the one written before it")

    def add(self, position: int, item: dict[str, Any]) -> None:
        self._no_drawing(position)
        if self.items is None:
            raise ValueError(f"{item['type']} at position {position} stands outside a turn")
        self.items.append(item)

    def _no_drawing(self, position: int) -> None:
        if self.drawn is not None:
            raise ValueError(
                f"position {position} must read the image written at position {self.drawn.start}"
            )

    def finish(self) -> None:
        self._no_drawing(len(self.row))
