"""An answer as a string that also knows its tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from torch import Tensor

from unified.decoding.noise import Noise
from unified.decoding.sampling import Sampler
from unified.heads.distribution import Drawn


@dataclass(frozen=True)
class Token:
    """An id that was generated: its text, or its name for a special one, and its log-probability
    under the model: before temperature, filters and contrast with other streams are applied."""

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


class Scoring(Sampler):
    """Draws as the sampler of the same settings does, greedy included, and says the log-probability that the
    logits give to what was drawn."""

    def draw(self, logits: Tensor, noise: Noise, places: Tensor) -> Drawn:
        drawn = super().draw(logits, noise, places)
        every = logits.float().log_softmax(dim=-1)
        return Drawn(drawn.symbols, every.gather(-1, drawn.symbols[..., None])[..., 0].sum(dim=-1))


def scoring(sampler: Sampler) -> Scoring:
    return Scoring(**vars(sampler))
