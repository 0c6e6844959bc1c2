"""The verbs that draw: draw, edit, control and upscale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
from PIL.Image import Image

from unified.apps.answering import Content, GenerationSettings, images_of
from unified.apps.base import Base
from unified.apps.best_of_n import TRIES, best_of_n
from unified.apps.conditions import EDGES, GIVEN, SMALL
from unified.apps.conditions import edges as edges_of
from unified.apps.controlled import LARGER, continued, enlarged, given_maps, joined, reading, tiles
from unified.apps.looking import LOOKING, only_list
from unified.apps.masks import in_painting
from unified.apps.pictures import given_as
from unified.apps.questions import Source
from unified.apps.settings import DRAWING, EDITING, another, sampler_of
from unified.backbone.layer_pass import LayerPart
from unified.decoding.guidance import Constant
from unified.decoding.strategies import Strategy, build_strategy
from unified.orders import plan_for
from unified.orders.shapes import Shapes
from unified.stream.message_forms import read_picture
from unified.stream.messages import Message
from unified.tokenizers.images import to_images, to_uint8


class Drawing(Base):
    """Images from words, from an image and words, and under a picture."""

    @overload
    def draw(
        self,
        prompt: str,
        *,
        size: tuple[int, int] | None = ...,
        guidance: float = ...,
        temperature: float = ...,
        tries: int = ...,
        strategy: Strategy | str | None = ...,
        as_pil: Literal[False] = ...,
    ) -> np.ndarray: ...

    @overload
    def draw(
        self,
        prompt: str,
        *,
        size: tuple[int, int] | None = ...,
        guidance: float = ...,
        temperature: float = ...,
        tries: int = ...,
        strategy: Strategy | str | None = ...,
        as_pil: Literal[True],
    ) -> Image: ...

    def draw(
        self,
        prompt: str,
        *,
        size: tuple[int, int] | None = None,
        guidance: float = 1.5,
        temperature: float = 0.0,
        tries: int = TRIES,
        strategy: Strategy | str | None = None,
        as_pil: bool = False,
    ) -> np.ndarray | Image:
        """An image of what the prompt says: by greedy decoding, or with a temperature sampled by the seed.
        `size` (height, width) in pixels defaults to a square of `side`. `tries`: an image of several objects
        is the best of at most so many, with the model as its own judge (`best_of_n`). `strategy`: of
        decoding, or the name of one (`decoding.strategies`); those that compare codes are given the
        tokenizer's codebook. `as_pil`: as an image of Pillow."""
        shapes = self.shapes(size or (self.side, self.side))
        if isinstance(strategy, str):
            strategy = build_strategy(strategy, self.visual.codebook().detach())
        told: dict[str, Any] = {
            "guidance": Constant(guidance),
            "image_sampler": sampler_of(temperature),
            "strategy": strategy,
        }
        settings = replace(DRAWING, **told)
        return given_as(self._drawn(self.request(prompt), settings, None, shapes, tries), as_pil)

    @overload
    def edit(
        self,
        image: Source,
        instruction: str,
        *,
        mask: Source | None = ...,
        guidance: float = ...,
        tries: int = ...,
        as_pil: Literal[False] = ...,
    ) -> np.ndarray: ...

    @overload
    def edit(
        self,
        image: Source,
        instruction: str,
        *,
        mask: Source | None = ...,
        guidance: float = ...,
        tries: int = ...,
        as_pil: Literal[True],
    ) -> Image: ...

    def edit(
        self,
        image: Source,
        instruction: str,
        *,
        mask: Source | None = None,
        guidance: float = 1.5,
        tries: int = TRIES,
        as_pil: bool = False,
    ) -> np.ndarray | Image:
        """The image after the instruction was carried out, of the size that the model read it in; `tries` and
        `as_pil` as in `draw`. `mask`: an image of the same aspect ratio, white where it may change; outside
        the codes stay (in-painting, `masks`)."""
        settings = replace(EDITING, guidance=Constant(guidance))
        if mask is not None:
            settings = replace(settings, hook=in_painting(self.processor, self.picture(image), mask))
        return given_as(self._drawn(self.request(instruction, image), settings, image, None, tries), as_pil)

    def control(
        self,
        prompt: str,
        condition: Source,
        *,
        edges: bool = False,
        guidance: float = 1.5,
        temperature: float = 0.0,
        tries: int = TRIES,
        as_pil: bool = False,
    ) -> np.ndarray | Image:
        """An image of what the prompt says, laid out as a picture shows it: an edge map, a sketch, a depth
        map, or with `edges` the edges of any picture. Needs a loaded control (`load_adapter`), the latest of
        which is taken. The image has the condition's aspect ratio; the other options are those of `draw`."""
        shown = self.picture(condition)
        adapter = self.adapters.control(EDGES) if edges else self.adapters.control(EDGES, GIVEN)
        shown = edges_of(shown) if edges else shown
        shapes, sampler = self.shapes(shown.shape[:2]), sampler_of(temperature)
        settings = replace(DRAWING, guidance=Constant(guidance), image_sampler=sampler, image_only=True)
        parts = [reading(adapter, shown, plan_for(self.processor.order, shapes))]
        return given_as(self._drawn(self.request(prompt), settings, None, shapes, tries, parts), as_pil)

    def upscale(
        self, image: Source, to: int, *, guidance: float = 1.0, temperature: float = 0.0, as_pil: bool = False
    ) -> np.ndarray | Image:
        """The image with a longer side of `to` pixels, drawn under it tile by tile (`controlled`). Needs a
        loaded adapter that reads small pictures (`python -m unified.train upscale`). ValueError for a `to`
        that is no multiple of the tokenizer's stride or not above the image's own longer side."""
        adapter, picture = self.adapters.control(SMALL), to_uint8(to_images(read_picture(image)))[0]
        large = enlarged(picture, to, self.visual.stride)
        factor = to / max(picture.shape[:2])
        sampler = sampler_of(temperature)
        settings = replace(DRAWING, guidance=Constant(guidance), image_sampler=sampler, image_only=True)
        places, found = tiles(large.shape[0], large.shape[1], self.side), []
        for place in places:
            shown = np.ascontiguousarray(large[place.rows, place.columns])
            shapes = self.shapes(shown.shape[:2])
            parts = [reading(adapter, shown, plan_for(self.processor.order, shapes))]
            begun = continued(settings, given_maps(self.processor, shown, shapes, factor))
            found.append(self._drawn(self.request(LARGER), begun, None, shapes, 1, parts))
        return given_as(joined(found, places, large.shape[0], large.shape[1]), as_pil)

    def _drawn(
        self,
        request: list[Message],
        settings: GenerationSettings,
        image: Source | None,
        shapes: Shapes | None,
        tries: int,
        parts: Sequence[LayerPart] = (),
    ) -> np.ndarray:
        def draw(_: Sequence[int], attempt: int) -> list[Content]:
            chosen, seed = another(settings, attempt), self.seed + attempt
            return [self._answer(request, chosen, image, shapes, seed, parts)]

        def look(pictures: Sequence[np.ndarray]) -> list[Content]:
            return [self._answer(only_list(picture), LOOKING, picture) for picture in pictures]

        return images_of(best_of_n(1, draw, look, tries)[0])[-1]
