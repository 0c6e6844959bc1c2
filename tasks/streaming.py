"""A mixture as a Hugging Face `IterableDataset`: the rows that `build` would write, without writing any."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from unified.tasks.mixture import MixtureConfig
from unified.tasks.rows import Row, RowMaker, features

if TYPE_CHECKING:
    from datasets import IterableDataset


def stream(config: MixtureConfig) -> IterableDataset:
    """Rows in the order of `build`, made when asked for. The workers of a `DataLoader` and the processes of
    distributed training share its shards; `shuffle` and resuming by `state_dict` work as usual. (All that
    touches the disk is an empty lock file of `datasets` in its cache.) Raises ValueError at once for a task
    that refuses its options."""
    from datasets import IterableDataset

    text = json.dumps(config.to_json())
    _maker(text)
    sources = {"config": text, "shards": list(range(config.shards))}
    return IterableDataset.from_generator(make_rows, features=features(config.format), gen_kwargs=sources)


def make_rows(config: str, shards: list[int]) -> Iterator[Row]:
    """The rows of some shards; `config` as JSON, so that it travels to other processes."""
    maker = _maker(config)
    for number in shards:
        yield from maker.rows(maker.config.shard_range(number))


@lru_cache(maxsize=2)
def _maker(config: str) -> RowMaker:
    """Kept between shards: a processor or a folder of data is loaded once per process."""
    return RowMaker(MixtureConfig.from_json(json.loads(config)))
