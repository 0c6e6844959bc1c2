"""What the server allows: rows, waiting requests, and the size of one request."""

from __future__ import annotations

from dataclasses import dataclass, fields

from unified.finite import check_count, check_number


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """Of one request: `tokens` of an answer's text, `images` that it draws, `choices` (n), `pixels` of a
    picture that is sent, `bytes` of the whole body, `seconds` from when it is admitted. ValueError for a
    limit below 1 (`seconds`: not above 0)."""

    tokens: int = 2048
    images: int = 8
    choices: int = 8
    pixels: int = 2**24
    bytes: int = 2**24
    seconds: float = 120.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name != "seconds":
                check_count(field.name, getattr(self, field.name), 1)
        check_number("seconds", self.seconds, 1e-3)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`rows` that run at once, `queue` that wait for one, `prompt` ids.
    `worlds` that one client may have, forks included, `all_worlds` of all clients, and `idle` seconds after
    which a world ends. ValueError for a limit below 1 (`queue`: below 0)."""

    rows: int = 16
    queue: int = 64
    prompt: int = 16384
    worlds: int = 4
    all_worlds: int = 16
    idle: float = 300.0
    request: RequestLimits = RequestLimits()

    def __post_init__(self) -> None:
        for name in ("rows", "prompt", "worlds", "all_worlds"):
            check_count(name, getattr(self, name), 1)
        check_count("queue", self.queue)
        check_number("idle", self.idle, 1e-3)
