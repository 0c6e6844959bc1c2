"""Work that is done by processes of a Ray cluster: data sets shard by shard, preference pairs part by part.

The parts are those of one machine and each is made by the same code, so the results are the same bytes.
Results travel to the process that asked, which writes them: the machines need no common folder for them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
LOCAL = "local"
STORE = 2**28  # bytes of the object store of a Ray that is started here
RETRIES = 3  # of a part whose process or machine died


class Worker:
    """A process: `start(*arguments)` gives the function that does one part."""

    def __init__(self, start: Callable[..., Callable[[Any], Any]], arguments: Sequence[Any]) -> None:
        warnings.simplefilter("ignore")  # whoever asked has read the same data and told
        self.start, self.arguments = start, arguments
        self.work: Callable[[Any], Any] | None = None

    def do(self, item: Any) -> Any:
        if self.work is None:  # not in the constructor: what it raises there does not arrive as it is
            self.work = self.start(*self.arguments)
        return self.work(item)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connected to the Ray at an address: "auto" (the one of this machine), HOST:PORT, or "local", which
    starts one with the processors of this machine. ImportError without ray, ConnectionError without an
    answer."""
    if importlib.util.find_spec("ray") is None:
        raise ImportError("--ray needs more packages: pip install 'unified-multimodal[cluster]'")
    import ray

    if ray.is_initialized():  # a program that has connected before: its own business when it leaves
        yield
        return
    join(address, **({"object_store_memory": STORE} if address == LOCAL else {}))
    try:
        yield
    finally:
        ray.shutdown()


def join(address: str, **options: Any) -> None:
    """Connect this process to the Ray at an address, or start one; `options` of `ray.init` for the latter.
    Nothing is reported to Ray's makers. ConnectionError, in one line, where it fails."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    check_address(address)
    own: dict[str, Any] = {"include_dashboard": False, **options} if address == LOCAL else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # ray raises many kinds, plain ones among them
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ConnectionError(f"no Ray at {address}: {said[0]}") from None


def done(
    start: Callable[..., Callable[[Item], Any]],
    arguments: Sequence[Any],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    gpus: float = 0.0,
) -> Iterator[tuple[Item, Any]]:
    """Each item with its result, in the order in which they are finished. `start(*arguments)` is called once
    in each of at most `workers` processes (there is one for each processor or, with `gpus` for each, as many
    as there are GPUs for) and gives what is called with the items. What it raises is raised here."""
    import ray

    if not items:
        return
    room = _room(gpus)  # a process more would wait for one of these to end
    processes = min(len(items), room, workers or room)
    kind: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=RETRIES, max_task_retries=RETRIES)(Worker)
    team = [kind.remote(start, list(arguments)) for _ in range(processes)]
    free, waiting = list(team), deque(items)
    running: dict[Any, tuple[Any, Item]] = {}
    try:
        while waiting or running:
            while free and waiting:
                worker, item = free.pop(), waiting.popleft()
                running[worker.do.remote(item)] = worker, item
            (reference, *_), _ = ray.wait(list(running), num_returns=1)
            worker, item = running.pop(reference)
            free.append(worker)
            yield item, _result(reference)
    finally:
        for worker in team:
            ray.kill(worker)


def _result(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from None
        raise
    except ray.exceptions.RayActorError:
        raise ValueError("a process of the cluster died: run the same command again") from None


def in_order(items: Sequence[Item], found: Iterator[tuple[Item, Any]]) -> Iterator[Any]:
    """Results in the order of their items, which can be hashed."""
    held: dict[Item, Any] = {}
    for item in items:
        while item not in held:
            other, result = next(found)
            held[other] = result
        yield held.pop(item)


def check_form(address: str) -> None:
    """ValueError for what is no address of a Ray."""
    host, _, port = address.rpartition(":")
    named = address in ("auto", LOCAL)
    if not named and (not host or not port.isdecimal() or not 0 < int(port) < 65536):
        raise ValueError(f"the address of a Ray is auto, local or HOST:PORT, got {address!r}")


def check_address(address: str) -> None:
    """`check_form`, and ConnectionError where nothing answers: ray itself would try for minutes."""
    check_form(address)
    if address in ("auto", LOCAL):
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        raise ConnectionError(f"no Ray at {address}: {error.strerror or error}") from None


def _room(gpus: float) -> int:
    """How many processes the cluster has room for."""
    import ray

    resources = ray.cluster_resources()
    count = resources.get("GPU", 0.0) / gpus if gpus else resources.get("CPU", 1.0)
    return max(1, int(count))


def has_gpus() -> bool:
    """Whether the cluster has a GPU for a process."""
    import ray

    return bool(ray.cluster_resources().get("GPU", 0.0) >= 1)
