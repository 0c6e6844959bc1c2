"""What a tokenizer does to held-out images while it is trained: PSNR by map, use of codes, and sheets of
reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from unified.tokenizers.clips import clip_pixels
from unified.tokenizers.images import to_uint8
from unified.tokenizers.quantise import usage
from unified.tokenizers.reconstruction import maps_of, reconstruct
from unified.tokenizers.resize import area
from unified.tokenizers.schedules import ladder

GAP = 2  # pixels between tiles
BATCH = 16
SHOWN = 8  # images of a sheet


class Held:
    """Held-out images float [N, 3, (T,) H, W] in [-1, 1], measured whenever it is called. A sheet goes to
    `folder` when `every` steps (0: none) have passed, and at the `last` one."""

    def __init__(self, images: Tensor, folder: Path, every: int, last: int = 0) -> None:
        self.images, self.folder, self.every, self.last = images, folder, every, last
        self.due = every

    def __call__(self, tokenizer: Any, step: int) -> dict[str, Any]:
        """ "validation" for a record: PSNR in dB, its value by map where maps stand for images, use and
        perplexity of codes."""
        device = next(tokenizer.parameters()).device
        found = measured(tokenizer, self.images, device)
        if self.every and (step >= self.due or step == self.last):
            self.due = (step // self.every + 1) * self.every
            self.folder.mkdir(parents=True, exist_ok=True)
            shown = self.images[:SHOWN].to(device)
            sheet(tokenizer, shown).save(self.folder / f"step-{step:07d}.png")
        return {"validation": found}


@torch.no_grad()
def measured(tokenizer: Any, images: Tensor, device: torch.device | str = "cpu") -> dict[str, Any]:
    """PSNR in dB, the mean over images; "maps": by map; usage and perplexity over all ids."""
    values: list[Tensor] = []
    by_map: dict[str, list[Tensor]] = {}
    ids: list[Tensor] = []
    for batch in images.to(device).split(BATCH):
        found = reconstruct(tokenizer, batch)
        values.append(decibels(found.images, batch))
        ids += [item.flatten().cpu() for item in found.ids]
        for name, made in partial(tokenizer, batch).items():
            by_map.setdefault(name, []).append(decibels(made, _like(batch, made)))
    result: dict[str, Any] = {"psnr": float(torch.cat(values).mean()), "images": len(images)}
    if by_map:
        result["maps"] = {name: float(torch.cat(parts).mean()) for name, parts in by_map.items()}
    if ids:
        result["usage"], result["perplexity"] = usage(torch.cat(ids), tokenizer.codes)
    return result


@torch.no_grad()
def partial(tokenizer: Any, images: Tensor) -> dict[str, Tensor]:
    """By map size "HxW" the images that the maps up to it stand for; where any maps will do, of sides that
    double. Empty for a tokenizer without maps."""
    shapes = maps_of(tokenizer, images.shape[-2], images.shape[-1])
    if not hasattr(tokenizer, "partial_images") or not shapes:
        return {}
    if len(shapes) == 1:
        shapes = list(ladder(shapes[0], [2**n for n in range(max(shapes[0]).bit_length())]))
    made = tokenizer.partial_images(tokenizer.encode(images, shapes), shapes)
    return {f"{h}x{w}": part.float().clamp(-1, 1) for (h, w), part in zip(shapes, made, strict=True)}


def decibels(made: Tensor, truths: Tensor) -> Tensor:
    """PSNR [B] of values in [-1, 1]."""
    error = (made.clamp(-1, 1) - truths).square().flatten(1).mean(dim=1) / 4
    return -10 * torch.log10(error.clamp(min=1e-10))


def sheet(tokenizer: Any, images: Tensor) -> Image.Image:
    """A row of images (of clips their frames), and below what they become: of every map but the last, then
    whole."""
    rows = [images]
    rows += [_enlarged(made, images) for made in list(partial(tokenizer, images).values())[:-1]]
    rows.append(reconstruct(tokenizer, images).images)
    return tiled([_tiles(row) for row in rows])


def tiled(rows: Sequence[np.ndarray]) -> Image.Image:
    """Rows of tiles uint8 [n, H, W, 3] of one size, on white."""
    height, width = rows[0].shape[1:3]
    most = max(len(row) for row in rows)
    page = np.full((len(rows) * (height + GAP) - GAP, most * (width + GAP) - GAP, 3), 255, np.uint8)
    for line, row in enumerate(rows):
        for place, tile in enumerate(row):
            top, left = line * (height + GAP), place * (width + GAP)
            page[top : top + height, left : left + width] = tile
    return Image.fromarray(page)


def _tiles(images: Tensor) -> np.ndarray:
    """Of clips the frames of the first two, one after the other."""
    if images.ndim == 5:
        return clip_pixels(images[:2]).reshape(-1, *images.shape[-2:], 3)
    return to_uint8(images)


def _like(images: Tensor, made: Tensor) -> Tensor:
    """The truth at the size of what was made."""
    return images if images.shape == made.shape else area(images, (made.shape[2], made.shape[3]))


def _enlarged(made: Tensor, images: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(made, (images.shape[2], images.shape[3]), mode="nearest")
