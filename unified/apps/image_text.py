"""The assistant of a pretrained image-text model: `unified.load("Qwen/Qwen2.5-VL-3B-Instruct")`.

It answers questions about any number of images and converses, with the model's own chat template, tokenizer
and generation settings. It has no visual codes, so it does not draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np

from unified.apps.answer import Answer, scoring, tokens_of
from unified.apps.answering import WARM
from unified.apps.conversation import Text
from unified.apps.questions import Source, conversations, sources
from unified.backbone.attention import session_attention
from unified.decoding.grounding import MutualInformation
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import Strategy
from unified.finite import check_count
from unified.stream.message_forms import read_picture
from unified.stream.messages import Message
from unified.tokenizers.images import to_images, to_uint8
from unified.vision_language.files import sampler_of
from unified.vision_language.generation import Speech, open_session, said
from unified.vision_language.model import NO_DRAWING, PretrainedReader
from unified.vision_language.processor import PretrainedProcessor, Prompt

SEED_STRIDE = 1_000_003  # as in `answering`: no two rows of two runs share a seed


class ImageTextAssistant:
    """A pretrained model and its processor. `sampler`: how ids are chosen; the model's own generation
    settings, if not given. The same call with the same seed gives the same answer."""

    draws = False
    several_images = True
    commands: tuple[str, ...] = ()  # of `unified chat`, beside those for any model
    strategy: Strategy | None = None  # of decoding (`drafting`)

    def __init__(
        self,
        model: PretrainedReader,
        processor: PretrainedProcessor,
        *,
        seed: int = 0,
        sampler: Sampler | None = None,
        folder: Path | None = None,
    ) -> None:
        self.model, self.processor, self.seed, self.folder = model, processor, seed, folder
        self.sampler = sampler or sampler_of(getattr(model, "generation_config", None))

    def ask(
        self,
        question: str,
        image: Source | Sequence[Source] | None = None,
        *,
        look: bool = True,
        grounded: bool = False,
        max_tokens: int = 256,
        log_probs: bool = False,
    ) -> Answer:
        """The answer to a question about an image, several, or none. `look` is for our own models, which
        were trained to describe first, and has no effect. `grounded`: words are set off against those that
        the model would say without the images, ever more (M3ID, arXiv 2403.14003). `log_probs`: the answer
        knows its `tokens`."""
        options: dict[str, Any] = {"max_tokens": max_tokens, "log_probs": log_probs, "grounded": grounded}
        return self.answers([question], [image], **options)[0]

    def answers(
        self,
        questions: Sequence[str | Sequence[Message]],
        images: Sequence[Source | Sequence[Source] | None] | None = None,
        *,
        look: bool = True,
        grounded: bool = False,
        max_tokens: int = 256,
        batch: int = 16,
        log_probs: bool = False,
    ) -> list[Answer]:
        """The answer to each question, generated `batch` at a time: words about the image, the images or
        nothing that `images` has for it, or a whole conversation. Question n samples by `seed` and n alone,
        whatever the batch. `look`, `grounded` and `log_probs` as of `ask`."""
        check_count("max_tokens", max_tokens, 1)
        check_count("batch", batch, 1)
        asked = conversations(questions, images, lambda text, shown: [user_message(text, pictures(shown))])
        found = []
        for start in range(0, len(asked), batch):
            prompts = [self.processor.prompt(messages) for messages in asked[start : start + batch]]
            seeds = [self.seed * SEED_STRIDE + start + number for number in range(len(prompts))]
            session = open_session(self.model, prompts, seeds, self.strategy)
            if log_probs:
                session.record_log_probs()
            sampler = scoring(self.sampler) if log_probs else self.sampler
            contrast = MutualInformation() if grounded else 0.0
            for _ in said(session, self.model, sampler, max_tokens, contrast=contrast):
                pass
            for prompt, row in zip(prompts, session.rows, strict=True):
                ids, scores = row.stream[len(prompt.ids) :], row.log_probs()[len(prompt.ids) :]
                tokens = tokens_of(ids, scores, self._text_of) if log_probs else ()
                found.append(Answer(self.processor.text(ids).strip(), tokens))
        return found

    def _text_of(self, token: int) -> str:
        words = self.model.vocabulary
        return self.processor.text([token]) if words.is_text(token) else words.name(token)

    def chat(self, *, max_tokens: int = 512) -> ImageTextConversation:
        """A conversation with streaming answers of at most `max_tokens` ids."""
        check_count("max_tokens", max_tokens, 1)
        return ImageTextConversation(self, max_tokens)

    def picture(self, source: Source) -> np.ndarray:
        """An image as it is given to the model's image processor: uint8 [H, W, 3]."""
        return to_uint8(to_images(read_picture(source)))[0]

    shown = picture

    def draw(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: ValueError."""
        raise ValueError(NO_DRAWING)

    edit = solve = imagine = act = dream = player = draw

    def describe(self) -> dict[str, Any]:
        """Kind and sizes: plain data."""
        model = self.model
        return {
            "folder": str(self.folder),
            "parameters": sum(parameter.numel() for parameter in model.pretrained.parameters()),
            "family": model.config.model_type,
            "backbone": model.decoder.config.model_type,
            "width": model.width,
            "layers": model.layer_count,
            "text_ids": model.vocabulary.text,
            "reads_images": model.sees,
            "draws": False,
            "context": model.context_length,
            "device": str(model.device),
            "dtype": str(model.dtype).removeprefix("torch."),
            "attention": session_attention(model.attention, model.device, model.dtype),
        }


class ImageTextConversation:
    """Turns of a user and answers. Its state is the list of `messages`; a session that has read a beginning
    of what the chat template makes of them goes on from there, otherwise a new one reads all. Turns that the
    model's context has no room for are `forgotten`, the oldest first. `warm`: changes for another answer to
    the same message."""

    warm: ClassVar[dict[str, Any]] = {"text_sampler": WARM}

    def __init__(self, assistant: ImageTextAssistant, max_tokens: int) -> None:
        self.assistant, self.max_tokens = assistant, max_tokens
        self.messages: list[Message] = []
        self.forgotten = 0
        self._session: Session | None = None

    def say(self, text: str, images: Sequence[Source] = (), **changes: Any) -> Iterator[Text]:
        """Append a turn of text and images, and stream the answer. `changes`: `max_tokens` or `text_sampler`
        of this turn. ValueError, with nothing changed, for a message that is empty or too long, and for
        changes that ask for a drawing."""
        if not text.strip() and not len(images):
            raise ValueError("nothing was said: write something or give a picture")
        if set(changes) - {"max_tokens", "text_sampler"}:
            raise ValueError(NO_DRAWING)
        max_tokens = changes.get("max_tokens", self.max_tokens)
        sampler = changes.get("text_sampler", self.assistant.sampler)
        check_count("max_tokens", max_tokens, 1)
        messages = [*self.messages, user_message(text, [read_picture(image) for image in images])]
        prompt, kept = self._fitting(messages)
        return self._answered(kept, prompt, len(messages) - len(kept), sampler, max_tokens)

    def saved(self) -> tuple[Any, ...]:
        """What `restore` takes the conversation back to."""
        return list(self.messages), self.forgotten

    def restore(self, saved: tuple[Any, ...]) -> None:
        messages, self.forgotten = saved
        self.messages, self._session = list(messages), None

    def _fitting(self, messages: list[Message]) -> tuple[Prompt, list[Message]]:
        """The prompt of the latest turns that leave a quarter of the context to the answer."""
        longest = self.assistant.model.context_length
        while True:
            prompt = self.assistant.processor.prompt(messages)
            if longest is None or len(prompt.ids) <= longest * 3 // 4:
                return prompt, messages
            if len(messages) < 3:
                raise ValueError(
                    f"this message has {len(prompt.ids)} ids, the model reads {longest * 3 // 4} at once: "
                    "shorten it"
                )
            messages = messages[2:]

    def _answered(
        self, messages: list[Message], prompt: Prompt, dropped: int, sampler: Sampler, max_tokens: int
    ) -> Iterator[Text]:
        model, speech, told = self.assistant.model, Speech(self.assistant.processor), ""
        finished = False
        try:
            session = self._session = self._resumed(prompt)
            for ids in said(session, model, sampler, max_tokens):
                if ids[0] is not None and (piece := speech.hear(ids[0])):
                    told += piece
                    yield Text(piece)
            if rest := speech.flush():
                told += rest
                yield Text(rest)
            finished = True
        finally:
            if not finished:
                self._session = None  # it may be inside a step
            if finished or told:  # roles alternate: an answer that never began leaves its question out
                self.forgotten += dropped // 2
                self.messages = [*messages, {"role": "assistant", "content": told}]

    def _resumed(self, prompt: Prompt) -> Session:
        """A session that has read the prompt: the last one, if what it has read is how the prompt begins."""
        session, model = self._session, self.assistant.model
        read = session.streams[0] if session is not None else []
        if session is None or prompt.ids[: len(read)] != read or len(read) == len(prompt.ids):
            return open_session(model, [prompt], self.assistant.seed, self.assistant.strategy)
        new = prompt.ids[len(read) :]
        count = new.count(model.vocabulary.image)
        values = model.values(prompt.inputs) if count else {}
        session.feed(new, values={name: tensor[len(tensor) - count :] for name, tensor in values.items()})
        return session


def user_message(text: str, images: Sequence[Any]) -> Message:
    """One turn of the user, images first."""
    content = [{"type": "image", "image": image} for image in images]
    content += [{"type": "text", "text": text}] if text.strip() else []
    return {"role": "user", "content": content}


def pictures(image: Source | Sequence[Source] | None) -> list[Any]:
    """One image, several or none as a list."""
    return [read_picture(one) for one in sources(image)]
