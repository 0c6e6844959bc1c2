"""Conversations as ids and back: the convention of Hugging Face's chat templates.

    [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image", "codes": ids,
    "shapes": [[8, 8]]}]}, {"role": "assistant", "content": [{"type": "image", "codes": ..., "shapes": ...,
    "order": "next_scale"}]}]

An image is given by its codes (counted from 0) and the sizes of its maps. With an `order` it is a drawn
image: it becomes a WRITE segment and then a READ segment. An action is `{"type": "action", "ids": [...]}`,
counted from 0. `unified.stream.processor` turns pixels and environment actions into these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from unified.orders import plan_for
from unified.orders.shapes import area, as_shapes
from unified.stream.segments import Kind, Segment, role_tokens, segments
from unified.stream.vocabulary import ROLES, Vocabulary

Message = dict[str, Any]


class TextTokenizer(Protocol):
    """What the stream needs of a text tokenizer: ids in 0..len-1, without special tokens added."""

    def encode(self, text: str, *, add_special_tokens: bool = ...) -> list[int]: ...

    def decode(self, token_ids: list[int]) -> Any: ...

    def __len__(self) -> int: ...


class Stream:
    """The two directions between messages and ids for one vocabulary and one text tokenizer."""

    def __init__(self, vocabulary: Vocabulary, text: TextTokenizer) -> None:
        if len(text) > vocabulary.text:
            raise ValueError(
                f"the text tokenizer has {len(text)} ids, the vocabulary room for {vocabulary.text}"
            )
        self.vocabulary, self.text = vocabulary, text

    # Messages -> ids ----------------------------------------------------------------------------------------

    def encode(self, messages: Sequence[Message], *, prompt: bool = False) -> list[int]:
        """Ids of a conversation. With `prompt`, an assistant turn is opened at the end for the model to fill.
        ValueError names the message and item that cannot be written."""
        if isinstance(messages, (str, dict)):
            raise ValueError("messages must be a list of {'role': ..., 'content': ...}")
        ids = [self.vocabulary.begin]
        for number, message in enumerate(messages):
            ids += self.turn(message, number)
        return [*ids, self.vocabulary.assistant] if prompt else ids

    def turn(self, message: Message, number: int = 0) -> list[int]:
        """Ids of one whole turn: role, content, end."""
        where = f"message {number}"
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise ValueError(f"{where} must be a dict with exactly the keys 'role' and 'content'")
        if message["role"] not in ROLES:
            raise ValueError(f"{where} has role {message['role']!r}: use one of {', '.join(ROLES)}")
        content = message["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        ids = [self.vocabulary.special[message["role"]], *self.content(content, where)]
        return [*ids, self.vocabulary.end]

    def content(self, items: Sequence[dict[str, Any]], where: str = "content") -> list[int]:
        """Ids of the items of a turn. `part` marks an empty text, and the border between two texts."""
        ids: list[int] = []
        previous = ""
        for number, item in enumerate(items):
            here = f"{where}, item {number}"
            kind = item.get("type") if isinstance(item, dict) else None
            if kind == "text":
                text = self._text(item, here)
                ids += [self.vocabulary.part] if previous == "text" or not text else []
                ids += text
            elif kind == "image":
                ids += self._image(item, here)
            elif kind == "action":
                ids += self._action(item, here)
            else:
                raise ValueError(f"{here} has type {kind!r}: use text, image or action")
            previous = kind
        return ids

    def _text(self, item: dict[str, Any], where: str) -> list[int]:
        text = _only(item, where, "text")["text"]
        if not isinstance(text, str):
            raise ValueError(f"{where}: text must be a str, got {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{where}: text holds half of a surrogate pair and is not valid Unicode"
            ) from None
        return list(self.text.encode(text, add_special_tokens=False))

    def _image(self, item: dict[str, Any], where: str) -> list[int]:
        _only(item, where, "codes", "shapes", optional="order")
        try:
            shapes = as_shapes(item["shapes"])
            codes = [int(code) for code in np.asarray(item["codes"]).reshape(-1).tolist()]
            if len(codes) != area(shapes):
                raise ValueError(f"{len(codes)} codes, but the sizes {shapes} need {area(shapes)}")
            if "order" not in item:
                return self.vocabulary.read_segment(codes, shapes)
            return self.drawn(codes, shapes, item["order"])
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}: {error}") from None

    def drawn(self, codes: Sequence[int], shapes: Sequence[Any], order: str) -> list[int]:
        """Ids of a drawn image: its WRITE segment, then its READ segment."""
        shapes = as_shapes(shapes)
        plan = plan_for(order, shapes)
        header = self.vocabulary.open_write(order, shapes)
        write = [*header, *self.vocabulary.visual_ids(codes), self.vocabulary.close]
        return write + self.vocabulary.read_segment(
            [codes[slot] for slot in plan.read.tolist()], plan.read_shapes
        )

    def _action(self, item: dict[str, Any], where: str) -> list[int]:
        ids = [int(number) for number in np.asarray(_only(item, where, "ids")["ids"]).reshape(-1).tolist()]
        if len(ids) != self.vocabulary.action_slots:
            raise ValueError(f"{where}: an action has {self.vocabulary.action_slots} ids, got {len(ids)}")
        for slot, number in enumerate(ids):
            if not 0 <= number < self.vocabulary.action:
                raise ValueError(
                    f"{where}: id {number} in slot {slot} is outside 0..{self.vocabulary.action - 1}"
                )
        return [self.vocabulary.action_start + number for number in ids]

    # Ids -> messages ----------------------------------------------------------------------------------------

    def decode(self, ids: Sequence[int]) -> list[Message]:
        """Messages of one sample. An open last turn is returned as far as it goes. Ids that no messages give
        raise a ValueError that names the position."""
        row = [int(token) for token in ids]
        vocabulary = self.vocabulary
        while row and row[-1] == vocabulary.pad:
            row.pop()
        if not row or row[0] != vocabulary.begin:
            raise ValueError("position 0 must be <|begin|>")
        reader = _Reader(self, row)
        for segment in segments(row, vocabulary):
            if segment.kind == Kind.TEXT:
                reader.text(segment)
            elif segment.kind == Kind.ACTION:
                found = [token - vocabulary.action_start for token in row[segment.start : segment.stop]]
                reader.add(segment.start, {"type": "action", "ids": found})
            else:
                reader.image(segment)
        reader.finish()
        return reader.messages

    def print(self, ids: Sequence[int]) -> str:
        """A sample in one readable line: text as it is, everything else by name."""
        out: list[str] = []
        text: list[int] = []
        for token in [*[int(token) for token in ids], -1]:
            if 0 <= token < self.vocabulary.text:
                text.append(token)
                continue
            if text:
                out.append(self.text.decode(text))
                text = []
            if token >= 0:
                name = self.vocabulary.name(token)
                out.append(name if name.startswith("<") else f"<{name}>")
        return "".join(out)


class _Reader:
    """Collects messages while segments go by."""

    def __init__(self, stream: Stream, row: list[int]) -> None:
        self.stream, self.row, self.vocabulary = stream, row, stream.vocabulary
        self.messages: list[Message] = []
        self.items: list[dict[str, Any]] | None = None  # of the open turn
        self.drawn: Segment | None = None  # a WRITE segment whose READ segment must follow
        self.roles = role_tokens(stream.vocabulary)

    def text(self, segment: Segment) -> None:
        letters: list[int] | None = None
        for position in range(segment.start, segment.stop):
            token = self.row[position]
            if token < self.vocabulary.text:
                letters = [] if letters is None else letters
                letters.append(token)
                continue
            if letters is not None:
                self.add(position - 1, self._letters(letters))
            letters = [] if token == self.vocabulary.part else None
            if token != self.vocabulary.part:
                self._control(position, token)
        if letters is not None:
            self.add(segment.stop - 1, self._letters(letters))

    def _letters(self, letters: list[int]) -> dict[str, Any]:
        return {"type": "text", "text": self.stream.text.decode(letters) if letters else ""}

    def _control(self, position: int, token: int) -> None:
        self._no_drawing(position)
        if token == self.vocabulary.begin:
            if position:
                raise ValueError(f"a second <|begin|> at position {position}: decode one sample at a time")
        elif token == self.vocabulary.end:
            if self.items is None:
                raise ValueError(f"<|end|> at position {position} closes no turn")
            self.items = None
        elif self.items is not None:
            raise ValueError(f"{self.vocabulary.name(token)} at position {position} inside an open turn")
        else:
            self.items = []
            self.messages.append({"role": self.roles[token], "content": self.items})

    def image(self, segment: Segment) -> None:
        codes = [token - self.vocabulary.visual_start for token in self.row[segment.codes : segment.stop - 1]]
        shapes = [list(shape) for shape in segment.shapes]
        if segment.kind == Kind.WRITE:
            self.add(
                segment.start, {"type": "image", "codes": codes, "shapes": shapes, "order": segment.order}
            )
            self.drawn = segment
        elif self.drawn is None:
            self.add(segment.start, {"type": "image", "codes": codes, "shapes": shapes})
        else:
            self._check_drawn(codes, segment)
            self.drawn = None

    def _check_drawn(self, codes: list[int], segment: Segment) -> None:
        write = self.messages[-1]["content"][-1]
        try:
            plan = plan_for(write["order"], as_shapes(write["shapes"]))
        except ValueError as error:
            raise ValueError(f"the image before position {segment.start}: {error}") from None
        same = plan.read_shapes == segment.shapes and codes == [
            write["codes"][slot] for slot in plan.read.tolist()
        ]
        if not same:
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


def _only(item: dict[str, Any], where: str, *keys: str, optional: str = "") -> dict[str, Any]:
    missing = [key for key in keys if key not in item]
    unknown = [key for key in item if key not in (*keys, "type", optional)]
    if missing or unknown:
        problem = f"misses {missing[0]!r}" if missing else f"has an unknown key {unknown[0]!r}"
        raise ValueError(f"{where} ({item['type']}) {problem}: it takes {', '.join(keys)}")
    return item
