"""A data set on disk: what lies in its folder, and how it is opened.

README.md                            dataset card
config.json                          the mixture with its seed, written first
data/train-00000-of-00002.parquet    the rows
manifest.json                        rows, size and hash of every file, written last: the mark of completion
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unified.tasks.mixture import MixtureConfig
from unified.tasks.packing import unpack
from unified.tasks.rows import COLUMNS
from unified.tasks.sample import Sample

from unified import __version__
from unified.text_files import content_of, read_object

if TYPE_CHECKING:
    from datasets import Dataset

CONFIG, MANIFEST, CARD, DATA = "config.json", "manifest.json", "README.md", "data"


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """One finished file: its path in the folder, rows, size in bytes and SHA-256."""

    file: str
    rows: int
    bytes: int
    sha256: str


def shard_name(config: MixtureConfig, number: int) -> str:
    return f"{DATA}/{config.split}-{number:05d}-of-{config.shards:05d}.parquet"


def read_manifest(folder: str | Path) -> list[ShardFile]:
    """The files of a complete data set. Raises ValueError, in one line, for a folder that is none, is half
    written, or lacks a file or a part of one."""
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder}: not a data set of unified.tasks ({CONFIG} is missing)")
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder}: half-written data set: run the same build again to complete it")
    with content_of(folder / MANIFEST):
        shards = [ShardFile(**entry) for entry in read_object(folder / MANIFEST)["shards"]]
        if not all(isinstance(shard.file, str) for shard in shards):
            raise ValueError("a shard has no file name")
    for shard in shards:
        path = folder / shard.file
        if not path.is_file():
            raise ValueError(f"{folder}: {shard.file} is missing: remove {MANIFEST} and build again")
        if path.stat().st_size != shard.bytes:
            raise ValueError(f"{folder}: {shard.file} is damaged: remove it and {MANIFEST} and build again")
    return shards


def read_mixture(folder: str | Path) -> MixtureConfig:
    """The configuration that a data set was made from."""
    with content_of(Path(folder) / CONFIG):
        return MixtureConfig.from_json(read_object(Path(folder) / CONFIG)["config"])


def read_dataset(folder: str | Path) -> Dataset:
    """A complete data set as a `datasets.Dataset`, its images decoded when asked for. Raises ValueError as
    `read_manifest` does."""
    from datasets import Dataset

    folder = Path(folder)
    return Dataset.from_parquet([str(folder / shard.file) for shard in read_manifest(folder)])


def read_samples(folder: str | Path) -> Iterator[Sample]:
    """The samples of a complete data set of messages, one after the other, in constant memory. Raises
    ValueError as `read_manifest` does, and for a data set of ids."""
    import pyarrow.parquet as parquet

    folder = Path(folder)
    for shard in read_manifest(folder):
        file = parquet.ParquetFile(folder / shard.file)
        if "messages" not in file.schema_arrow.names:
            raise ValueError(f"{folder}: holds ids, not messages")
        for batch in file.iter_batches(batch_size=64):
            yield from map(unpack, batch.to_pylist())


def config_text(config: MixtureConfig, first_row: str) -> str:
    """The content of config.json. `first_row`: hash of row 0, to notice that the generators changed."""
    data = {"made_by": f"unified {__version__}", "fingerprint": config.fingerprint(), "first_row": first_row}
    return json.dumps({**data, "config": config.to_json()}, indent=2, ensure_ascii=False) + "\n"


def manifest_text(config: MixtureConfig, shards: list[ShardFile]) -> str:
    data = {"fingerprint": config.fingerprint(), "shards": [vars(shard) for shard in shards]}
    return json.dumps(data, indent=2) + "\n"


def card_text(config: MixtureConfig, shards: list[ShardFile]) -> str:
    """The dataset card: a YAML header that `load_dataset` understands, then what is inside."""
    parts = "\n".join(
        f"| `{part.task}` | {part.weight:g} | {json.dumps(dict(part.options)) if part.options else ''} |"
        for part in config.parts
    )
    columns = ", ".join(f"`{name}`" for name in COLUMNS[config.format])
    return CARD_TEMPLATE.format(
        split=config.split,
        data=DATA,
        rows=f"{sum(shard.rows for shard in shards):,}",
        size=f"{sum(shard.bytes for shard in shards) / 1e6:,.1f} MB",
        seed=config.seed,
        columns=columns,
        parts=parts,
        version=__version__,
    )


CARD_TEMPLATE = """---
pretty_name: Mixture of unified.tasks
tags:
- synthetic
configs:
- config_name: default
  data_files:
  - split: {split}
    path: {data}/{split}-*.parquet
---

# Mixture of unified.tasks

{rows} samples of the split `{split}` ({size}), made from the seed {seed} by unified {version}. The same
`config.json` gives the same bytes: `python -m unified.tasks build CONFIG OUT` with its "config".

Columns: {columns}.

| task | weight | options |
|---|---|---|
{parts}

```python
from datasets import load_dataset

rows = load_dataset("path/to/this/folder", split="{split}")
```
"""
