"""Look first: what stands in each part of a picture is said before a question about it is answered.

To count, to compare or to find is then to read words that are all there: entry by entry is said again, with
whether it is what the question is about, and the answer is made from that, a chain of thought (arXiv
2201.11903). The list is learned by the tasks `scene_parts` and `scene_study`, the thought by the latter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unified.apps.answering import Content, GenerationSettings, text_of
from unified.stream.messages import Message

LOOK_PROMPT = "What is in each part of the picture?"  # one of the requests of those tasks
LOOKING = GenerationSettings(allow_images=False, max_tokens=256, visual_contrast=1.0)
THINK_PROMPT = "Think first."  # what `scene_study` adds to a question about a picture with a list


def only_list(picture: Any) -> list[Message]:
    """A conversation that asks for the list of a picture, and no more."""
    return for_list([_said([{"type": "image", "image": picture}])])


def for_list(messages: Sequence[Message]) -> list[Message]:
    """The conversation with a request for a list in place of the last message's words."""
    pictures = [item for item in messages[-1]["content"] if item["type"] == "image"]
    return [*messages[:-1], _said([*pictures, {"type": "text", "text": LOOK_PROMPT}])]


def after_look(messages: Sequence[Message], listed: Content) -> list[Message]:
    """The conversation in which `listed` was said before the last message's words, to be thought over."""
    words = [item for item in messages[-1]["content"] if item["type"] != "image"]
    asked = [*words[:-1], {**words[-1], "text": f"{words[-1]['text']} {THINK_PROMPT}"}]
    return [*for_list(messages), {"role": "assistant", "content": listed}, _said(asked)]


def concluded(answer: Content) -> Content:
    """What a thoughtful answer comes to: the words after the last "So "."""
    return [{"type": "text", "text": text_of(answer).rsplit("So ", 1)[-1]}]


def _said(content: Content) -> Message:
    return {"role": "user", "content": content}
