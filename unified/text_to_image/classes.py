"""Classes as prompts: by number, or by a name of classes.txt."""

from __future__ import annotations

from pathlib import Path

from unified.text_files import read_text

CLASSES = "classes.txt"


def class_names(folder: Path) -> list[str]:
    """The names in a folder's classes.txt, one a line; none without that file."""
    path = folder / CLASSES
    return [line.strip() for line in read_text(path).splitlines()] if path.is_file() else []


def class_number(prompt: str, classes: int, names: list[str]) -> int:
    """The number of the class of `classes` that a prompt names. ValueError if it names none."""
    word = prompt.strip()
    if word.isdecimal() and int(word) < classes:
        return int(word)
    known = [name.lower() for name in names]
    if word.lower() in known[:classes]:
        return known.index(word.lower())
    named = f" or a name in {CLASSES}" if names else ""
    raise ValueError(
        f"this model draws classes: give a number from 0 to {classes - 1}{named}, got {word!r:.60}"
    )
