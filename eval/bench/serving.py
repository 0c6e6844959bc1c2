"""The server under load: 64 clients of mixed requests, 16 chats at once beside one at a time, and its start.

    python -m unified.eval.bench.serving [--model FOLDER] [--seconds 60] [--clients 64] [--json]

The server is a process of its own, `unified serve` as a user starts it. Nothing but 200, 201 and 429 may come
back, and the memory of the server must not grow between the second quarter of the time and the last. A
machine on which other programs run is refused, since every figure here would be theirs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from unified.eval.bench.machine import check_idle
from unified.eval.bench.verbs import QUESTION, start_to_answer

from unified.server.uploads import data_url, png

GOALS = {
    "concurrent_ratio": (4.0, True),
    "memory_growth_mb": (64.0, False),
    "start_later_seconds": (3.0, False),
}
ALLOWED = (200, 201, 429)
CHATS = 16
WORDS = 32  # ids of a chat's answer
PROMPT = "Draw a large red circle and a small blue star."
WAIT = 600.0  # seconds for the server to start, and for one request


@dataclass
class Load:
    """What came back: answers by status, requests by kind, and megabytes of the server by second."""

    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Megabytes that the median of the last quarter lies above that of the second."""
        quarter = max(1, len(self.memory) // 4)
        early, late = self.memory[quarter : 2 * quarter] or self.memory, self.memory[-quarter:]
        return statistics.median(late) - statistics.median(early)

    @property
    def others(self) -> int:
        """Answers that were neither given nor put off."""
        return sum(count for status, count in self.statuses.items() if status not in ALLOWED)


# The server -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """A running server: its address, process, and the seconds from the command to its first /health."""

    url: str
    process: int
    seconds: float


@contextlib.contextmanager
def served(model: str | None) -> Iterator[Served]:
    """`unified serve` on a free port, until the end of the block. RuntimeError if it does not start."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "unified.cli", "serve", "--port", str(port)]
    command += ["--model", model] if model else []
    environment = {name: value for name, value in os.environ.items() if name != "UNIFIED_API_KEY"}
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        while not _healthy(url):
            if process.poll() is not None or time.perf_counter() - began > WAIT:
                raise RuntimeError("the server did not start: try `unified serve`")
            time.sleep(0.02)
        yield Served(url, process.pid, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _healthy(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health").status_code == 200
    return False


def resident_mb(process: int) -> float:
    """Resident memory of a process. OSError where there is no /proc."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise OSError("no resident memory is told of the server")


# Requests ---------------------------------------------------------------------------------------------------


class Requests:
    """The kinds of requests of one client, with pictures of `side` pixels."""

    def __init__(self, http: httpx.AsyncClient, name: str, side: int, number: int) -> None:
        self.http, self.name, self.number = http, name, number
        rng = np.random.default_rng(number)
        self.picture = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        self.kinds = (self.chat, self.look, self.stream, self.draw, self.edit, self.world)

    async def chat(self) -> list[int]:
        return [(await self.http.post("/v1/chat/completions", json=self.asked("Hello!"))).status_code]

    async def look(self) -> list[int]:
        return [(await self.http.post("/v1/chat/completions", json=self.shown())).status_code]

    async def stream(self) -> list[int]:
        body = {**self.shown(), "stream": True}
        async with self.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for _ in answer.aiter_bytes():
                pass
            return [answer.status_code]

    async def draw(self) -> list[int]:
        body = {"prompt": PROMPT, "seed": self.number}
        return [(await self.http.post("/v1/images/generations", json=body)).status_code]

    async def edit(self) -> list[int]:
        files = {"image": ("picture.png", png(self.picture), "image/png")}
        data = {"prompt": "Make it blue."}
        return [(await self.http.post("/v1/images/edits", data=data, files=files)).status_code]

    async def world(self) -> list[int]:
        made = await self.http.post("/v1/worlds", json={"image": data_url(self.picture)})
        if made.status_code != 201:
            return [made.status_code]
        path = f"/v1/worlds/{made.json()['id']}"
        body = {"actions": [{"forward": 1}, {"camera": [0, 5]}]}
        step = await self.http.post(f"{path}/step", json=body)
        ended = await self.http.delete(path)
        return [made.status_code, step.status_code, ended.status_code]

    def asked(self, words: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": words}]
        options = {"max_tokens": WORDS, "temperature": 1.0, "seed": self.number, "modalities": ["text"]}
        return {"model": self.name, "messages": messages, **options}

    def shown(self) -> dict[str, Any]:
        image = {"type": "image_url", "image_url": {"url": data_url(self.picture)}}
        return self.asked([image, {"type": "text", "text": QUESTION}])


async def loaded(server: Served, name: str, side: int, clients: int, seconds: float) -> Load:
    """`clients` that send one request after the other for so many seconds."""
    load, until = Load(), time.perf_counter() + seconds

    async def client(number: int) -> None:
        rng = random.Random(number)
        async with httpx.AsyncClient(base_url=server.url, timeout=WAIT) as http:
            requests = Requests(http, name, side, number)
            while time.perf_counter() < until:
                kind = rng.choice(requests.kinds)
                load.kinds[kind.__name__] += 1
                try:
                    statuses = await kind()
                    load.statuses.update(statuses)
                except httpx.HTTPError as error:
                    load.failures.append(f"{kind.__name__}: {type(error).__name__}")
                    statuses = []
                if 429 in statuses:
                    await asyncio.sleep(rng.uniform(0.2, 1.0))

    async def watch() -> None:
        while True:
            load.memory.append(resident_mb(server.process))
            await asyncio.sleep(min(1.0, seconds / 8))

    watching = asyncio.create_task(watch())
    try:
        await asyncio.gather(*map(client, range(clients)))
    finally:
        watching.cancel()
    return load


async def concurrent_ratio(server: Served, name: str, side: int, count: int = CHATS) -> float:
    """Seconds of so many chats one at a time by those of the same chats at once."""
    async with httpx.AsyncClient(base_url=server.url, timeout=WAIT) as http:
        chats = [Requests(http, name, side, number) for number in range(count)]
        await chats[0].look()  # warms up
        began = time.perf_counter()
        for chat in chats:
            await chat.look()
        alone = time.perf_counter() - began
        began = time.perf_counter()
        await asyncio.gather(*(chat.look() for chat in chats))
        return alone / (time.perf_counter() - began)


def measure(model: str | None, *, clients: int, seconds: float) -> dict[str, Any]:
    """All figures. RuntimeError where the server does not start."""
    with served(model) as server:
        listed = httpx.get(f"{server.url}/v1/models").json()["data"]
        name, side = listed[0]["id"], 64
        ratio = asyncio.run(concurrent_ratio(server, name, side))
        load = asyncio.run(loaded(server, name, side, clients, seconds))
        alive = _healthy(server.url)
    picture = np.zeros((side, side, 3), np.uint8)
    asked = start_to_answer(picture, Path(model) if model else None)
    return {
        "clients": clients,
        "seconds": seconds,
        "statuses": {str(status): count for status, count in sorted(load.statuses.items())},
        "requests": dict(load.kinds),
        "others": load.others + len(load.failures),
        "failures": sorted(set(load.failures)),
        "alive_at_the_end": alive,
        "memory_mb": [round(value, 1) for value in load.memory],
        "memory_growth_mb": load.growth,
        "concurrent_ratio": ratio,
        "start_seconds": server.seconds,
        "ask_seconds": asked,
        "start_later_seconds": server.seconds - asked,
    }


def lines(measured: dict[str, Any]) -> list[str]:
    """One line for each figure, with its goal."""
    if "refused" in measured:
        return [measured["refused"]]
    answers = ", ".join(f"{count} x {status}" for status, count in measured["statuses"].items())
    good = not measured["others"] and measured["alive_at_the_end"]
    found = [
        f"{measured['clients']} clients for {measured['seconds']:g} s: {answers}, "
        f"{measured['others']} others (goal none: {'reached' if good else 'MISSED'})"
    ]
    for name, (bound, more) in GOALS.items():
        value = measured[name]
        verdict = "reached" if (value >= bound if more else value <= bound) else "MISSED"
        words = "at least" if more else "at most"
        found.append(f"{name.replace('_', ' ')}: {value:.3g} (goal {words} {bound:g}: {verdict})")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m unified.eval.bench.serving", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", help="a folder (default: the shipped model)")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the mixed load")
    parser.add_argument(
        "--force", "--busy", action="store_true", dest="busy", help="measure although other programs run"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.clients < 1 or not options.seconds > 0:
        parser.error("--clients must be at least 1, --seconds positive")
    try:
        if not options.busy:
            check_idle()
        measured = measure(options.model, clients=options.clients, seconds=options.seconds)
    except ValueError as error:
        measured = {"refused": f"not measured: {error}"}
    except RuntimeError as error:
        parser.error(str(error))
    print(json.dumps(measured) if options.json else "\n".join(lines(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
