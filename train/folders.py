"""Tokenizers as folders, with the file names that a finished model's folder uses (`unified.pretrained`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unified.tokenizers.action import ActionTokenizer
from unified.tokenizers.kl import KLTokenizer
from unified.tokenizers.reconstruction import line_of
from unified.tokenizers.text import byte_tokenizer, load_text_tokenizer
from unified.train.stored import write_text

from unified.checkpoints.latent_tokenizer import is_diffusers, of_diffusers, of_kl
from unified.stream.migration import migrated
from unified.stream.processor import Processor
from unified.stream.visual_files import VISUAL_CONFIG, save_visual
from unified.stream.visual_files import load_visual as load_stored
from unified.stream.vocabulary import Vocabulary
from unified.text_files import content_of, read_object

TEXT = "text_tokenizer.json"

__all__ = [
    "TEXT",
    "VISUAL_CONFIG",
    "bytes_or",
    "load_text",
    "load_visual",
    "make_processor",
    "save_text",
    "save_visual",
    "vocabulary_of",
]


def save_text(tokenizer: Any, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / TEXT
    write_text(path, tokenizer.backend_tokenizer.to_str())
    return path


def load_text(folder: str | Path) -> Any:
    """The text tokenizer in a folder: ours, or that of a model of transformers (`tokenizer.json`)."""
    folder = Path(folder)
    for name in (TEXT, "tokenizer.json"):
        if (folder / name).is_file():
            return load_text_tokenizer(folder / name)
    raise FileNotFoundError(f"no {TEXT} in {folder}: train it with `python -m unified.train text_tokenizer`")


def load_visual(folder: str | Path) -> Any:
    """The visual tokenizer in a folder, of any kind, frozen. A continuous one, of the kind `kl` or a folder
    of diffusers' AutoencoderKL, becomes one of latents."""
    folder = Path(folder)
    if is_diffusers(folder):
        return of_diffusers(folder)
    if not (folder / VISUAL_CONFIG).is_file():
        remedy = "train it with `python -m unified.train visual_tokenizer` or `tokenizer`"
        raise FileNotFoundError(f"no {VISUAL_CONFIG} in {folder}: {remedy}")
    found = load_stored(folder)
    return of_kl(found) if isinstance(found, KLTokenizer) else found


def make_processor(
    text: Any,
    visual: Any,
    *,
    sides: tuple[int, ...],
    max_side: int,
    merge: int = 0,
    frame_sides: tuple[int, ...] | None = None,
    like: Vocabulary | None = None,
    order: str = "",
) -> Processor:
    """The processor of these tokenizers and the default actions, with the vocabulary that fits them. `like`:
    that of a model to train on from, whose special and appended ids stay what they are. `order`: in which
    images are written, "" for the tokenizer's own (`natural_order`)."""
    action = ActionTokenizer()
    known: dict[str, Any] = {}
    if like is not None:
        known = {"orders": like.orders, "appended": like.tail, "named": like.named}
    words = Vocabulary(
        text=len(text),
        visual=visual.codes,
        action=action.size,
        action_slots=action.slots,
        max_side=max_side,
        merge=merge,
        **known,
    )
    order = order or natural_order(visual)
    if order not in words.order_names:
        words = words.extended(f"order:{order}")
    return Processor(words, text, visual, action, order=order, sides=sides, frame_sides=frame_sides)


def natural_order(visual: Any) -> str:
    """The order in which the codes of a tokenizer are written unless another is asked for: a line code by
    code, maps that add up one after the other, others by next-scale prediction."""
    if line_of(visual):
        return "raster"
    return "residual" if len(visual.read_shapes([(1, 1), (2, 2)])) > 1 else "next_scale"


def vocabulary_of(folder: str | Path) -> Vocabulary | None:
    """That of a saved model, or None where a folder holds weights alone."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        return None
    with content_of(path):
        return Vocabulary(**migrated(read_object(path))["vocabulary"])


def bytes_or(folder: str | Path) -> Any:
    """The text tokenizer "bytes", or that of a folder."""
    return byte_tokenizer() if str(folder) == "bytes" else load_text(folder)
