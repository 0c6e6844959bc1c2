"""Conversations as ids and back: the convention of Hugging Face's chat templates.

    [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image", "codes": ids,
    "shapes": [[8, 8]]}]}, {"role": "assistant", "content": [{"type": "image", "codes": ..., "shapes": ...,
    "order": "next_scale"}]}]

An image is given by its codes (counted from 0) and the sizes of its maps. With an `order` it is a drawn
image: it becomes a WRITE segment and then a READ segment. An action is `{"type": "action", "ids": [...]}`,
counted from 0. `unified.stream.processor` turns pixels and environment actions into these.

Content without codes is given by continuous vectors, one for each placeholder in the ids: an image by
`"latents": [n, C]` in place of codes, features by `{"type": "features", "name": "depth", "values": [n, C]}`.
`Stream.encode_with_values` gives ids and values. Decoding knows no values: these items come back with the
name of their `placeholder`, features with their `count`, and are written again as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from unified.stream.items import Encoded, Values, action_ids, feature_ids, image_ids, only
from unified.stream.reading import MessageReader
from unified.stream.segments import as_ids, segments
from unified.stream.vocabulary import ROLES, Vocabulary
from unified.tokenizers.shown import shown

Message = dict[str, Any]


class TextTokenizer(Protocol):
    """What the stream needs of a text tokenizer: ids in 0..len-1, without special tokens added. With named
    ids, `encode` is also given `split_special_tokens=True`: special tokens spelled in a text are text."""

    def encode(self, text: str, *, add_special_tokens: bool = ..., **options: Any) -> list[int]: ...

    def decode(self, token_ids: list[int]) -> Any: ...

    def __len__(self) -> int: ...


def check_messages(messages: Any) -> None:
    """ValueError for what is no sequence of messages."""
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        raise ValueError(f"messages must be a list of {{'role': ..., 'content': ...}}, got {shown(messages)}")


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
        return self._encode(messages, prompt, Values(self.vocabulary))

    def encode_with_values(self, messages: Sequence[Message], *, prompt: bool = False) -> Encoded:
        """Ids of a conversation, and the continuous values that its placeholders stand for. ValueError, too,
        for placeholders without values."""
        values = Values(self.vocabulary)
        ids = self._encode(messages, prompt, values)
        return Encoded(ids, values.tensors())

    def _encode(self, messages: Sequence[Message], prompt: bool, values: Values) -> list[int]:
        check_messages(messages)
        ids = [self.vocabulary.begin]
        for number, message in enumerate(messages):
            ids += self.turn(message, number, values, first=not number)
        return [*ids, *self.vocabulary.opening("assistant", first=not messages)] if prompt else ids

    def turn(
        self, message: Message, number: int = 0, values: Values | None = None, *, first: bool = False
    ) -> list[int]:
        """Ids of one whole turn: role, content, end. Continuous values are added to `values`; `first`: of a
        conversation."""
        where = f"message {number}"
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise ValueError(f"{where} must be a dict with exactly the keys 'role' and 'content'")
        if message["role"] not in ROLES:
            raise ValueError(f"{where} has role {shown(message['role'])}: use one of {', '.join(ROLES)}")
        content = message["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not isinstance(content, list | tuple):
            raise ValueError(f"{where}: content is a str or a list of items, got {type(content).__name__}")
        opening = self.vocabulary.opening(message["role"], first=first)
        return [*opening, *self.content(content, where, values), self.vocabulary.end]

    def content(
        self, items: Sequence[dict[str, Any]], where: str = "content", values: Values | None = None
    ) -> list[int]:
        """Ids of the items of a turn. `part` marks an empty text, and the border between two texts."""
        values = values or Values(self.vocabulary)
        ids: list[int] = []
        previous: Any = None
        for number, item in enumerate(items):
            kind = item.get("type") if isinstance(item, dict) else None
            found = self._item(kind, item, f"{where}, item {number}", values)
            if kind == "text" and (previous == "text" or not found):
                ids.append(self.vocabulary.part)
            ids += found
            previous = kind
        return ids

    def _item(self, kind: Any, item: dict[str, Any], where: str, values: Values) -> list[int]:
        if kind == "text":
            return self._text(item, where)
        if kind == "image":
            return image_ids(item, where, self.vocabulary, values)
        if kind == "features":
            return feature_ids(item, where, self.vocabulary, values)
        if kind == "action":
            return action_ids(item, where, self.vocabulary)
        raise ValueError(f"{where} has type {shown(kind)}: use text, image, features or action")

    def _text(self, item: dict[str, Any], where: str) -> list[int]:
        text = only(item, where, "text")["text"]
        if not isinstance(text, str):
            raise ValueError(f"{where}: text must be a str, got {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{where}: text holds half of a surrogate pair and is not valid Unicode"
            ) from None
        # A pretrained tokenizer reads its special tokens out of a text, whatever `add_special_tokens` says.
        split = {"split_special_tokens": True} if self.vocabulary.named else {}
        ids = list(self.text.encode(text, add_special_tokens=False, **split))
        control = next((token for token in ids if token in self.vocabulary.named_ids), None)
        if control is not None:
            name = self.vocabulary.name(control)
            raise ValueError(f"{where}: the text tokenizer makes the control id {control} ({name}) of a text")
        return ids

    # Ids -> messages ----------------------------------------------------------------------------------------

    def decode(self, ids: Sequence[int]) -> list[Message]:
        """Messages of one sample. An open last turn is returned as far as it goes. Ids that no messages give
        raise a ValueError that names the position."""
        row = as_ids(ids, 1).tolist()
        while row and row[-1] == self.vocabulary.pad:
            row.pop()
        if not row or row[0] != self.vocabulary.begin:
            raise ValueError("position 0 must be <|begin|>")
        reader = MessageReader(row, self.vocabulary, self.text.decode)
        for segment in segments(row, self.vocabulary):
            reader.read(segment)
        reader.finish()
        return reader.messages

    def print(self, ids: Sequence[int]) -> str:
        """A sample in one readable line: text as it is, everything else by name."""
        out: list[str] = []
        text: list[int] = []
        for token in [*[int(token) for token in ids], -1]:
            if self.vocabulary.is_text(token):
                text.append(token)
                continue
            if text:
                out.append(self.text.decode(text))
                text = []
            if token >= 0:
                name = self.vocabulary.name(token)
                out.append(name if name.startswith("<") else f"<{name}>")
        return "".join(out)
