"""The header of a .safetensors file, without the libraries that read the rest of it."""

from __future__ import annotations

import json
from pathlib import Path

MOST = 100_000_000  # bytes of a header, as in the format's own reader


def tensor_sizes(path: Path) -> dict[str, list[int]]:
    """The shape of every tensor by name. ValueError for a file that is no whole .safetensors file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(MOST, size - 8):
            raise ValueError("not a readable safetensors file (header)")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    ends = [entry["data_offsets"][1] for entry in header.values()]
    if max(ends, default=0) != size - 8 - length:
        raise ValueError("not a readable safetensors file (it is incomplete)")
    return {name: entry["shape"] for name, entry in header.items()}
