"""How questions are answered: after a list of what a picture shows where they are about it, else without it.

The model itself shows what it takes a message for. An answer that it gives without seeing the picture and
that stays likely when it sees it does not depend on the picture. What it says at once to the picture is an
answer, after which it lists the parts of the picture and thinks (`looking`), or speech to itself
(`inner_speech`): then the message is no question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from unified.apps.answer import Answer
from unified.apps.answering import Content, GenerationSettings, text_of, turns
from unified.apps.inner_speech import spoken
from unified.apps.intent import log_prob
from unified.apps.looking import LOOKING, after_look, concluded, for_list
from unified.orders.shapes import Shapes
from unified.stream.messages import Message
from unified.stream.processor import Processor

ASKING = GenerationSettings(allow_images=False, max_tokens=256)
LIKELY = -1.0  # mean log-probability per token, in nats, of an answer that the picture does not change
SENTENCE = 8  # tokens from which that says something: "yes" is likely whatever is asked


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
    log_probs: bool = False
    listed: Content | None = None

    def at_once(self, asked: Sequence[Sequence[Message]]) -> list[Answer]:
        """The answer to each conversation, which ends with a message of the user; "" where the model has
        none, speaking to itself included."""
        return self._said(asked, spoken)

    def looking(self, asked: Sequence[Sequence[Message]]) -> list[Answer]:
        """The same for messages about one picture each, after a list and a chain of thought where they are
        questions about it."""
        blind = self.at_once([without_pictures(messages) for messages in asked])
        found, rest = list(blind), self._seeing(asked, blind)
        first = self.at_once([asked[n] for n in rest])
        questions = [n for n, answer in zip(rest, first, strict=True) if answer]
        thought = self._thought([asked[n] for n in questions])
        for n, answer, other in zip(questions, filter(None, first), thought, strict=True):
            found[n] = other or answer
        return found

    def _seeing(self, asked: Sequence[Sequence[Message]], blind: Sequence[Answer]) -> list[int]:
        """The numbers of those whose answer depends on the picture."""
        pairs = enumerate(zip(asked, blind, strict=True))
        return [n for n, (messages, answer) in pairs if not answer or not self._likely(messages, answer)]

    def _likely(self, messages: Sequence[Message], answer: str) -> bool:
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
        options: dict[str, Any] = {"seed": self.seed, "batch": self.batch, "log_probs": self.log_probs}
        found = []
        for turn in turns(self.model, self.processor, asked, self.shapes, self.settings, **options):
            for row in range(len(turn.stops)):
                tokens = turn.tokens(row) if self.log_probs else ()
                found.append(Answer(part(text_of(turn.content(row))), tokens))
        return found


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
