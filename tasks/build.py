"""Writes a mixture as a Hugging Face data set: shard by shard, in any number of processes, with resume.

A shard is written under a temporary name and renamed, so that a file with its name is whole. After an
interruption (Ctrl-C, kill, a crash) the same command goes on with the missing shards; only those that were
being written are lost. The bytes do not depend on the number of processes.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unified.tasks import dataset
from unified.tasks.dataset import ShardFile, shard_name
from unified.tasks.mixture import MixtureConfig
from unified.tasks.rows import Row, RowMaker, features

from unified.text_files import read_object

PARTIAL = ".part"


def build(
    config: MixtureConfig,
    folder: str | Path,
    *,
    workers: int | None = None,
    progress: bool = False,
    ray: str | None = None,
) -> list[ShardFile]:
    """Writes the data set, or completes it, and returns its files; a complete one is left as it is.
    `workers`: processes (default 1). `ray`: the address of a Ray cluster (`ray_work.connected`), whose
    processes make the shards (default: one for each of its processors); what the tasks and the processor
    read must be on its machines under the same paths.

    Raises ValueError, in one line, for a task that refuses its options and for a folder that holds
    something else, another configuration, or rows that the generators no longer make. With `workers` above
    1 the calling script needs the usual `if __name__ == "__main__":`."""
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if ray is not None:
        from unified.tasks.ray_work import check_form

        check_form(ray)  # before a folder is made
    folder = Path(folder)
    _prepare(config, folder)
    if (folder / dataset.MANIFEST).is_file():
        return dataset.read_manifest(folder)
    missing = [number for number in range(config.shards) if not _finished(config, folder, number)]
    kept = config.size - sum(len(config.shard_range(number)) for number in missing)
    if ray is not None:
        written = _write_on_ray(config, folder, missing, workers, ray)
    else:
        written = _write_all(config, folder, missing, workers or 1)
    with _bar(config.size, kept, progress) as bar:
        for number in written:
            bar.update(len(config.shard_range(number)))
    return _complete(config, folder)


def write_shard(maker: RowMaker, folder: Path, number: int) -> int:
    """Makes and writes one shard; returns its number."""
    import pyarrow.parquet as parquet

    table = _table(maker, number)
    with _shard_file(maker.config, folder, number) as partial:
        parquet.write_table(table, partial)
    return number


def _table(maker: RowMaker, number: int) -> Any:
    """The rows of a shard."""
    import pyarrow

    rows = list(maker.rows(maker.config.shard_range(number)))
    return pyarrow.Table.from_pylist(rows, schema=features(maker.config.format).arrow_schema)


@contextmanager
def _shard_file(config: MixtureConfig, folder: Path, number: int) -> Iterator[Path]:
    """The temporary file of a shard, which has its name once the context has closed without an error."""
    path = folder / shard_name(config, number)
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        _rename(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _prepare(config: MixtureConfig, folder: Path) -> None:
    """Writes config.json, or checks that the one there is the same."""
    maker = RowMaker(config)
    first_row = row_hash(next(iter(maker.rows(range(1)))))
    path = folder / dataset.CONFIG
    if path.is_file():
        found = read_object(path)
        if found.get("fingerprint") != config.fingerprint():
            raise ValueError(f"{folder} holds a data set of another configuration: choose another folder")
        if found.get("first_row") != first_row:
            raise ValueError(
                f"{folder} was begun by other generators, data or processor: choose another folder"
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is no data set: choose another folder")
    (folder / dataset.DATA).mkdir(parents=True, exist_ok=True)
    _write_text(path, dataset.config_text(config, first_row))


def _finished(config: MixtureConfig, folder: Path, number: int) -> bool:
    """Whether a shard is there with all its rows."""
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        metadata = parquet.read_metadata(folder / shard_name(config, number))
    except (OSError, pyarrow.ArrowException):
        return False
    return metadata.num_rows == len(config.shard_range(number))


def _complete(config: MixtureConfig, folder: Path) -> list[ShardFile]:
    """Clears what interruptions left, then writes card and manifest."""
    for partial in (folder / dataset.DATA).glob(f"*{PARTIAL}"):
        partial.unlink(missing_ok=True)
    shards = [
        _described(folder, shard_name(config, number), config, number) for number in range(config.shards)
    ]
    _write_text(folder / dataset.CARD, dataset.card_text(config, shards))
    _write_text(folder / dataset.MANIFEST, dataset.manifest_text(config, shards))
    return shards


def _described(folder: Path, name: str, config: MixtureConfig, number: int) -> ShardFile:
    with (folder / name).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size = (folder / name).stat().st_size
    return ShardFile(file=name, rows=len(config.shard_range(number)), bytes=size, sha256=sha256)


# Processes --------------------------------------------------------------------------------------------------

_maker: RowMaker | None = None  # of a worker process


def _write_all(config: MixtureConfig, folder: Path, numbers: list[int], workers: int) -> Iterator[int]:
    """Writes shards and yields their numbers as they are done."""
    if workers == 1 or len(numbers) < 2:
        maker = RowMaker(config)
        yield from (write_shard(maker, folder, number) for number in numbers)
        return
    executor = ProcessPoolExecutor(
        min(workers, len(numbers)), multiprocessing.get_context("spawn"), _start_worker, (config.to_json(),)
    )
    try:
        futures = [executor.submit(_work, folder, number) for number in numbers]
        yield from _results(as_completed(futures))
    finally:  # after an error or Ctrl-C: what is being written is finished, the rest is not begun
        executor.shutdown(wait=True, cancel_futures=True)


def _results(futures: Iterable[Future[int]]) -> Iterator[int]:
    try:
        for future in futures:
            yield future.result()
    except BrokenProcessPool:
        raise ValueError("a worker process died: run the same build again to go on") from None


def _start_worker(config: dict[str, Any]) -> None:
    global _maker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then asks for the end
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")  # the parent has read the same data and told
    _maker = RowMaker(MixtureConfig.from_json(config))


def _end_with_parent() -> None:
    """A worker whose parent was killed must not wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(folder: Path, number: int) -> int:
    assert _maker is not None
    return write_shard(_maker, folder, number)


