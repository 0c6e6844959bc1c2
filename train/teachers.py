"""Teachers: functions from images [B, 3, H, W] in [-1, 1] to maps of features [B, C, h, w], by name.

    transformers:FOLDER     a vision transformer of transformers on this machine (DINOv2, CLIP, SigLIP, ...)
    module:function         a function of one's own, which is imported

For the semantic regularisation of GigaTok and the vision features of Hita.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Teacher = Callable[[Tensor], Tensor]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, where a folder names none


def teacher_of(name: str, device: torch.device | str = "cpu") -> Teacher:
    """ValueError, in one line, for a name of neither form, or one that leads nowhere."""
    form, sign, rest = name.partition(":")
    if not sign or not rest:
        raise ValueError(f"features are transformers:FOLDER or module:function, got {name!r}")
    if form == "transformers":
        return VisionTransformer(Path(rest), device)
    try:
        found: Teacher = getattr(import_module(form), rest)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name}: {error}") from None
    if not callable(found):
        raise ValueError(f"{name} is no function of images")
    return found


def channels_of(teacher: Teacher, images: Tensor) -> int:
    """How many it gives for these images. ValueError unless they are a map."""
    with torch.no_grad():
        found = teacher(images)
    if not isinstance(found, Tensor) or found.ndim != 4 or len(found) != len(images):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"features must be maps [B, C, h, w], got {shape}")
    return found.shape[1]


class VisionTransformer:
    """The last hidden states of the patches of a vision transformer, at the size it was made for. What stands
    before the patches (a class token, registers) is left out."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        from transformers import AutoModel

        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; features are not downloaded")
        model: Any = AutoModel.from_pretrained(folder)
        model = getattr(model, "vision_model", model)
        self.model = model.to(device).eval().requires_grad_(False)
        self.size, self.patch = _whole(model.config.image_size), _whole(model.config.patch_size)
        self.mean, self.deviation = _statistics(folder)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        side = self.size // self.patch
        shape = (side * self.patch, side * self.patch)
        resized = F.interpolate(images.float(), shape, mode="bicubic", antialias=True).clamp(-1, 1)
        mean, deviation = (
            torch.tensor(values, device=images.device)[:, None, None]
            for values in (self.mean, self.deviation)
        )
        states = self.model(pixel_values=((resized + 1) / 2 - mean) / deviation).last_hidden_state
        patches = states[:, states.shape[1] - side * side :]
        return patches.transpose(1, 2).unflatten(2, (side, side))


def _statistics(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    from unified.text_files import read_object

    path = folder / "preprocessor_config.json"
    found = read_object(path) if path.is_file() else {}
    return tuple(found.get("image_mean", MEAN)), tuple(found.get("image_std", DEVIATION))


def _whole(size: Any) -> int:
    """A side that may be given as a pair."""
    return int(size[0] if isinstance(size, list | tuple) else size)
