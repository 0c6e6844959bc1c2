"""Pictures in whatever form people hold them <-> the float maps that tokenizers read.

PIL images, numpy arrays and torch tensors become float32 [B, 3, H, W] in [-1, 1]. Grey is repeated,
transparency laid over white. What a number means depends on its type: uint8 is 0..255, uint16 0..65535
(rounded to 8 bits, as in files), a numpy float lies in [0, 1], a torch float in [-1, 1]; numpy holds channels
last, torch channels first. PIL images are read as files are, which are given by their path or their bytes
(`tokenizers.picture_files`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from unified.tokenizers.picture_files import (
    READ_PIXELS,
    gather,
    high_byte,
    open_picture,
    over_white,
    to_pixels,
)

Picture = Image.Image | np.ndarray | Tensor | bytes | Path
Size = tuple[int, int]  # height, width

FLOAT_PIXELS = 2**21  # of an image that is resized in floats; larger ones are resized in 8 bits


def to_images(picture: Picture, stride: int = 1, *, resize: bool = False) -> Tensor:
    """One picture or a batch -> float32 [B, 3, H, W] in [-1, 1], H and W multiples of `stride`.

    `resize` scales sides to the nearest multiple; otherwise other sizes are refused. ValueError (one line)
    for anything that is not an image: wrong dtype, number of channels, range, or an empty or non-finite
    array. A PIL image of more than `READ_PIXELS` pixels is read at reduced size; an array of more is refused
    (`resized` takes both).
    """
    given = picture if isinstance(picture, Tensor) else _as_array(picture)
    if math.prod(given.shape[-3:]) > 4 * READ_PIXELS:
        raise ValueError(f"an array of shape {tuple(given.shape)} has too many pixels: scale it down")
    images = _from_torch(given) if isinstance(given, Tensor) else _from_numpy(given)
    height, width = images.shape[2:]
    if height % stride == 0 and width % stride == 0:
        return images
    if not resize:
        raise ValueError(f"image of {width} x {height} pixels: both sides must be multiples of {stride}")
    return _interpolated(images, bounded(height, width, stride))


def resized(picture: Picture, size: Callable[[int, int], Size]) -> Tensor:
    """One picture at the size (height, width) that `size` makes of its own: float32 [1, 3, h, w] in [-1, 1],
    bicubic with antialiasing. No copy of a large picture is made in floats. ValueError as in `to_images`, and
    for a batch of more than one."""
    image = _modest(picture)
    height, width = image.shape[1:3] if isinstance(image, np.ndarray) else image.shape[2:]
    wanted = size(height, width)
    if height * width <= FLOAT_PIXELS or wanted == (height, width):
        images = to_images(image)
        return images if wanted == (height, width) else _interpolated(images, wanted)
    pixels = Image.fromarray(np.asarray(image[0])).resize(wanted[::-1], Image.Resampling.BICUBIC)
    return to_images(np.asarray(pixels))


def bounded(
    height: float, width: float, stride: int, *, most_side: int | None = None, max_pixels: int | None = None
) -> Size:
    """The size nearest to (height, width) whose sides are multiples of `stride`, none above `most_side` and
    their product not above `max_pixels`, the aspect ratio nearly kept. `most_side` must be a multiple of
    `stride`, `max_pixels` at least its square."""
    scale = min(1.0, (most_side or math.inf) / max(height, width))
    scale = min(scale, math.sqrt((max_pixels or math.inf) / (height * width)))
    sides = [max(stride, round(side * scale / stride) * stride) for side in (height, width)]
    if max_pixels is not None and math.prod(sides) > max_pixels:
        longer, shorter = sides.index(max(sides)), min(sides)
        sides[longer] = max_pixels // shorter // stride * stride
    return sides[0], sides[1]


def to_uint8(images: Tensor) -> np.ndarray:
    """Float [B, C, H, W], clamped to [-1, 1] -> uint8 [B, H, W, C], rounded to nearest."""
    levels = images.detach().float().clamp(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _as_array(picture: Image.Image | np.ndarray | bytes | Path) -> np.ndarray:
    if isinstance(picture, np.ndarray):
        return picture
    if isinstance(picture, bytes | Path):
        return open_picture(picture).image
    if not isinstance(picture, Image.Image):
        raise ValueError(
            f"an image is a PIL image, numpy array or torch tensor, got {type(picture).__name__}"
        )
    return to_pixels(picture)


def _modest(picture: Picture) -> np.ndarray | Tensor:
    """One picture as a batch of one, uint8 and of at most about `READ_PIXELS` pixels if it is large."""
    given = picture if isinstance(picture, Tensor) else _as_array(picture)
    first = isinstance(given, Tensor)  # channels
    if not first and given.ndim == 2:
        given = given[:, :, None]
    batch = given[None] if given.ndim == 3 else given
    if batch.ndim != 4 or 0 in batch.shape:
        to_images(batch)  # raises: it is no image
    if len(batch) != 1:
        raise ValueError(f"one image at a time, got a batch of {len(batch)}")
    height, width = batch.shape[2:] if first else batch.shape[1:3]
    plain = not first and batch.dtype == np.uint8 and batch.shape[3] == 3
    if height * width <= (READ_PIXELS if plain else FLOAT_PIXELS):
        return batch

    def crop(top: int, bottom: int, left: int, right: int) -> Image.Image:
        rows, columns = slice(top, bottom), slice(left, right)
        tile = batch[:, :, rows, columns] if isinstance(batch, Tensor) else batch[:, rows, columns]
        return Image.fromarray(to_uint8(to_images(tile))[0])

    return gather(crop, height, width)[None]


def _interpolated(images: Tensor, size: Size) -> Tensor:
    return F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(-1, 1)


def _from_numpy(array: np.ndarray) -> Tensor:
    """[H, W], [H, W, C] or [B, H, W, C] with C in 1, 3, 4; a batch of grey images needs its channel axis."""
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[3] not in (1, 3, 4):
        raise ValueError(
            f"a numpy image is [H, W], [H, W, C] or [B, H, W, C] with 1, 3 or 4 channels, got {array.shape}"
        )
    if array.dtype == np.uint16:
        array = high_byte(array)
    if array.dtype == np.uint8:
        return _from_uint8(array)
    if array.dtype.kind == "f":
        levels = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        _check_range(levels, 0.0, 1.0, "a numpy float image")
    else:
        raise ValueError(f"a numpy image is uint8, uint16 or float, got {array.dtype}")
    return _to_rgb(levels.permute(0, 3, 1, 2)) * 2 - 1


def _from_uint8(array: np.ndarray) -> Tensor:
    """uint8 [B, H, W, 1, 3 or 4]."""
    _check_pixels(array.shape)
    if array.shape[3] == 4:
        array = over_white(array)
    levels = torch.from_numpy(array.transpose(0, 3, 1, 2).astype(np.float32, order="C"))
    return levels.div_(255).mul_(2).sub_(1).expand(-1, 3, -1, -1).contiguous()


def _from_torch(tensor: Tensor) -> Tensor:
    """[C, H, W] or [B, C, H, W] with C in 1, 3, 4."""
    batch = tensor[None] if tensor.ndim == 3 else tensor
    if batch.ndim != 4 or batch.shape[1] not in (1, 3, 4):
        raise ValueError(
            f"a torch image is [C, H, W] or [B, C, H, W] with 1, 3 or 4 channels, got {tuple(tensor.shape)}"
        )
    if batch.dtype == torch.uint8:
        return _from_numpy(batch.permute(0, 2, 3, 1).cpu().numpy()).to(batch.device)
    if not batch.is_floating_point():
        raise ValueError(f"a torch image is uint8 or float, got {batch.dtype}")
    batch = batch.float()
    _check_range(batch, -1.0, 1.0, "a torch float image")
    return batch if batch.shape[1] == 3 else _to_rgb((batch + 1) / 2) * 2 - 1


def _check_range(values: Tensor, low: float, high: float, what: str) -> None:
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{what} must be finite")
    if values.numel() and not low - 1e-3 <= float(values.min()) <= float(values.max()) <= high + 1e-3:
        found = f"{float(values.min()):.4g} to {float(values.max()):.4g}"
        bytes_held = float(values.min()) >= 0 and float(values.max()) <= 255
        remedy = ": give levels of 0 to 255 as uint8" if bytes_held else ""
        raise ValueError(f"{what} must lie in [{low:g}, {high:g}], got {found}{remedy}")


def _to_rgb(levels: Tensor) -> Tensor:
    """[B, 1, 3 or 4, H, W] in [0, 1] -> [B, 3, H, W]."""
    _check_pixels(levels.shape)
    if levels.shape[1] == 1:
        levels = levels.expand(-1, 3, -1, -1)
    if levels.shape[1] == 4:
        colour, alpha = levels[:, :3], levels[:, 3:]
        levels = colour * alpha + (1 - alpha)
    return levels.contiguous()


def _check_pixels(shape: Sequence[int]) -> None:
    if 0 in shape:
        raise ValueError(f"an image needs at least one pixel, got {tuple(shape)}")
