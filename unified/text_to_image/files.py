"""Loading any of the families."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from unified.orders import Plan
from unified.text_to_image import harmon, infinity, latents, llamagen, varedit
from unified.text_to_image.folder import PublishedFolder
from unified.text_to_image.settings import DrawSettings


class Drawer(Protocol):
    """A published model that draws what a prompt says."""

    family: str
    model: Any
    defaults: DrawSettings

    @property
    def layer_count(self) -> int: ...

    def plan(self, size: tuple[int, int] | None = None) -> Plan:
        """Of an image of (height, width) pixels; ValueError for a size that the model does not draw."""
        ...

    def draw(self, prompt: str, settings: DrawSettings) -> Tensor:
        """[3, H, W] in [-1, 1], not clamped."""
        ...

    def describe(self) -> dict[str, Any]:
        """Sizes: plain data."""
        ...


LOADERS: dict[str, Callable[..., Drawer]] = {
    "infinity": infinity.load,
    "llamagen": llamagen.load,
    "varedit": varedit.load,
    **dict.fromkeys(latents.FAMILIES, latents.load),
    **dict.fromkeys(harmon.SIDES, harmon.load),
}


def load_drawer(
    folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Drawer:
    """The model of a folder (`folder.py`), in eval mode. ValueError, in one line, for what is missing or does
    not fit."""
    found = PublishedFolder.read(folder)
    return LOADERS[found.config["model_type"]](found, device=device, dtype=dtype)
