"""One run a folder: a second one would write into the first one's checkpoints."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = ".lock"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if need be, as long as the block runs; the system lets go of it however
    the process ends. Only the first of a run's processes takes it. ValueError if another run has it."""
    from filelock import FileLock, Timeout

    if int(os.environ.get("RANK", 0)):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / NAME, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"{folder} is in use by another run: wait for it, or choose another --out") from None
    try:
        yield
    finally:
        lock.release()
