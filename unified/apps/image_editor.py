"""The assistants of published models that edit: `unified.load(FOLDER).edit("photo.png", "Make it blue.")`.

Some draw, too; they have no other verb.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from torch import Tensor

from unified.apps.questions import Source
from unified.apps.text_to_image import TextToImage
from unified.stream.message_forms import read_picture
from unified.text_to_image.varedit import ONLY_EDITS
from unified.tokenizers.images import to_images, to_uint8


class ImageEditor(TextToImage):
    """VAREdit (`text_to_image.varedit`). The same call with the same seed gives the same image."""

    def edit(  # type: ignore[override]
        self,
        image: Source,
        instruction: str | Tensor,
        *,
        guidance: float | None = None,
        temperature: float | None = None,
    ) -> np.ndarray:
        """The image uint8 [H, W, 3], in its own size, after the instruction was carried out: words, or
        their features [n, C] by the published text encoder. None: the published settings."""
        settings = self.settings(guidance=guidance, temperature=temperature)
        picture = to_uint8(to_images(read_picture(image)))[0]
        drawer: Any = self.drawer
        edited: np.ndarray = drawer.edit(picture, instruction, settings)
        return edited

    def ask(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: ValueError."""
        raise ValueError(ONLY_EDITS)

    draw = solve = imagine = act = dream = player = chat = picture = request = ask  # type: ignore[assignment]


class DrawingEditor(TextToImage):
    """A published model that draws and edits (UniPic: `text_to_image.harmon`)."""

    def edit(  # type: ignore[override]
        self,
        image: Source,
        instruction: str,
        *,
        guidance: float | None = None,
        temperature: float | None = None,
    ) -> np.ndarray:
        """The image uint8 [H, W, 3], in its own size, after the instruction was carried out. None: the
        published settings."""
        drawer: Any = self.drawer
        settings = drawer.edit_settings(self.settings(guidance=guidance), temperature)
        picture = to_uint8(to_images(read_picture(image)))[0]
        edited: np.ndarray = drawer.edit(picture, instruction, settings)
        return edited

    def ask(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: ValueError."""
        raise ValueError("this model draws what a prompt says and edits pictures: use draw or edit")

    solve = imagine = act = dream = player = chat = picture = request = ask
