"""Questions about an image answered after a list of its parts: describe first, then a chain of thought.

The model first lists the objects in each of nine parts of the image. The answer is then a chain of thought
(Wei et al., arXiv 2201.11903) that repeats each entry and whether it matters for the question, so counting,
comparing and finding use text alone. Lists are learned from the tasks `scene_parts` and `scene_study`, chains
of thought from the latter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unified.apps.answering import Content, GenerationSettings, text_of
from unified.stream.messages import Message

LOOK_PROMPT = "What is in each part of the picture?"  # one of the requests of those tasks
LISTED = "Seen: "  # how a list begins
LOOKING = GenerationSettings(allow_images=False, max_tokens=256, visual_contrast=1.0)
THINK_PROMPT = "Think first."  # what `scene_study` adds to a question about a picture with a list


def only_list(picture: Any) -> list[Message]:
    """A conversation that asks for the list of an image."""
    return for_list([_user([{"type": "image", "image": picture}])])


def for_list(messages: Sequence[Message]) -> list[Message]:
    """The conversation with a request for a list in place of the last message's text."""
    pictures = [item for item in messages[-1]["content"] if item["type"] == "image"]
    return [*messages[:-1], _user([*pictures, {"type": "text", "text": LOOK_PROMPT}])]


def after_look(messages: Sequence[Message], listed: Content) -> list[Message]:
    """The conversation with the list `listed` before the last message's text, which now asks for a chain of
    thought."""
    words = [item for item in messages[-1]["content"] if item["type"] != "image"]
    asked = [*words[:-1], {**words[-1], "text": f"{words[-1]['text']} {THINK_PROMPT}"}]
    return [*for_list(messages), {"role": "assistant", "content": listed}, _user(asked)]


def concluded(answer: Content) -> Content:
    """The conclusion of a chain of thought: the text after the last "So "."""
    return [{"type": "text", "text": text_of(answer).rsplit("So ", 1)[-1]}]


def _user(content: Content) -> Message:
    return {"role": "user", "content": content}
