"""Questions and the images they are about, in the forms that `ask` and `answers` take, as conversations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unified.stream.message_forms import plain_messages
from unified.stream.messages import Message
from unified.tokenizers.images import Picture

Source = Picture | str | Path | bytes
Shown = Source | Sequence[Source] | None  # what one question is about


def sources(image: Shown) -> list[Any]:
    """One image, several or none as a list."""
    if image is None:
        return []
    return list(image) if isinstance(image, (list, tuple)) else [image]


def conversations(
    questions: Sequence[str | Sequence[Message]],
    images: Sequence[Shown] | None,
    request: Callable[[str, Shown], list[Message]],
) -> list[list[Message]]:
    """A conversation for each question: `request(question, image)` for one in words. ValueError for another
    number of images than questions, and for images beside a conversation, in which they are to stand."""
    if isinstance(questions, str):
        raise ValueError("answers takes a list of questions: ask takes one")
    shown = [None] * len(questions) if images is None else list(images)
    if len(shown) != len(questions):
        raise ValueError(f"{len(questions)} questions need as many images (None for none), got {len(shown)}")
    found = []
    for question, image in zip(questions, shown, strict=True):
        if not isinstance(question, str) and image is not None:
            raise ValueError("a conversation has its images in its messages: leave them out of `images`")
        found.append(request(question, image) if isinstance(question, str) else _asked(question))
    return found


def _asked(messages: Sequence[Message]) -> list[Message]:
    plain = plain_messages(list(messages))
    if not plain:
        raise ValueError("a conversation needs at least one message")
    if plain[-1]["role"] != "user":
        raise ValueError("a conversation that is to be answered ends with a message of the user")
    return plain
