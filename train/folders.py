"""Tokenizers as folders, with the file names that a finished model's folder uses (`unified.pretrained`)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from unified.tokenizers.action import ActionTokenizer
from unified.tokenizers.codebook import CodebookConfig, export
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.text import byte_tokenizer, load_text_tokenizer
from unified.tokenizers.vq import VQConfig, VQTokenizer
from unified.train.stored import write_text

from unified.stream.migration import migrated
from unified.stream.processor import Processor
from unified.stream.processor_files import compact
from unified.stream.vocabulary import Vocabulary
from unified.text_files import content_of, read_object

TEXT, VISUAL_CONFIG, VISUAL = "text_tokenizer.json", "visual_config.json", "visual.safetensors"


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


def save_visual(tokenizer: VQTokenizer, folder: Path) -> None:
    """Config and weights; a codebook of shared weights becomes a plain table. The config is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = export(tokenizer)
    partial = folder / f"{VISUAL}.part"
    save_file({name: compact(value) for name, value in plain.state_dict().items()}, partial)
    partial.replace(folder / VISUAL)
    write_text(folder / VISUAL_CONFIG, json.dumps({"kind": "vq", **asdict(plain.config)}, indent=2) + "\n")


def load_visual(folder: str | Path) -> VQTokenizer:
    folder = Path(folder)
    if not (folder / VISUAL_CONFIG).is_file():
        remedy = "train it with `python -m unified.train visual_tokenizer`"
        raise FileNotFoundError(f"no {VISUAL_CONFIG} in {folder}: {remedy}")
    with content_of(folder / VISUAL_CONFIG):
        tokenizer = VQTokenizer(vq_config(read_object(folder / VISUAL_CONFIG)))
    with content_of(folder / VISUAL):
        tokenizer.load_state_dict(load_file(folder / VISUAL))
    return tokenizer.eval().requires_grad_(False)


def vq_config(data: dict[str, Any]) -> VQConfig:
    """A `VQConfig` from the object of its JSON file."""
    data = {name: value for name, value in data.items() if name != "kind"}
    parts = {name: _network(data[name]) for name in ("encoder", "decoder") if data.get(name)}
    return VQConfig(**{**data, **parts, "codebook": CodebookConfig(**data["codebook"])})


def _network(data: dict[str, Any]) -> NetworkConfig:
    return NetworkConfig(**{**data, "multipliers": tuple(data["multipliers"])})


def make_processor(
    text: Any,
    visual: VQTokenizer,
    *,
    sides: tuple[int, ...],
    max_side: int,
    merge: int = 0,
    frame_sides: tuple[int, ...] | None = None,
    like: Vocabulary | None = None,
) -> Processor:
    """The processor of these tokenizers and the default actions, with the vocabulary that fits them. `like`:
    that of a model to train on from, whose special and appended ids stay what they are."""
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
    return Processor(words, text, visual, action, sides=sides, frame_sides=frame_sides)


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
