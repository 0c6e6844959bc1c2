"""The assistant of VARGPT-v1.1: `unified.load("VARGPT-family/VARGPT-v1.1")` answers, converses, draws, edits.

Pictures to be looked at, the source of an edit among them, are read by the vision tower alone: what stays the
same in an edit is what the model remembers of it. A drawing is a picture of the conversation from then on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from transformers import GenerationConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from unified.apps.conversation import Event, Painted, Scale, Text
from unified.apps.image_text import ImageTextAssistant, ImageTextConversation, user_message
from unified.apps.questions import Source
from unified.checkpoints.vargpt_generation import GUIDANCE, SAMPLER
from unified.checkpoints.vargpt_published import load_folder
from unified.checkpoints.vargpt_session import DrawingReader
from unified.decoding.drawing import Drawing
from unified.decoding.guidance import Constant, Guidance
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.finite import check_count
from unified.orders.shapes import Shapes
from unified.stream.message_forms import read_picture
from unified.stream.messages import Message
from unified.tokenizers.images import to_uint8
from unified.vision_language.files import sampler_of
from unified.vision_language.generation import Speech, open_session, said
from unified.vision_language.processor import Prompt, load_image_half
from unified.weight_files import first_line

SETTINGS = "generation_config.json"
INTRODUCTION = 64  # ids that may be said before a drawing that was asked for
REFUSED = "this model answers, draws and edits: it neither solves mazes nor steps a world"


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """How one answer is made: text by `text`, drawings by `pixels` under `guidance`. `draws`: whether it may
    draw; `must_draw`: whether it has to."""

    text: Sampler
    pixels: Sampler = SAMPLER
    guidance: Guidance | None = GUIDANCE
    max_tokens: int = 512
    draws: bool = True
    must_draw: bool = False


class DrawingAssistant(ImageTextAssistant):
    """VARGPT and its processor. Drawings have the pixels of the model's resolution, square by default."""

    draws = True
    commands = ("/draw", "/edit")
    model: DrawingReader

    def draw(  # type: ignore[override]
        self,
        prompt: str,
        *,
        size: tuple[int, int] | None = None,
        guidance: float = GUIDANCE.scale,
        temperature: float = SAMPLER.temperature,
        tries: int = 1,
    ) -> np.ndarray:
        """An image of what the prompt says: uint8 [H, W, 3]. Temperature 0 is greedy. `size` (height, width)
        in pixels: one that the decoder has maps for. ValueError for another one, and for several tries: the
        model does not judge its drawings."""
        return self._drawn([user_message(prompt, [])], size, guidance, temperature, tries)

    def edit(  # type: ignore[override]
        self,
        image: Source,
        instruction: str,
        *,
        size: tuple[int, int] | None = None,
        guidance: float = GUIDANCE.scale,
        temperature: float = SAMPLER.temperature,
        tries: int = 1,
    ) -> np.ndarray:
        """The image as the instruction changes it, drawn anew; otherwise as `draw`."""
        message = user_message(instruction, [read_picture(image)])
        return self._drawn([message], size, guidance, temperature, tries)

    def chat(self, *, max_tokens: int = 512) -> DrawingConversation:
        check_count("max_tokens", max_tokens, 1)
        return DrawingConversation(self, max_tokens)

    def solve(self, *_: Any, **__: Any) -> NoReturn:  # type: ignore[override]
        """Refused: ValueError."""
        raise ValueError(REFUSED)

    imagine = act = dream = player = solve  # type: ignore[assignment]

    def shapes(self, size: tuple[int, int] | None = None) -> Shapes:
        """The maps of a drawing of (height, width) pixels. ValueError, with what there is, for a size without
        any."""
        config, stride = self.model.vargpt.sizes, self.model.vargpt.tokenizer.stride
        if size is None:
            return config.shapes()
        found = config.shapes(size[0] / size[1])
        own = (found[-1][0] * stride, found[-1][1] * stride)
        if own != tuple(size):
            raise ValueError(
                f"this model has no drawing of {size[0]}x{size[1]} pixels; the nearest is {own[0]}x{own[1]}"
            )
        return found

    def describe(self) -> dict[str, Any]:
        """Kind and sizes: plain data."""
        model, stride = self.model.vargpt, self.model.vargpt.tokenizer.stride
        height, width = self.shapes()[-1]
        drawing = {
            "decoder_parameters": sum(parameter.numel() for parameter in model.decoder.parameters()),
            "draws": True,
            "bits": model.decoder.grid.token_bits,
            "drawing": f"{height * stride}x{width * stride}",
        }
        return {**super().describe(), "family": "vargpt", **drawing}

    def _drawn(
        self,
        messages: Sequence[Message],
        size: tuple[int, int] | None,
        guidance: float,
        temperature: float,
        tries: int,
    ) -> np.ndarray:
        if tries != 1:
            raise ValueError(f"this model does not judge its drawings: tries must be 1, got {tries}")
        settings = AnswerSettings(
            text=self.sampler,
            pixels=replace(SAMPLER, temperature=temperature),
            guidance=Constant(guidance) if guidance != 1 else None,
            max_tokens=INTRODUCTION,
            must_draw=True,
        )
        answer = Answer(self, self.processor.prompt(messages), settings, self.shapes(size))
        for _ in answer.events():
            pass
        return answer.images[-1]


