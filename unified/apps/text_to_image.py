"""The assistant of a published text-to-image model: `unified.load(FOLDER).draw("a red cube")`.

It draws, and has no other verb: these models read a condition and write one image.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from unified.backbone.attention import session_attention
from unified.text_to_image.settings import DrawSettings, scalekv
from unified.tokenizers.images import to_uint8

if TYPE_CHECKING:  # every model that is loaded passes by here
    from unified.text_to_image.files import Drawer

ONLY_DRAWS = "this model draws what a prompt says and does nothing else: use draw"


class TextToImage:
    """A published model. The same call with the same seed gives the same image."""

    draws = True

    def __init__(self, drawer: Drawer, *, seed: int = 0, folder: Path | None = None) -> None:
        self.drawer, self.model, self.seed, self.folder = drawer, drawer.model, seed, folder

    def draw(
        self,
        prompt: str,
        *,
        size: tuple[int, int] | None = None,
        guidance: float | None = None,
        temperature: float | None = None,
        scale_kv: int | str | Path | None = None,
    ) -> np.ndarray:
        """An image uint8 [H, W, 3] of a prompt (of models told classes: a number, or a name). None: the
        published settings of the family (`drawer.defaults`). `size`: (height, width) in pixels, one that the
        model was made for. `scale_kv`: while the image is written each layer holds at most so many of its
        codes (`settings.scalekv`: a number, or a file of published budgets). ValueError for a size or a
        prompt that the model does not take."""
        return to_uint8(self.drawer.draw(prompt, self.settings(size, guidance, temperature, scale_kv))[None])[
            0
        ]

    def settings(
        self,
        size: tuple[int, int] | None = None,
        guidance: float | None = None,
        temperature: float | None = None,
        scale_kv: int | str | Path | None = None,
    ) -> DrawSettings:
        """Those of one image."""
        plan, defaults = self.drawer.plan(size), self.drawer.defaults
        if scale_kv is not None and len(plan.shapes) == 1:
            raise ValueError("scale_kv is for models that write an image map by map: this one writes one map")
        sampler = defaults.sampler
        return DrawSettings(
            guidance=defaults.guidance if guidance is None else guidance,
            sampler=sampler if temperature is None else replace(sampler, temperature=temperature),
            seed=self.seed,
            size=size,
            policy=None if scale_kv is None else scalekv(plan, self.drawer.layer_count, scale_kv),
        )

    def ask(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: ValueError."""
        raise ValueError(ONLY_DRAWS)

    edit = solve = imagine = act = dream = player = chat = picture = request = ask

    def describe(self) -> dict[str, Any]:
        """Kind and sizes: plain data."""
        weight = next(self.model.parameters())
        return {
            "folder": str(self.folder),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "family": self.drawer.family,
            **self.drawer.describe(),
            "order": self.drawer.plan().order,
            "maps": [list(shape) for shape in self.drawer.plan().shapes],
            "reads_images": False,
            "draws": True,
            "device": str(weight.device),
            "dtype": str(weight.dtype).removeprefix("torch."),
            "attention": session_attention("sdpa", weight.device, weight.dtype),
        }
