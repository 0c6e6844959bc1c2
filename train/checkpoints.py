"""Which checkpoints are whole: a list of files with sizes and hashes, written last, is the mark.

`kill -9` may come at any moment: a checkpoint without the mark, or whose files do not agree with it, is
skipped for the one before it, with a warning.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from pathlib import Path

from unified.train.stored import write_text

from unified.text_files import read_object

MARK = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def mark_complete(folder: Path) -> None:
    """Note every file of a checkpoint. To be called when all processes have written theirs."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARK)
    entries = {str(path.relative_to(folder)): [path.stat().st_size, _digest(path)] for path in files}
    write_text(folder / MARK, json.dumps(entries, indent=1) + "\n")


def problem(folder: Path) -> str:
    """Why a checkpoint is not whole; "" if it is."""
    try:
        if not (folder / MARK).is_file():
            return "it was not finished"
        entries = read_object(folder / MARK)
        for name, (size, digest) in entries.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size or _digest(path) != digest:
                return f"{name} is damaged"
    except (ValueError, TypeError, AttributeError):
        return f"{MARK} is damaged"
    return "" if entries else f"{MARK} names no files"


def latest_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint with the most steps, or None. Warns of each that is skipped."""
    found = [(int(match[1]), path) for path in folder.glob("checkpoint-*") if (match := _match(path))]
    for _, path in sorted(found, reverse=True):
        reason = problem(path)
        if not reason:
            return path
        warnings.warn(f"{path} is skipped: {reason}", stacklevel=2)
    return None


def _match(path: Path) -> re.Match[str] | None:
    return _NAME.fullmatch(path.name) if path.is_dir() else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
