"""Look first: what stands in each part of a picture is said before a question about it is answered.

To count, to compare or to find is then to read words that are all there, a chain of thought (arXiv
2201.11903); the list is learned by the tasks `scene_parts` and `scene_study`.
"""

from __future__ import annotations

from collections.abc import Sequence

from unified.answering import Content, Manner
from unified.stream import Message

LOOK_PROMPT = "What is in each part of the picture?"  # one of the requests of those tasks
LOOKING = Manner(may_draw=False, most_tokens=256)


def for_list(messages: Sequence[Message]) -> list[Message]:
    """The conversation with a request for a list in place of the last message's words."""
    pictures = [item for item in messages[-1]["content"] if item["type"] == "image"]
    return [*messages[:-1], _said([*pictures, {"type": "text", "text": LOOK_PROMPT}])]


def after_look(messages: Sequence[Message], listed: Content) -> list[Message]:
    """The conversation in which `listed` was said before the last message's words."""
    words = [item for item in messages[-1]["content"] if item["type"] != "image"]
    return [*for_list(messages), {"role": "assistant", "content": listed}, _said(words)]


def _said(content: Content) -> Message:
    return {"role": "user", "content": content}
