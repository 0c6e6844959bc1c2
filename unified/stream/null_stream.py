"""The stream of the null branch of classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence

from unified.stream.vocabulary import Vocabulary


def null_stream(ids: Sequence[int], words: Vocabulary) -> list[int]:
    """The same turns and images, without the words that the user wrote and that the assistant says."""
    row, role, image = [], None, False
    for token in ids:
        image = (image or token in (words.read, words.write)) and token != words.close
        if token in (words.system, words.user, words.assistant):
            role = token
        elif token == words.end:
            role = None  # what follows up to the next role is its turn's frame
        spoken = words.is_text(token) or token == words.part
        if image or not (spoken and role in (words.user, words.assistant)):
            row.append(token)
    return row
