"""A mixture of tasks: which task makes sample i, decided by the seed alone.

    {"seed": 0, "split": "train", "size": 1000, "format": "messages",
     "parts": [{"task": "scene_caption", "weight": 2, "options": {"size": 64}}, {"task": "maze"}]}

Every part gets the indices 0, 1, 2, ... in turn, so no sample of a part is used twice and none is left out;
prefixes of a longer mixture with the same parts are equal. A part without a `seed` option has that of the
mixture plus its place.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from unified.tasks.registry import TASKS, check_options, make, option_names
from unified.tasks.sample import Sample, check_split

from unified.text_files import at_home, read_json

MOST_SAMPLES = 10**9  # the order of all of them is held in memory
FORMATS = ("messages", "ids")
_CHOICE_STREAM = 0x6D6978  # keeps the choice of parts apart from the samples' own generators


@dataclass(frozen=True, kw_only=True)
class Part:
    """One task of a mixture with its share."""

    task: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.task, str) or self.task not in TASKS:
            raise ValueError(f"unknown task {self.task!r:.60}: choose one of {', '.join(sorted(TASKS))}")
        number = isinstance(self.weight, int | float) and not isinstance(self.weight, bool)
        if not number or not math.isfinite(self.weight) or self.weight <= 0:
            raise ValueError(f"weight must be a positive number, got {self.weight!r}")
        if not isinstance(self.options, Mapping):
            raise ValueError(f"options must be an object, got {type(self.options).__name__}")
        check_options(self.task, self.options)


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """`size` samples of one split; `shard`: samples per file. `format` "ids" needs `processor`, the name
    "module:function" of a function without arguments that returns a `unified.stream.processor.Processor`."""

    parts: tuple[Part, ...]
    seed: int = 0
    split: str = "train"
    size: int = 1000
    format: str = "messages"
    processor: str | None = None
    shard: int = 500

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("size", 1), ("shard", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if self.size > MOST_SAMPLES:
            raise ValueError(
                f"size must be at most {MOST_SAMPLES}, got {self.size!r:.60}: build several mixtures"
            )
        check_split(self.split)
        if self.format not in FORMATS:
            raise ValueError(f"unknown format {self.format!r}: choose one of {', '.join(FORMATS)}")
        if (self.format == "ids") != (self.processor is not None):
            raise ValueError('the format "ids" needs a processor ("module:function"), "messages" takes none')
        if not self.parts:
            raise ValueError("parts is empty: name at least one task")
        seen = [(part.task, _canonical(dict(part.options))) for part in self.parts]
        if len(set(seen)) < len(seen):
            twice = next(task for task, options in seen if seen.count((task, options)) > 1)
            raise ValueError(f"parts names {twice!r} twice with the same options: add up the weights")

    @property
    def shards(self) -> int:
        return math.ceil(self.size / self.shard)

    def shard_range(self, number: int) -> range:
        """The samples of one shard."""
        return range(number * self.shard, min((number + 1) * self.shard, self.size))

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        data["parts"] = [dict(part) for part in data["parts"]]
        return data

    def fingerprint(self) -> str:
        """Equal for equal configurations."""
        return hashlib.sha256(_canonical(self.to_json()).encode()).hexdigest()

    @staticmethod
    def from_json(data: Any) -> MixtureConfig:
        """From the object of a JSON file. Raises ValueError that names the key at fault."""
        _check_keys(data, MixtureConfig, "the configuration")
        parts = data.get("parts")
        if not isinstance(parts, list):
            raise ValueError('the configuration needs "parts", a list of {"task": ...}')
        made = tuple(_part(part, f"parts[{k}]") for k, part in enumerate(parts))
        return MixtureConfig(**{**data, "parts": made})


class Mixture:
    """The samples of a configuration by number; every task is made once. Raises ValueError for a task that
    refuses its options."""

    def __init__(self, config: MixtureConfig) -> None:
        self.config = config
        self.tasks = [self._make(number, part) for number, part in enumerate(config.parts)]

    def _make(self, number: int, part: Part) -> Any:
        options = dict(part.options)
        if "seed" in option_names(part.task):
            options.setdefault("seed", self.config.seed + number)
        try:
            return make(part.task, **options)
        except ValueError as error:
            raise ValueError(f"parts[{number}]: {error}") from None

    def __len__(self) -> int:
        return self.config.size

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`. Raises IndexError beyond the size."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of a mixture of {len(self)}")
        part = int(self._choice[index])
        return self.tasks[part].sample(int(self._index[index]), self.config.split)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def _choice(self) -> np.ndarray:
        """The part of every sample, [size]."""
        weights = np.array([part.weight for part in self.config.parts], np.float64)
        limits = np.cumsum(weights / weights.sum())[:-1]
        rng = np.random.default_rng([self.config.seed, _CHOICE_STREAM])
        return np.searchsorted(limits, rng.random(self.config.size), side="right")

    @cached_property
    def _index(self) -> np.ndarray:
        """The number of every sample within its part, [size]."""
        index = np.zeros(self.config.size, np.int64)
        for part in range(len(self.tasks)):
            mine = self._choice == part
            index[mine] = np.arange(mine.sum())
        return index


def read_config(path: str | Path) -> MixtureConfig:
    """The configuration in a JSON file. Raises ValueError with the path, in one line."""
    path = at_home(path)
    data = read_json(path)
    try:
        return MixtureConfig.from_json(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _part(data: Any, where: str) -> Part:
    _check_keys(data, Part, where)
    if "task" not in data:
        raise ValueError(f'{where} needs "task", the name of a task')
    try:
        return Part(**data)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _check_keys(data: Any, kind: Any, where: str) -> None:
    if not isinstance(data, dict):
        raise ValueError(f"{where} must be an object, got {type(data).__name__}")
    known = [item.name for item in fields(kind)]
    for key in data:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}: it has {', '.join(known)}")


def _canonical(data: Any) -> str:
    try:
        return json.dumps(data, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the configuration is not plain JSON data: {error}") from None
