"""What to do with a bad record: stop at the first, or leave bad ones out and count them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

ON_ERROR = ("raise", "skip")


class Faults:
    """Collects the faults of one reading. With `on_error` "raise" the first is a ValueError; with "skip" all
    are kept in `lines` and `warn` tells how many there were."""

    def __init__(self, on_error: str = "raise") -> None:
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error!r}")
        self.on_error = on_error
        self.lines: list[str] = []

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """A fault inside is reported as "WHERE: what is wrong"."""
        try:
            yield
        except ValueError as error:
            line = f"{where}: {error}"
            if self.on_error == "raise":
                raise ValueError(line) from None
            self.lines.append(line)

    def warn(self) -> None:
        if self.lines:
            more = f" and {len(self.lines) - 1} more" if len(self.lines) > 1 else ""
            warnings.warn(f"left out: {self.lines[0]}{more}", stacklevel=3)
