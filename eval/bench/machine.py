"""On what a benchmark ran."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "numpy", "numba", "gymnasium", "crafter", "unified")


def machine() -> dict[str, Any]:
    """Processor, cores seen, system and the load of the last minute (other programs slow a run down)."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": _processor_name(),
        "cores_seen": os.cpu_count(),
        "system": platform.platform(),
        "load_of_the_last_minute": load,
    }


def busy_cores(seconds: float = 2.0) -> float | None:
    """How many processor cores other programs use while this one sleeps; None where the system does not
    say."""
    before = _busy_seconds()
    time.sleep(seconds)
    after = _busy_seconds()
    return None if before is None or after is None else max(0.0, after - before) / seconds


def check_idle(share: float = 0.1, seconds: float = 2.0) -> None:
    """ValueError where other programs use more than a `share` of the processors."""
    busy, most = busy_cores(seconds), share * (os.cpu_count() or 1)
    if busy is not None and busy > most:
        raise ValueError(
            f"other programs use {busy:.1f} cores of this machine: measure when it is idle, or --force"
        )


def _busy_seconds() -> float | None:
    """Seconds that all cores together have worked since the start of the system."""
    listing = Path("/proc/stat")
    if not listing.is_file():
        return None
    user, nice, system, _, _, interrupt, soft, *_ = map(int, listing.read_text().split()[1:9])
    return (user + nice + system + interrupt + soft) / os.sysconf("SC_CLK_TCK")


def _processor_name() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of Python and of the packages that matter here."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found
