"""The folder of a published text-to-image model.

    config.json       "model_type": one of `MODEL_TYPES`; "transformer" and "tokenizer": a released size, or
                      the options of the published constructors; further keys by family (`infinity.py`,
                      `llamagen.py`, `varedit.py`; mar, xar and tokenbridge: `latents.py`; harmon and
                      unipic: `harmon.py`)
    transformer.*     the published weights (.safetensors, .pth, .pt, .bin or .ckpt)
    tokenizer.*       those of the image tokenizer
    text_encoder/     a T5 encoder of `transformers` (config.json, model.safetensors, tokenizer.json), for
                      models told texts; the released ones by google/flan-t5-xl

`"files": {"transformer": NAME, "tokenizer": NAME}` in config.json keeps the published names of the weights,
`"text_encoder"` names another folder, or a model on the hub. Whatever is missing or does not fit raises
ValueError in one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified.checkpoints.state_dict import ENDINGS, read_weights
from unified.text_files import read_object

CONFIG = "config.json"
TEXT_ENCODER = "text_encoder"
MODEL_TYPES = ("infinity", "llamagen", "varedit", "mar", "xar", "tokenbridge", "harmon", "unipic")
KEYS = ("model_type", "transformer", "tokenizer", "files", TEXT_ENCODER)  # of every family
SUFFIXES = (".safetensors", *ENDINGS)


def is_text_to_image(folder: Path) -> bool:
    """Whether a folder's config.json names one of these families."""
    path = Path(folder) / CONFIG
    return path.is_file() and read_object(path).get("model_type") in MODEL_TYPES


@dataclass(frozen=True)
class PublishedFolder:
    """A folder and the content of its config.json."""

    path: Path
    config: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> PublishedFolder:
        """ValueError, in one line, without a usable config.json."""
        folder = cls(Path(path), read_object(Path(path) / CONFIG))
        for name in ("transformer", "tokenizer"):
            if name not in folder.config:
                raise folder.error(f"lacks {name!r}: a released size, or the published options")
        return folder

    def error(self, reason: str) -> ValueError:
        return ValueError(f"{self.path / CONFIG}: {reason}")

    def check_keys(self, *more: str) -> None:
        """ValueError for the first key that is neither one of `KEYS` nor of these."""
        unknown = sorted(set(self.config) - {*KEYS, *more})
        if unknown:
            raise self.error(f"unknown key {unknown[0]!r}: known are {', '.join((*KEYS, *more))}")

    def options(self, name: str, released: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
        """The options under "transformer" or "tokenizer": those of a released size by its name, or as they
        stand there."""
        given = self.config[name]
        if isinstance(given, dict):
            return dict(given)
        if isinstance(given, list) or given not in released:
            sizes = ", ".join(map(str, released))
            raise self.error(f"unknown {name} {given!r:.60}: released are {sizes}; or give its options")
        return dict(released[given])

    def weights(self, name: str) -> dict[str, Any]:
        """The weights of "transformer" or "tokenizer"."""
        files = self.config.get("files", {})
        if not isinstance(files, dict) or not isinstance(files.get(name, ""), str):
            raise self.error("files must map transformer and tokenizer to names of files")
        if files.get(name):
            return read_weights(self.path / files[name])
        found = [self.path / f"{name}{suffix}" for suffix in SUFFIXES]
        path = next((path for path in found if path.is_file()), None)
        if path is None:
            raise ValueError(
                f"{self.path}: no weights of the {name}: put {name}.safetensors (or {', '.join(ENDINGS)}) "
                f'there, or name the file in {CONFIG}: "files": {{"{name}": ...}}'
            )
        return read_weights(path)