# A cluster --------------------------------------------------------------------------------------------------


def _write_on_ray(
    config: MixtureConfig, folder: Path, numbers: list[int], workers: int | None, address: str
) -> Iterator[int]:
    """Lets a Ray cluster make shards, writes them, and yields their numbers as they are done."""
    from unified.tasks.ray_work import connected, done

    with connected(address):
        for number, content in done(_shards_of, [config.to_json()], numbers, workers=workers):
            with _shard_file(config, folder, number) as partial:
                partial.write_bytes(content)
            yield number


def _shards_of(config: dict[str, Any]) -> Callable[[int], bytes]:
    """What gives the content of a shard's file, in a process of the cluster."""
    import pyarrow
    import pyarrow.parquet as parquet

    maker = RowMaker(MixtureConfig.from_json(config))

    def content(number: int) -> bytes:
        sink = pyarrow.BufferOutputStream()
        parquet.write_table(_table(maker, number), sink)
        return bytes(sink.getvalue().to_pybytes())

    return content


# Files ------------------------------------------------------------------------------------------------------


def row_hash(row: Row) -> str:
    """SHA-256 of a row."""
    images = [hashlib.sha256(image["bytes"]).hexdigest() for image in row.get("images", [])]
    return hashlib.sha256(json.dumps({**row, "images": images}, sort_keys=True).encode()).hexdigest()


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    partial.write_text(text, encoding="utf-8")
    _rename(partial, path)


def _rename(partial: Path, path: Path) -> None:
    """Puts a finished file in its place; after a power cut it is there whole or not at all."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _bar(total: int, done: int, shown: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, initial=done, unit=" samples", disable=not shown)
