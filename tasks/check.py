"""What must hold for every task: the same seed gives the same bytes, and splits share no sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from unified.tasks.packing import content_digest, digest
from unified.tasks.registry import TASKS, make, required
from unified.tasks.sample import SPLITS


@dataclass(frozen=True, kw_only=True)
class Report:
    """`samples` looked at and how many of them differ; `same_bytes`: they are the same when made again, in
    reverse order or by other processes; `shared`: how many were seen in more than one split."""

    samples: int
    distinct: int
    same_bytes: bool
    shared: int

    @property
    def good(self) -> bool:
        return self.same_bytes and not self.shared


def check(
    name: str,
    count: int,
    *,
    workers: Executor | None = None,
    options: Mapping[str, Any] | None = None,
) -> Report:
    """Looks at `count` samples of every split that the task has. `workers`: processes that make them again,
    alternately. Raises ValueError as `registry.make` does."""
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    options = dict(options or {})
    task = make(name, **options)
    places = [(split, index) for split in SPLITS if has_split(name, split, options) for index in range(count)]
    again = _again(name, options, places, workers)
    found = {place: task.sample(place[1], place[0]) for place in places}
    contents = {place: content_digest(sample) for place, sample in found.items()}
    splits: dict[str, set[str]] = {}
    for (split, _), content in contents.items():
        splits.setdefault(content, set()).add(split)
    return Report(
        samples=len(places),
        distinct=len(splits),
        same_bytes=all(digest(found[place]) == again[place] for place in places),
        shared=sum(len(seen) > 1 for seen in splits.values()),
    )


def digests(name: str, options: dict[str, Any], places: Sequence[tuple[str, int]]) -> list[str]:
    """Hashes of the samples at (split, index), made by a new task."""
    task = make(name, **options)
    return [digest(task.sample(index, split)) for split, index in places]


def _again(
    name: str, options: dict[str, Any], places: list[tuple[str, int]], workers: Executor | None
) -> dict[tuple[str, int], str]:
    if workers is None:
        backwards = places[::-1]
        return dict(zip(backwards, digests(name, options, backwards), strict=True))
    halves = [places[0::2], places[1::2]]
    made = [workers.submit(digests, name, options, half) for half in halves]
    pairs = [zip(half, job.result(), strict=True) for half, job in zip(halves, made, strict=True)]
    return {place: found for pair in pairs for place, found in pair}


def has_split(name: str, split: str, options: dict[str, Any]) -> bool:
    """Outside data may leave a split empty, and have no compositional one; every generator has all four."""
    if not required(name):
        return True
    try:
        make(name, **options).sample(0, split)
    except ValueError as error:
        if "falls into the split" in str(error):
            return False
        raise
    return True


def without_data() -> list[str]:
    """The tasks that make their samples themselves."""
    return [name for name in TASKS if not required(name)]
