"""Pictures in whatever form people hold them <-> the float maps that tokenizers read.

PIL images, numpy arrays and torch tensors become float32 [B, 3, H, W] in [-1, 1]. Grey is repeated,
transparency laid over white. What a number means depends on its type: uint8 is 0..255, uint16 0..65535, a
numpy float lies in [0, 1], a torch float in [-1, 1]; numpy holds channels last, torch channels first.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Picture = Image.Image | np.ndarray | Tensor


def to_images(picture: Picture, stride: int = 1, *, resize: bool = False) -> Tensor:
    """One picture or a batch -> float32 [B, 3, H, W] in [-1, 1], H and W multiples of `stride`.

    `resize` scales sides to the nearest multiple; otherwise other sizes are refused. ValueError (one line)
    for anything that is not an image: wrong dtype, number of channels, range, or an empty or non-finite
    array.
    """
    images = _from_torch(picture) if isinstance(picture, Tensor) else _from_numpy(_as_array(picture))
    height, width = images.shape[2:]
    if height % stride == 0 and width % stride == 0:
        return images
    if not resize:
        raise ValueError(f"image of {width} x {height} pixels: both sides must be multiples of {stride}")
    size = [max(stride, round(side / stride) * stride) for side in (height, width)]
    return F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(-1, 1)


def to_uint8(images: Tensor) -> np.ndarray:
    """Float [B, C, H, W], clamped to [-1, 1] -> uint8 [B, H, W, C], rounded to nearest."""
    levels = ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _as_array(picture: Image.Image | np.ndarray) -> np.ndarray:
    if isinstance(picture, np.ndarray):
        return picture
    if not isinstance(picture, Image.Image):
        raise ValueError(
            f"an image is a PIL image, numpy array or torch tensor, got {type(picture).__name__}"
        )
    return _from_pil(picture)


def _from_pil(picture: Image.Image) -> np.ndarray:
    """uint8 or uint16 [H, W] or [H, W, 3 or 4]."""
    if picture.mode.startswith("I"):  # 16-bit PNGs open as I or I;16
        levels = np.asarray(picture).astype(np.int64)
        if levels.size and (levels.min() < 0 or levels.max() > 65535):
            raise ValueError("a 32-bit integer image has no defined range: convert it to 8 or 16 bits")
        return levels.astype(np.uint16)
    if picture.mode == "F":
        raise ValueError("a floating-point PIL image has no defined range: convert it to 8 bits")
    transparent = picture.has_transparency_data
    return np.asarray(picture.convert("RGBA" if transparent else "RGB"))


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
    if array.dtype.kind == "f":
        levels = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        _check_range(levels, 0.0, 1.0, "a numpy float image")
    elif array.dtype in (np.uint8, np.uint16):
        levels = torch.from_numpy(array.astype(np.float32) / np.iinfo(array.dtype).max)
    else:
        raise ValueError(f"a numpy image is uint8, uint16 or float, got {array.dtype}")
    return _to_rgb(levels.permute(0, 3, 1, 2)) * 2 - 1


def _from_torch(tensor: Tensor) -> Tensor:
    """[C, H, W] or [B, C, H, W] with C in 1, 3, 4."""
    batch = tensor[None] if tensor.ndim == 3 else tensor
    if batch.ndim != 4 or batch.shape[1] not in (1, 3, 4):
        raise ValueError(
            f"a torch image is [C, H, W] or [B, C, H, W] with 1, 3 or 4 channels, got {tuple(tensor.shape)}"
        )
    if batch.dtype == torch.uint8:
        return _to_rgb(batch.float() / 255) * 2 - 1
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
        raise ValueError(f"{what} must lie in [{low:g}, {high:g}], got {found}")


def _to_rgb(levels: Tensor) -> Tensor:
    """[B, 1, 3 or 4, H, W] in [0, 1] -> [B, 3, H, W]."""
    if 0 in levels.shape:
        raise ValueError(f"an image needs at least one pixel, got {tuple(levels.shape)}")
    if levels.shape[1] == 1:
        levels = levels.expand(-1, 3, -1, -1)
    if levels.shape[1] == 4:
        colour, alpha = levels[:, :3], levels[:, 3:]
        levels = colour * alpha + (1 - alpha)
    return levels.contiguous()
