"""What to do with a bad record: stop at the first, or leave bad ones out and count them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

ON_ERROR = ("raise", "skip")
BAD = (ValueError, OSError, OverflowError, RecursionError)
"""What reading a record of others may raise: malformed data, files that cannot be read, numbers and nesting
without end."""
SHOWN, MOST_NOTED = 10, 1000  # names of unused keys: in the warning, in memory


class Faults:
    """Collects the faults of one reading. With `on_error` "raise" the first is a ValueError; with "skip" all
    are kept in `lines`, and `warn` tells how many there were. `source` is read, `unknown` are keys of its
    records that nothing uses, in the order in which they were met."""

    def __init__(self, on_error: str = "raise") -> None:
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error!r}")
        self.on_error = on_error
        self.source = ""
        self.lines: list[str] = []
        self.unknown: dict[str, None] = {}

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """A fault inside is reported as "WHERE: what is wrong"."""
        try:
            yield
        except BAD as error:
            line = f"{where}: {reason(error)}".removeprefix(": ")
            if self.on_error == "raise":
                raise ValueError(line) from None
            self.lines.append(line)

    def note_unknown(self, keys: Iterable[str]) -> None:
        if len(self.unknown) < MOST_NOTED:
            self.unknown.update(dict.fromkeys(keys))

    @property
    def note(self) -> str:
        """One line on the keys that are not used, or ""."""
        if not self.unknown:
            return ""
        names = [repr(key)[:40] for key in self.unknown]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return f"{self.source}: keys that are not used: {', '.join(names[:SHOWN])}{more}"

    def warn(self) -> None:
        """At most one warning of the records left out and one of the keys that are not used."""
        if self.lines:
            more = f" and {len(self.lines) - 1} more" if len(self.lines) > 1 else ""
            warnings.warn(f"left out: {self.lines[0]}{more}", stacklevel=3)
        if self.note:
            warnings.warn(self.note, stacklevel=3)


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {str(error.filename)[:80]!r}" if error.filename else error.strerror
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return " ".join(str(error)[:500].split()) or type(error).__name__
