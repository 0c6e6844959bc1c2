"""The assistant of a pretrained image-text model that was given a pen: `unified.load(DIR)` after `unified
extend`.

It answers about images as the pretrained model does, by its own vision tower, chat template and generation
settings, and draws with the verbs of every other model, in the same stream of ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import GenerationConfig

from unified.apps.answer import Answer
from unified.apps.answering import Content
from unified.apps.assistant import CHATTING, Assistant
from unified.apps.conversation import Conversation
from unified.apps.image_text import ImageTextAssistant
from unified.apps.questions import Source
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.model import UnifiedModel
from unified.pretrained import base_folder
from unified.readers.values import collate_values
from unified.stream.base_words import FEATURES, with_marks
from unified.stream.items import Encoded
from unified.stream.message_forms import plain_messages
from unified.stream.messages import Message
from unified.stream.processor import Processor
from unified.vision_language.files import sampler_of
from unified.vision_language.processor import LOCAL, PretrainedProcessor, load_processor

CODES, TOWER = "codes", "vision_tower"


class ExtendedAssistant(Assistant):
    """An extended model, its processor, and that of the pretrained model (`words`). `reads`: by what images
    are read where the answer may be drawn (`edit`, `solve`, `chat`): CODES, TOWER or both, one after the
    other. Questions are answered by the tower alone; frames, of which there are many, are read as codes.
    `sampler`: how the ids of answers are chosen."""

    several_images = True
    thinks = False

    def __init__(
        self,
        model: UnifiedModel,
        processor: Processor,
        words: PretrainedProcessor,
        *,
        seed: int = 0,
        folder: Path | None = None,
        reads: Sequence[str] = (TOWER, CODES),
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__(model, processor, seed=seed, folder=folder)
        if not reads or set(reads) - {CODES, TOWER}:
            raise ValueError(f"reads must name {CODES}, {TOWER} or both, got {list(reads)}")
        self.words, self.reads = words, tuple(reads)
        self.sampler = sampler or Sampler(temperature=0)
        own: Any = model
        self.answering = ImageTextAssistant(own, words, seed=seed, sampler=self.sampler, folder=folder)

    def answers(
        self,
        questions: Sequence[str | Sequence[Message]],
        images: Sequence[Source | Sequence[Source] | None] | None = None,
        **options: Any,
    ) -> list[Answer]:
        """The answers as the pretrained model gives them, about an image, several, or none for each question.
        `look` is for our own models and has no effect."""
        return self.answering.answers(questions, images, **options)

    def chat(self, *, max_tokens: int = 512, most_tokens: int | None = None) -> Conversation:
        """A conversation with streaming answers of at most `max_tokens` ids of text, and drawings."""
        told: dict[str, Any] = {"text_sampler": self.sampler, "strategy": self.strategy}
        settings = replace(CHATTING, max_tokens=most_tokens or max_tokens, **told)
        return ExtendedConversation(self, shapes=self.shapes((self.side, self.side)), settings=settings)

    def shown(self, source: Source) -> np.ndarray:
        """An image as the tower is given it: uint8 [H, W, 3], not resized."""
        return self.answering.picture(source)

    def turn(self, content: Content, *, first: bool) -> Encoded:
        """Ids of a turn of the user, and the features of its images: the `first` of a conversation or a later
        one."""
        vocabulary, message = self.processor.vocabulary, {"role": "user", "content": content}
        images = [item for item in content if item["type"] == "image"]
        if not images or TOWER not in self.reads:
            return Encoded(self.processor.turn(message, first=first), {})
        prompt = self.words.prompt([message])
        said = with_marks(prompt.ids, vocabulary)
        said = said[said.index(vocabulary.user) + 1 :]  # what the template makes of the content, and the end
        said = said[: said.index(vocabulary.end) + 1]
        if CODES in self.reads:
            coded = [self.processor.image_item(self.picture(item["image"])) for item in images]
            said = [*self.processor.stream.content(coded), *said]
        return Encoded([*vocabulary.opening("user", first=first), *said], self.model.values(prompt.inputs))

    def _read(self, session: Session, messages: list[Message]) -> None:
        """Read a prompt into a session, images by what the assistant `reads` them by."""
        vocabulary = self.processor.vocabulary
        ids, values = [vocabulary.begin], list[dict[str, Tensor]]()
        for number, message in enumerate(plain_messages(messages)):
            turn = self._turn(message, first=not number)
            ids, values = [*ids, *turn.ids], [*values, turn.values]
        session.feed([*ids, *vocabulary.opening("assistant")], values=collate_values(values))

    def _turn(self, message: Message, *, first: bool) -> Encoded:
        if message["role"] == "user" and not isinstance(message["content"], str):
            return self.turn(message["content"], first=first)
        return Encoded(self.processor.turn(message, first=first), {})


class ExtendedConversation(Conversation):
    """Turns are read as the assistant reads them; drawings are of its size, whatever is shown."""

    def __init__(self, assistant: ExtendedAssistant, **options: Any) -> None:
        super().__init__(assistant.model, assistant.processor, seed=assistant.seed, **options)
        self.assistant = assistant

    def _told(self, content: Content) -> Encoded:
        return self.assistant.turn(content, first=not self.turns)

    def _shapes_of(self, image: Any) -> Any:
        return super()._shapes_of(self.assistant.picture(image))


def extended_assistant(
    model: UnifiedModel, processor: Processor, *, seed: int = 0, folder: Path | None = None
) -> ExtendedAssistant:
    """The assistant of a model that was loaded. ValueError, in one line, if the files of the pretrained model
    are not where they were."""
    config: Any = model.config
    base, reader = base_folder(config), config.readers[FEATURES]
    words = load_processor(base, reader["model"]["model_type"], sees=True)
    try:
        settings = GenerationConfig.from_pretrained(base, **LOCAL)
    except OSError:  # a folder without any
        settings = None
    return ExtendedAssistant(model, processor, words, seed=seed, folder=folder, sampler=sampler_of(settings))
