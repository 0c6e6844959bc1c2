"""How questions are answered: after a list of what a picture shows where they are about it, else without it.

The model itself shows what it takes a message for. An answer that it gives without seeing the picture and
that stays likely when it sees it does not depend on the picture. What it says at once to the picture is an
answer, after which it lists the parts of the picture and thinks (`looking`), or speech to itself
(`inner_speech`): then the message is no question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

from unified.apps.answer import Answer, scoring
from unified.apps.answering import Content, GenerationSettings, text_of, turns
from unified.apps.inner_speech import spoken
from unified.apps.intent import log_prob
from unified.apps.looking import LOOKING, after_look, concluded, for_list
from unified.orders.shapes import Shapes
from unified.stream.messages import Message
from unified.stream.processor import Processor

ASKING = GenerationSettings(allow_images=False, max_tokens=256)
INTRODUCTION = "What can you do?"  # asked where the model has no other answer
# Mean log-probabilities per token, in nats, of an answer that the picture does not change (messages about no
# picture: -0.05 to -0.57, questions about one: below -0.79) and of one that the model knows (babble: -2.3).
LIKELY, KNOWN = -0.6, -1.0
SENTENCE = 8  # tokens from which they say something: "yes" is likely whatever is asked


@dataclass(frozen=True, kw_only=True)
class Asking:
    """A model and how it is asked; `shapes` are not used, since no image is generated. `listed`: the list of
    the picture, where it is known."""

    model: Any
    processor: Processor
    shapes: Shapes
    settings: GenerationSettings = ASKING
    seed: int = 0
    batch: int = 16
    listed: Content | None = None

    def at_once(self, asked: Sequence[Sequence[Message]]) -> list[Answer]:
        """The answer to each conversation, which ends with a message of the user; "" where the model has
        none, speaking to itself included."""
        return self._said(asked, spoken)

    def looking(self, asked: Sequence[Sequence[Message]]) -> list[Answer]:
        """The same for messages about one picture each, after a list and a chain of thought where they are
        questions about it."""
        found = self.blind(asked)
        rest = [n for n, answer in enumerate(found) if not answer or not self._likely(asked[n], answer)]
        first = self.at_once([asked[n] for n in rest])
        questions = [n for n, answer in zip(rest, first, strict=True) if answer]
        thought = self._thought([asked[n] for n in questions])
        for n, answer, other in zip(questions, filter(None, first), thought, strict=True):
            found[n] = other or answer
        return found

    def blind(self, asked: Sequence[Sequence[Message]]) -> list[Answer]:
        """The answers to the last message in words alone; "" where the model does not know one."""
        found = self.at_once([without_pictures(messages) for messages in asked])
        return [answer if is_known(answer) else Answer("") for answer in found]

    def _likely(self, messages: Sequence[Message], answer: str) -> bool:
        """Whether an answer that was given without the picture is likely with it."""
        ids = self.processor.stream.text.encode(answer)
        return len(ids) >= SENTENCE and log_prob(self.model, self._prompt(messages), ids) > LIKELY * len(ids)

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        return self.processor.encode(messages, prompt=True)

    def _thought(self, asked: Sequence[Sequence[Message]]) -> list[Answer]:
        """Answers after a list and a chain of thought; "" for one that comes to nothing."""
        lists = [self.listed] * len(asked) if self.listed else self.lists(asked)
        return self._said([after_look(*pair) for pair in zip(asked, lists, strict=True)], conclusion)

    def lists(self, asked: Sequence[Sequence[Message]]) -> list[Content]:
        """What each part of their pictures shows, in the words of the model."""
        prompts = [for_list(messages) for messages in asked]
        found = turns(self.model, self.processor, prompts, self.shapes, LOOKING, batch=self.batch)
        return [turn.content(row) for turn in found for row in range(len(turn.stops))]

    def _said(self, asked: Sequence[Sequence[Message]], part: Callable[[str], str]) -> list[Answer]:
        settings = replace(self.settings, text_sampler=scoring(self.settings.text_sampler))
        options: dict[str, Any] = {"seed": self.seed, "batch": self.batch, "log_probs": True}
        found = []
        for turn in turns(self.model, self.processor, asked, self.shapes, settings, **options):
            rows = range(len(turn.stops))
            found += [Answer(part(text_of(turn.content(row))), turn.tokens(row)) for row in rows]
        return found


def is_known(answer: Answer) -> bool:
    """Whether the model itself finds an answer likely."""
    scores = [token.log_prob for token in answer.tokens if not isnan(token.log_prob)]
    return len(scores) < SENTENCE or sum(scores) > KNOWN * len(scores)


def conclusion(text: str) -> str:
    """What a chain of thought comes to, "" for one that does not end."""
    return spoken(text_of(concluded([{"type": "text", "text": text}])))


def pictures_of(messages: Sequence[Message]) -> int:
    """How many pictures the last message has."""
    content = messages[-1]["content"]
    return 0 if isinstance(content, str) else sum(item["type"] == "image" for item in content)


def without_pictures(messages: Sequence[Message]) -> list[Message]:
    """The last message alone, in words."""
    words = [item for item in messages[-1]["content"] if item["type"] != "image"]
    return [{**messages[-1], "content": words}]
