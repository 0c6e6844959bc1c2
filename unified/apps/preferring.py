"""Two sampled answers to one prompt, and a person's choice between them as a record for preference tuning.

Records hold ids, in the form that `unified.train.preference.data` reads: decoding an image and encoding it
again would not give the codes that were drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from unified.apps.answering import Content, GenerationSettings, ImageDone, ImageStep, TextIds, Turn
from unified.apps.assistant import Assistant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.stream.messages import Message


class Pair:
    """Two answers to the same messages, which differ by their noise alone. Run `events` to the end, then ask
    for `contents` and `record`. With `draw` each answer has an image, else none. `temperature` is that of
    text and images; `max_tokens` the ids of text in an answer."""

    def __init__(
        self,
        assistant: Assistant,
        messages: Sequence[Message],
        *,
        draw: bool = False,
        temperature: float = 1.0,
        max_tokens: int = 128,
        seed: int = 0,
    ) -> None:
        sampler = Sampler(temperature=temperature)
        common: dict[str, Any] = {"text_sampler": sampler, "image_sampler": sampler, "max_tokens": max_tokens}
        settings = GenerationSettings(**common, allow_images=draw, require_image=draw)
        self.processor = assistant.processor
        self.prompt: list[int] = self.processor.encode(messages, prompt=True)
        session = Session(assistant.model, rows=2, seed=seed)
        session.feed(self.prompt)
        self.turn = Turn(session, self.processor, assistant.shapes((assistant.side,) * 2), settings)

    def events(self) -> Iterator[TextIds | ImageStep | ImageDone]:
        return self.turn.events()

    def contents(self) -> list[Content]:
        """The items of both answers."""
        return [self.turn.content(row) for row in range(2)]

    def ids(self) -> list[list[int]]:
        """The ids of both answers."""
        streams = self.turn.session.streams
        return [streams[row][len(self.prompt) : self.turn.stops[row]] for row in range(2)]

    def record(self, better: int) -> dict[str, Any] | None:
        """The choice of answer 0 or 1 as the better one; None where the answers are equal."""
        from unified.train.preference.data import tokenizer_digest

        ids = self.ids()
        if ids[0] == ids[1]:
            return None
        return {
            "prompt_ids": self.prompt,
            "chosen_ids": ids[better],
            "rejected_ids": ids[1 - better],
            "tokenizer": tokenizer_digest(self.processor),
            "by": "person",
        }
