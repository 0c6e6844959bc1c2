"""Loading: a folder, a hub name or the shipped weights -> an assistant of the kind that the model is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from unified.apps.assistant import Assistant
from unified.precision import fast_bf16


def load(
    model: str | Path | None = None,
    *,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    revision: str | None = None,
    attn_implementation: str = "sdpa",
    **placement: Any,
) -> Any:
    """The model of a folder or of a hub name, or the one that ships with the package: an `Assistant`, an
    `ImageTextAssistant` for a model of `transformers`, an `ExtendedAssistant` for one that was extended, a
    `DrawingAssistant` for VARGPT-v1.1, or, for a published model (`text_to_image.folder`), a `TextToImage`
    that draws or an `ImageEditor` that edits. `device` None: a GPU if there is one; `dtype` None: bfloat16
    there and on CPUs that multiply it natively, float32 on others. `revision`: of a hub name.
    `attn_implementation`: sdpa, flash_attention_2, or for our own models flex_attention (whole batches).
    `placement`, for models of `transformers`: `device_map` and `load_in_4bit` (`vision_language.files`).
    ValueError, in one line, if there is no such model or a file is missing or damaged."""
    from unified.checkpoints.folder import holds_vargpt
    from unified.pretrained import find, load_core
    from unified.text_to_image.folder import is_text_to_image
    from unified.vision_language.kind import is_pretrained

    place = _device(device)
    folder = find(model, revision)
    if is_pretrained(folder):
        from unified.apps.image_text import ImageTextAssistant
        from unified.vision_language.files import load_pretrained

        placement |= {"attn_implementation": attn_implementation}
        reader, words = load_pretrained(folder, device=place, dtype=_dtype(dtype, place), **placement)
        return ImageTextAssistant(reader, words, seed=seed, folder=folder)
    if holds_vargpt(folder) and not placement:
        from unified.apps.vargpt import load_vargpt

        _check_sdpa(attn_implementation)
        return load_vargpt(folder, device=place, dtype=_dtype(dtype, place), seed=seed)
    if placement:
        raise ValueError(f"{', '.join(placement)}: for models of transformers alone")
    if is_text_to_image(folder):
        from unified.apps.text_to_image import TextToImage
        from unified.text_to_image.files import load_drawer

        _check_sdpa(attn_implementation)
        drawer = load_drawer(folder, device=place, dtype=_dtype(dtype, place))
        if hasattr(drawer, "edit"):
            from unified.apps.image_editor import DrawingEditor, ImageEditor

            kind = DrawingEditor if getattr(drawer, "draws", False) else ImageEditor
            return kind(drawer, seed=seed, folder=folder)
        return TextToImage(drawer, seed=seed, folder=folder)
    loaded, processor = load_core(folder, device=place, dtype=_dtype(dtype, place))
    loaded.set_attn_implementation(attn_implementation)
    if loaded.config.base:
        from unified.apps.extended import extended_assistant

        return extended_assistant(loaded, processor, seed=seed, folder=folder)
    return Assistant(loaded.fuse(), processor, seed=seed, folder=folder)


def _check_sdpa(attn_implementation: str) -> None:
    if attn_implementation != "sdpa":
        raise ValueError(f"this model attends by sdpa, got attn_implementation {attn_implementation!r}")


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ValueError(f"device {name!r} is not available here: use {' or '.join(there)}") from None
    return device


def _dtype(name: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    if isinstance(name, torch.dtype):
        return name
    if name is None:
        return torch.bfloat16 if fast_bf16(device) else torch.float32
    found = getattr(torch, name, None)
    if found not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"unknown dtype {name!r}: use float32, bfloat16 or float16")
    return found
