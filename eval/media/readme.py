"""Blocks of Markdown between markers, such as `<!-- figures -->` and `<!-- end of figures -->`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unified.eval.bench.page import quoted
from unified.eval.lab.report import front as papers
from unified.eval.media.figures import read, table
from unified.eval.media.reports import goals

TOUR, BENCH, LAB = Path("media/tour.json"), Path("bench.json"), Path("lab/results")  # below docs/


def pages(root: Path) -> dict[Path, str]:
    """The pages of a checkout that have blocks, with these made anew from the JSON below `docs/`."""
    docs = root / "docs"
    tour = json.loads((docs / TOUR).read_text(encoding="utf-8"))
    front = {"film": film(tour), "python": python(tour), "chat": chat(tour), "figures": table(docs)}
    front["papers"] = papers(docs / LAB)
    front["speed"] = quoted(read(docs / BENCH))
    found = {root / "README.md": front, docs / "figures.md": {"goals": goals(docs)}}
    return {page: filled(page.read_text(encoding="utf-8"), blocks) for page, blocks in found.items()}


def film(tour: Mapping[str, Any]) -> list[str]:
    judged = [shot["right"] for shot in tour["shots"] if shot["right"] is not None]
    weights, seed = tour["weights"], tour["seed"]
    return [
        "![ask, draw map by map, edit, solve with sketches, imagine](docs/media/tour.gif)",
        "",
        f"*Unedited output of the shipped weights ({weights}, seed {seed}): sample 0 of each test split, and",
        f"after it a request in other words. {sum(judged)} of {len(judged)} answers are right;",
        "imagined frames are judged one by one.*",
    ]


def python(tour: Mapping[str, Any]) -> list[str]:
    code, printed = tour["python"].splitlines(), tour["printed"].splitlines()
    return ["```python", *code, "```", "", "```text", *printed, "```"]


def chat(tour: Mapping[str, Any]) -> list[str]:
    lines = ["```text"]
    for line in tour["chat"]:
        verdict = "" if line["right"] else "        <- wrong"
        lines += [f"> {line['typed']}{verdict}", *line["printed"].splitlines()]
    return [*lines, "```"]


def filled(text: str, found: Mapping[str, list[str]]) -> str:
    """The page with its blocks made anew. ValueError for a block whose markers the page lacks."""
    for name, lines in found.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, sign, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not sign or not closed:
            raise ValueError(f"the page has no markers {start.strip()} and {end}")
        text = f"{before}{start}" + "".join(f"{line}\n" for line in lines) + f"{end}{after}"
    return text
