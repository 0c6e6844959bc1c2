"""Writing a safetensors file one tensor at a time: `safetensors.torch.save_file` wants them all in memory."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.bool: "BOOL",
}


@dataclass(frozen=True, eq=False)
class Entry:
    """A tensor to be written: `bytes` gives its parts when their turn comes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    parts: Callable[[], Iterable[memoryview]]

    @staticmethod
    def of(value: Tensor, dtype: torch.dtype | None = None) -> Entry:
        """Of a tensor, numbers with a fraction as `dtype`, if given."""
        kept = dtype if dtype is not None and value.is_floating_point() else value.dtype
        return Entry(kept, tuple(value.shape), lambda: [as_bytes(value.to(kept))])

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def as_bytes(value: Tensor) -> memoryview:
    """The elements of a tensor in order, not copied where they lie so."""
    flat = value.detach().cpu().contiguous().flatten()
    data: Any = flat.view(torch.uint8).numpy() if flat.numel() else b""
    return memoryview(data)


def write_tensors(path: Path, entries: Mapping[str, Entry]) -> None:
    """A safetensors file, there whole or not at all."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, entry in entries.items():
        stop = start + entry.size
        header[name] = {
            "dtype": NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(f"{path.name}.part")
    with partial.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for entry in entries.values():
            for part in entry.parts():
                file.write(part)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