class Answer:
    """One answer of text and at most one drawing, which ends it, as in the released model. A drawing that
    must come and was not begun is made of the prompt alone."""

    def __init__(
        self, assistant: DrawingAssistant, prompt: Prompt, settings: AnswerSettings, shapes: Shapes
    ) -> None:
        self.assistant, self.prompt, self.settings, self.shapes = assistant, prompt, settings, shapes
        self.text = ""
        self.images: list[np.ndarray] = []

    def events(self, session: Session | None = None) -> Iterator[Event]:
        """The answer piece by piece; `session`: one that has read the prompt."""
        session = session or self._opened()
        model, settings, speech = self.assistant.model, self.settings, Speech(self.assistant.processor)
        for ids in said(session, model, settings.text, settings.max_tokens, draw=settings.draws):
            if ids[0] is not None and (piece := speech.hear(ids[0])):
                self.text += piece
                yield Text(piece)
        if rest := speech.flush():
            self.text += rest
            yield Text(rest)
        if session.stopped() == ["write"]:
            yield from self._draw(session)
        elif settings.must_draw:
            yield from self._draw(self._opened())

    def _opened(self) -> Session:
        return open_session(self.assistant.model, [self.prompt], self.assistant.seed)

    def _draw(self, session: Session) -> Iterator[Event]:
        options: dict[str, Any] = {"sampler": self.settings.pixels, "guidance": self.settings.guidance}
        order, steps = self.assistant.model.order, len(self.shapes)
        for number, _ in enumerate(session.image(self.shapes, order=order, **options), start=1):
            yield Scale(number, steps, None)
        self.images.append(self._picture(session.drawing))
        yield Painted(self.images[-1])

    @torch.no_grad()
    def _picture(self, drawing: Drawing) -> np.ndarray:
        images = self.assistant.model.visual.image(drawing.maps(), self.shapes)
        return to_uint8(images * 2 - 1)[0]


class DrawingConversation(ImageTextConversation):
    """Turns of text and pictures; the model draws when it chooses to, or is made to (`require_image`)."""

    assistant: DrawingAssistant

    def say(self, text: str, images: Sequence[Source] = (), **changes: Any) -> Iterator[Event]:  # type: ignore[override]
        """As of any image-text model. `changes`: also fields of `GenerationSettings`, of which
        `allow_images`, `require_image`, `max_tokens` and `text_sampler` have an effect."""
        if changes.get("image_after"):
            raise ValueError(REFUSED)
        self.settings = AnswerSettings(
            text=changes.get("text_sampler", self.assistant.sampler),
            draws=changes.get("allow_images", True),
            must_draw=changes.get("require_image", False),
        )
        kept = {"max_tokens": changes["max_tokens"]} if "max_tokens" in changes else {}
        return super().say(text, images, text_sampler=self.settings.text, **kept)

    def _answered(  # type: ignore[override]
        self, messages: list[Message], prompt: Prompt, dropped: int, sampler: Sampler, max_tokens: int
    ) -> Iterator[Event]:
        settings = replace(self.settings, max_tokens=max_tokens)
        session = self._session = self._resumed(prompt)
        answer = Answer(self.assistant, prompt, settings, self.assistant.shapes())
        finished = False
        try:
            yield from answer.events(session)
            finished = not answer.images  # a session that has drawn has not seen the picture
        finally:
            if not finished:
                self._session = None
            if finished or answer.text or answer.images:
                self.forgotten += dropped // 2
                self.messages = [*messages, _reply(answer)]


def _reply(answer: Answer) -> Message:
    if not answer.images:
        return {"role": "assistant", "content": answer.text}
    content: list[dict[str, Any]] = [{"type": "text", "text": answer.text}] if answer.text else []
    shown = [{"type": "image", "image": image} for image in answer.images]
    return {"role": "assistant", "content": [*content, *shown]}


# Loading ----------------------------------------------------------------------------------------------------


def load_vargpt(
    folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0
) -> DrawingAssistant:
    """The assistant of a folder: the weights and Qwen2-VL's tokenizer, image processor and chat template
    beside them. The visual tokenizer stays in float32. ValueError, in one line, for what is missing."""
    model = load_folder(folder, dtype=dtype).to(device)
    model.tokenizer.to(device)
    processor = load_image_half(folder, "qwen2_vl", Qwen2VLImageProcessorPil)
    settings = settings_in(folder)
    own = [model.sizes.language["eos_token_id"], processor.tokenizer.eos_token_id]
    ends = own if settings is None or settings.eos_token_id is None else settings.eos_token_id
    ends = [token for token in (ends if isinstance(ends, list) else [ends]) if token is not None]
    reader = DrawingReader(model, list(dict.fromkeys(ends)))
    return DrawingAssistant(reader, processor, seed=seed, sampler=sampler_of(settings), folder=folder)


def settings_in(folder: Path) -> GenerationConfig | None:
    """What generation_config.json says; None without it. ValueError, in one line, for a damaged one."""
    if not (folder / SETTINGS).is_file():
        return None
    try:
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library raises whatever its parts raise
        raise ValueError(f"{folder / SETTINGS}: {first_line(error)}") from None
