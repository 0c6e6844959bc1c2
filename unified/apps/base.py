"""What all verbs of an assistant share: its model and processor, pictures in and out, requests, adapters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unified.apps.adapters import Adapters
from unified.apps.answering import Content, GenerationSettings, Turn
from unified.apps.pictures import as_codes, check_codes, fit
from unified.apps.questions import Source, sources
from unified.apps.settings import SIDE
from unified.backbone.layer_pass import LayerPart
from unified.core_model import CoreModel
from unified.decoding.session import Session
from unified.decoding.strategies import Strategy
from unified.model_summary import summary
from unified.orders.shapes import Shapes
from unified.stream.message_forms import read_picture
from unified.stream.messages import Message
from unified.stream.processor import Processor


class Base:
    """A model and its processor, without verbs."""

    strategy: Strategy | None = None  # of decoding, in conversations (`drafting`)

    def __init__(
        self,
        model: CoreModel,
        processor: Processor,
        *,
        seed: int = 0,
        side: int = SIDE,
        folder: Path | None = None,
    ) -> None:
        if processor.visual is None:
            raise ValueError("this model has no visual tokenizer: it neither sees nor draws")
        if side < 1 or side % processor.visual.stride:
            raise ValueError(f"side must be a multiple of {processor.visual.stride}, got {side}")
        self.model, self.processor = model, processor
        self.visual: Any = processor.visual
        self.seed, self.side, self.folder = seed, side, folder

    def __repr__(self) -> str:
        where = self.folder or "memory"
        return f"{type(self).__name__}({summary(self.model)}, from {where}, side {self.side})"

    # Adapters -----------------------------------------------------------------------------------------------

    @cached_property
    def adapters(self) -> Adapters:
        """The adapters that are loaded."""
        return Adapters(self.model, Path(self.model.name_or_path or "").name or "this model")

    def load_adapter(self, path: str | Path, name: str | None = None, *, only: str | None = None) -> str:
        """Put the adapter of a file beside the model, under a name (default: the file's); several may be
        loaded. `only`: of a style's file "style" or "content". ValueError, in one line, for a file that is no
        adapter of this model."""
        return self.adapters.load(path, name, only)

    def remove_adapter(self, name: str) -> None:
        """Take an adapter away; without any, the model computes the same bits as before the first."""
        self.adapters.remove(name)

    # Parts --------------------------------------------------------------------------------------------------

    def shown(self, source: Source) -> np.ndarray:
        """An image as a conversation is given it: uint8 [H, W, 3]."""
        return self.picture(source)

    def picture(self, source: Source | Sequence[np.ndarray]) -> np.ndarray:
        """An image at the size in which the model reads it, or what its codes (`codes`: int64 [h, w], or a
        list of maps) decode to: uint8 [H, W, 3]."""
        if (codes := as_codes(source)) is not None:
            check_codes(codes, self.processor.vocabulary.visual)
            shapes = [list(code.shape) for code in codes]
            return self.processor.picture(
                {"codes": np.concatenate([c.ravel() for c in codes]).tolist(), "shapes": shapes}
            )
        return fit(read_picture(source), self.side, self.visual.stride, self.processor.max_pixels)

    def shapes(self, size: tuple[int, int]) -> Shapes:
        """The maps of a generated image of (height, width) pixels. ValueError for a size the tokenizer cannot
        have."""
        stride, most = self.visual.stride, self.processor.vocabulary.max_side
        if min(size) < 1 or size[0] % stride or size[1] % stride or max(size) > most * stride:
            raise ValueError(
                f"a picture has sides of {stride}, {2 * stride}, ... {most * stride} pixels, got {size}"
            )
        return self.processor.schedule((size[0] // stride, size[1] // stride))

    def request(self, words: str, image: Source | Sequence[Source] | None = None) -> list[Message]:
        """One turn of the user."""
        content: Content = [{"type": "text", "text": words}]
        self._check_words(content)
        shown = [{"type": "image", "image": self.picture(one)} for one in sources(image)]
        return [{"role": "user", "content": [*shown, *content]}]

    def _check_words(self, content: Content) -> None:
        """ValueError for a text that the model's context has no room for: before anything else is done."""
        count, most = len(self.processor.stream.content(content)), self.model.context_length
        if most is not None and count >= most:
            raise ValueError(f"the text has {count} ids, the model's context {most} positions: shorten it")

    def _answer(
        self,
        messages: list[Message],
        settings: GenerationSettings,
        image: Source | None,
        shapes: Shapes | None = None,
        seed: int | None = None,
        parts: Sequence[LayerPart] = (),
    ) -> Content:
        if shapes is None:
            given = messages[-1]["content"][0].get("image") if image is not None else None
            shapes = self.shapes(given.shape[:2] if given is not None else (self.side, self.side))
        seed = self.seed if seed is None else seed
        beside = [*self.adapters.parts, *parts] if "adapters" in self.__dict__ else parts
        session = Session(self.model, seed=seed, strategy=settings.strategy, parts=beside)
        self._read(session, messages)
        turn = Turn(session, self.processor, shapes, settings)
        for _ in turn.events():
            pass
        return turn.content(0)

    def _read(self, session: Session, messages: list[Message]) -> None:
        """Read a prompt into a session."""
        session.feed(self.processor.encode(messages, prompt=True))
