"""One benchmark module of a given checkout, run in this process; what it prints, and peak memory, as JSON.

    python -P eval/bench/measured.py ROOT MODULE [ARGUMENT ...]
    python -P eval/bench/measured.py ROOT fields

It is run by its path, with ROOT in PYTHONPATH and as working directory, and imports nothing of ours before it
has seen where `unified` comes from: ROOT may be another commit, and an installed package must not be
measured in its place. `fields` lists the fields of `unified.eval.bench.images.Case` there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import resource
import runpy
import sys
from pathlib import Path
from typing import Any


def strays(root: Path) -> list[str]:
    """Imported modules of the package that lie outside the checkout, as `name (file)`."""
    loaded = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    ours = {name: file for name, file in loaded.items() if name.split(".")[0] == "unified" and file}
    return [f"{name} ({file})" for name, file in ours.items() if root not in Path(file).resolve().parents]


def check(root: Path) -> None:
    """End the process with one line if a module of the package comes from elsewhere."""
    importlib.import_module("unified")
    if found := strays(root):
        sys.exit(f"imported {found[0]}, which is not of the checkout {root}: run with PYTHONPATH={root}")


def peak_mb() -> float:
    """Peak resident memory of this program. On Linux `ru_maxrss` also counts the process it was started from,
    so the kernel's own high-water mark is read."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    unit = 1024**2 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def run(module: str, arguments: list[str]) -> dict[str, Any]:
    """The JSON that `python -m module` prints last, with `process_peak_mb`."""
    sys.argv = [module, *arguments]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            if end.code:
                raise
    return {**json.loads(printed.getvalue().strip().splitlines()[-1]), "process_peak_mb": peak_mb()}


def main(arguments: list[str]) -> int:
    root, module = Path(arguments[0]).resolve(), arguments[1]
    check(root)
    if module == "fields":
        case = importlib.import_module("unified.eval.bench.images").Case
        result: dict[str, Any] = {"fields": [field.name for field in dataclasses.fields(case)]}
    else:
        result = run(module, arguments[2:])
    check(root)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
