"""Readers: what stands in a READ segment -> its input embeddings. Imports `stream`.

To add one, write a module with a configuration and give it a line in `READERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from unified.readers.codes import CodeReader, CodeReaderConfig
from unified.readers.linear import LinearReader, LinearReaderConfig
from unified.readers.reader import Reader
from unified.readers.soft_codes import SoftCodeReader, SoftCodeReaderConfig
from unified.readers.values import collate_values, read_values, scatter_values
from unified.readers.vision_tower import VisionTowerConfig, VisionTowerReader
from unified.stream.vocabulary import Vocabulary

READERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {  # kind: configuration, module
    "codes": (CodeReaderConfig, CodeReader),
    "linear": (LinearReaderConfig, LinearReader),
    "soft_codes": (SoftCodeReaderConfig, SoftCodeReader),
    "vision_tower": (VisionTowerConfig, VisionTowerReader),
}


def check_readers(readers: Mapping[str, Mapping[str, Any]], vocabulary: Vocabulary) -> None:
    """ValueError, in one line, for a reader of an unknown kind, with options that do not fit, or without a
    placeholder for what it reads."""
    for name, options in readers.items():
        vocabulary.placeholder(name)
        _configured(name, options)


def make_readers(
    readers: Mapping[str, Mapping[str, Any]], width: int, embed: Callable[[Tensor], Tensor]
) -> nn.ModuleDict:
    """The readers of `UnifiedConfig.readers` by the name of what they read. `width`: of the backbone;
    `embed`: codes [...] -> embeddings [..., width], of the head."""
    found = nn.ModuleDict()
    for name, options in readers.items():
        config, build = _configured(name, options)
        found[name] = build(config, width, embed)
    return found


def _configured(name: str, options: Mapping[str, Any]) -> tuple[Any, Callable[..., Any]]:
    kind = options.get("kind")
    if kind not in READERS:
        raise ValueError(f"the reader of {name} has kind {kind!r}: choose one of {', '.join(READERS)}")
    config, build = READERS[kind]
    try:
        return config(**{key: value for key, value in options.items() if key != "kind"}), build
    except (TypeError, ValueError) as error:
        raise ValueError(f"the reader of {name}: {error}") from None


__all__ = [
    "READERS",
    "CodeReader",
    "LinearReader",
    "Reader",
    "SoftCodeReader",
    "VisionTowerReader",
    "check_readers",
    "collate_values",
    "make_readers",
    "read_values",
    "scatter_values",
]
