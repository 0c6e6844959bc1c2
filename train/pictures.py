"""Pictures of tasks as one array on disk, made by several processes: what visual tokenizers learn from."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unified.tasks.registry import make, option_names
from unified.train.recipe import Source

CHUNK = 250  # samples that a process makes at once


def task_of(source: Source, seed: int) -> Any:
    """The task of a source; `seed` unless the source has one."""
    options = dict(source.options)
    if "seed" in option_names(source.task):
        options.setdefault("seed", seed)
    return make(source.task, **options)


def texts(source: Source, seed: int) -> Iterator[str]:
    """Every text of the training samples of a source."""
    task = task_of(source, seed)
    for index in range(source.samples):
        for message in task.sample(index, "train").messages:
            yield from (item["text"] for item in message["content"] if item["type"] == "text")


def pictures(
    source: Source, seed: int, split: str, count: int, size: int, path: Path, workers: int = 1
) -> np.ndarray:
    """uint8 [count, size, size, 3], memory-mapped from `path`, which is written first if it is not there. Of
    every sample one of its pictures is taken, at random."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        starts = range(0, count, CHUNK)
        jobs = [(source, seed, split, start, min(start + CHUNK, count), size) for start in starts]
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        found = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
        for job, chunk in zip(jobs, mapped(_chunk, jobs, workers), strict=True):
            found[job[3] : job[4]] = chunk
        found.flush()
        partial.replace(path)
    return np.load(path, mmap_mode="r")


def mapped(function: Any, jobs: Sequence[Any], workers: int) -> Iterator[Any]:
    """Results in order, from this process or from several."""
    if workers <= 1 or len(jobs) < 2:
        yield from map(function, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _one_thread) as pool:
        yield from pool.map(function, jobs)


def _one_thread() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed must not wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _chunk(job: tuple[Source, int, str, int, int, int]) -> np.ndarray:
    source, seed, split, start, stop, size = job
    task = task_of(source, seed)
    found = [_one(task.sample(index, split).messages, seed + index) for index in range(start, stop)]
    for picture in found:
        if picture.shape != (size, size, 3):
            raise ValueError(f"{source.task} makes pictures of {picture.shape[:2]}, the recipe wants {size}")
    return np.stack(found)


def _one(messages: list[dict[str, Any]], number: int) -> np.ndarray:
    shown = [item["image"] for m in messages for item in m["content"] if item["type"] == "image"]
    if not shown:
        raise ValueError("the task shows no pictures: a visual tokenizer cannot learn from it")
    return shown[int(np.random.default_rng(number).integers(len(shown)))]


def batches(
    arrays: Sequence[np.ndarray], weights: Sequence[float], count: int, seed: int, start: int = 0
) -> Iterator[Tensor]:
    """Endless batches float [count, 3, H, W] in [-1, 1]; batch number n is the same wherever one starts."""
    shares = np.asarray(weights, np.float64) / sum(weights)
    step = start
    while True:
        rng = np.random.default_rng([seed, step])
        chosen = rng.choice(len(arrays), count, p=shares)
        rows = [arrays[part][rng.integers(len(arrays[part]))] for part in chosen]
        yield as_images(np.stack(rows))
        step += 1


def as_images(array: np.ndarray) -> Tensor:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(array)).permute(0, 3, 1, 2).float() / 127.5 - 1
