"""What a vocabulary takes over from a pretrained model: its image placeholder, and how its turns are spelled.

The ids of text are the model's own. A chat template spells a turn in several of them, such as `<|im_start|>`,
`user` and a newline, so in such a stream the control words `begin`, `system`, `user` and `assistant` are
*marks*: they say where a sample or a turn begins, as in every stream, and take no position of the backbone.
What the backbone reads is what the model's own template writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unified.stream.vocabulary import Vocabulary

NONE = -1
FEATURES, PLACES = "image", "places"  # values that travel beside image placeholders
MARKS = ("begin", "system", "user", "assistant")


@dataclass(frozen=True, kw_only=True)
class BaseWords:
    """`image`: the id whose place a feature of the vision tower takes, NONE for a model of text alone.
    `together`: the features of one image see one another. `first` and `following`: by role, the ids that open
    the first turn of a conversation, and one that comes after the end of another; both empty where no turn is
    spelled."""

    image: int = NONE
    together: bool = False
    first: Mapping[str, Sequence[int]] = field(default_factory=dict, hash=False)
    following: Mapping[str, Sequence[int]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("first", "following"):
            spelled = {role: tuple(ids) for role, ids in getattr(self, name).items()}
            object.__setattr__(self, name, spelled)

    def placeholder(self, name: str) -> int:
        """The image id, for FEATURES and their PLACES. ValueError for a model of text alone."""
        if self.image == NONE:
            raise ValueError(f"this model reads text only: it has no placeholder for {name}")
        return self.image

    def opening(self, role: str, *, first: bool) -> tuple[int, ...]:
        """The ids that open a turn, the `first` of its conversation or a later one. ValueError for a role
        that the model's chat template does not spell."""
        opens = self.first if first and role in self.first else self.following
        if role not in opens:
            raise ValueError(f"the chat template of this model has no turn of the {role}")
        return tuple(opens[role])


def with_marks(ids: Sequence[int], words: Vocabulary) -> list[int]:
    """What a chat template wrote, with the marks of its turns and of the conversation's beginning: the stream
    that `Stream.encode` spells of the same turns."""
    found, place, turns = [words.begin], 0, 0
    while place < len(ids):
        opened = _opened(ids, place, words, first=not turns) if place == 0 or turns else None
        if opened is not None:
            role, length = opened
            found += [*ids[place : place + length], words.special[role]]
            place, turns = place + length, turns + 1
        stop = next((n + 1 for n in range(place, len(ids)) if ids[n] == words.end), len(ids))
        found += ids[place:stop]
        place = stop
    return found


def _opened(ids: Sequence[int], place: int, words: Vocabulary, *, first: bool) -> tuple[str, int] | None:
    """The role that a turn at a place is opened for, and by how many ids; the longest that fits."""
    base: Any = words.base
    opens = base.first if first else base.following
    fitting = [
        (role, len(opening))
        for role, opening in opens.items()
        if tuple(ids[place : place + len(opening)]) == opening
    ]
    return max(fitting, key=lambda found: found[1], default=None)
