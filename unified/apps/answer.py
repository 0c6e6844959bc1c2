"""An answer as a string that also knows its tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest


@dataclass(frozen=True)
class Token:
    """An id that was generated: its text, or its name for a special one, and its log-probability
    (`Session.log_probs`)."""

    id: int
    text: str
    log_prob: float


class Answer(str):
    """The text of an answer. `tokens`: with `log_probs=True`, those of the turn that the text was taken from,
    a chain of thought and the id that ended it included; otherwise empty."""

    tokens: tuple[Token, ...]

    def __new__(cls, text: str, tokens: Iterable[Token] = ()) -> Answer:
        answer = super().__new__(cls, text)
        answer.tokens = tuple(tokens)
        return answer


def tokens_of(ids: Sequence[int], log_probs: Sequence[float], text: Callable[[int], str]) -> list[Token]:
    """Tokens of ids; NaN where no log-probability is given."""
    pairs = zip_longest(ids, log_probs, fillvalue=math.nan)
    return [Token(int(token), text(int(token)), log_prob) for token, log_prob in pairs]
