"""A visual tokenizer as files: its kind and configuration, and its weights.

    visual_config.json       {"kind": NAME of `tokenizers.kinds`, and the configuration}
    visual.safetensors       the weights; "weights" in the configuration names another file

A codebook that a network generates is saved as a plain table with the same rows. Whatever is missing or does
not fit raises ValueError in one line that names the file.
"""

from __future__ import annotations

import json
import typing
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from unified.file_names import VISUAL_WEIGHTS
from unified.text_files import content_of, read_object
from unified.tokenizers.codebook import export
from unified.tokenizers.kinds import kind_name, kind_of
from unified.weight_files import built

VISUAL_CONFIG = "visual_config.json"


def load_visual(folder: str | Path, name: str = VISUAL_CONFIG) -> Any:
    """The visual tokenizer of a folder, of any kind, frozen. ValueError, in one line, for what is missing or
    malformed."""
    folder = Path(folder)
    path = folder / name
    data = read_json(path)
    kind_given = data.pop("kind", "vq")
    try:
        kind = kind_of(kind_given)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    with content_of(path):
        weights = folder / data.pop("weights", VISUAL_WEIGHTS)
        settings = dataclass_of(kind.config, data)

    def build() -> Any:
        with content_of(path):
            return kind.build(settings)

    return built(build, weights, change=kind.change).eval().requires_grad_(False)


def save_visual(tokenizer: Any, folder: str | Path) -> None:
    """Configuration and weights; the configuration is written last. ValueError for a tokenizer of no
    registered kind."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kind = kind_name(tokenizer)
    plain = export(tokenizer) if hasattr(tokenizer.config, "codebook") else tokenizer
    state = {name: compact(value) for name, value in plain.state_dict().items()}
    partial = folder / f"{VISUAL_WEIGHTS}.part"
    save_file(state, partial, metadata={"format": "pt"})
    partial.replace(folder / VISUAL_WEIGHTS)
    write_json(folder / VISUAL_CONFIG, {"kind": kind, **asdict(plain.config)})


def compact(value: torch.Tensor) -> torch.Tensor:
    """A tensor to be stored: in bfloat16 if no bit is lost by it, otherwise as it is."""
    value = value.detach().cpu().contiguous()
    half = value.bfloat16()
    return half if value.dtype == torch.float32 and torch.equal(half.float(), value) else value


def dataclass_of(kind: Any, data: Any) -> Any:
    """A configuration from plain data, parts within parts; lists stand for tuples."""
    if not isinstance(data, dict):
        raise ValueError(f"{kind.__name__} must be an object, got {type(data).__name__}")
    hints, values = typing.get_type_hints(kind), {}
    for name, value in data.items():
        parts = [hint for hint in (hints.get(name), *typing.get_args(hints.get(name))) if is_dataclass(hint)]
        if parts and (value is not None or type(None) not in typing.get_args(hints[name])):
            value = dataclass_of(parts[0], value)
        values[name] = _tuples(value)
    return kind(**values)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    return read_object(path)


def write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
