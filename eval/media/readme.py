"""Blocks of Markdown between markers, such as `<!-- figures -->` and `<!-- end of figures -->`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unified.eval.media.figures import table
from unified.eval.media.reports import generation, goals, verbs

TOUR = Path("media/tour.json")  # below docs/


def pages(root: Path) -> dict[Path, str]:
    """The pages of a checkout that have blocks, with these made anew from the JSON below `docs/`."""
    docs = root / "docs"
    tour = json.loads((docs / TOUR).read_text(encoding="utf-8"))
    front = {"film": film(tour), "python": python(tour), "chat": chat(tour), "figures": table(docs)}
    figures = {"goals": goals(docs), "verbs": verbs(docs), "generation": generation(docs)}
    found = {root / "README.md": front, docs / "figures.md": figures}
    return {page: filled(page.read_text(encoding="utf-8"), blocks) for page, blocks in found.items()}


def film(tour: Mapping[str, Any]) -> list[str]:
    right = sum(shot["right"] for shot in tour["shots"])
    return [
        "![ask, draw map by map, edit, solve with sketches, imagine](docs/media/tour.gif)",
        "",
        f"*Unedited output of the shipped weights ({tour['weights']}, seed {tour['seed']}); each request is sample 0 of a "
        f"test split, but for the second drawing, worded freely. {right} of {len(tour['shots'])} are right.*",
    ]


def python(tour: Mapping[str, Any]) -> list[str]:
    return ["```python", *tour["python"].splitlines(), "```", "", "```text", *tour["printed"].splitlines(), "```"]


def chat(tour: Mapping[str, Any]) -> list[str]:
    lines = ["```text"]
    for line in tour["chat"]:
        verdict = "" if line["right"] else "        <- wrong"
        lines += [f"> {line['typed']}{verdict}", *line["printed"].splitlines()]
    return [*lines, "```"]


def filled(text: str, found: Mapping[str, list[str]]) -> str:
    """The page with its blocks made anew. ValueError for a block whose markers the page lacks."""
    for name, lines in found.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(start)}\n.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"the page has no markers {start} and {end}")
        text = pattern.sub(lambda _, lines=lines: "\n".join([start, *lines, end]), text)
    return text
