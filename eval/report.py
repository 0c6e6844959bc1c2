"""A report of results: report.json, report.md and one PNG per suite."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from unified.eval.measurement import Cell, Example, Goal, Result, Table, plain

TILE, GAP, LINE = 96, 6, 18
INKS = ((0, 98, 178), (200, 80, 30), (60, 140, 70), (130, 70, 160))


def write_report(folder: Path, header: Mapping[str, Any], results: Mapping[str, Result]) -> list[Path]:
    """Write everything into `folder`; the paths written. Text goes in last, so that a report names only
    pictures that exist."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, result in results.items():
        if result.examples or result.curves:
            path = folder / f"{name}.png"
            picture(result).save(path)
            written.append(path)
    data = {**header, "suites": {name: as_json(result) for name, result in results.items()}}
    for path, text in (
        (folder / "report.json", json.dumps(data, indent=2, allow_nan=False)),
        (folder / "report.md", markdown(header, results)),
    ):
        path.write_text(text + "\n", encoding="utf-8")
        written.append(path)
    return written


def as_json(result: Result) -> dict[str, Any]:
    goals = [goal.to_json() for goal in result.goals]
    return _finite(plain({"numbers": result.numbers, "goals": goals, "notes": result.notes,
                          "seconds": round(result.seconds, 1)}))  # fmt: skip


def markdown(header: Mapping[str, Any], results: Mapping[str, Result]) -> str:
    lines = ["# Evaluation", ""]
    lines += [f"- {name.replace('_', ' ')}: {_words(value)}" for name, value in header.items()]
    goals = [goal for result in results.values() for goal in result.goals]
    if goals:
        lines += ["", "## Goals", "", *goal_lines(goals)]
    for name, result in results.items():
        lines += ["", f"## {name.capitalize()}", ""]
        lines += [f"{note}\n" for note in result.notes]
        for table in result.tables:
            lines += [f"**{table.title}**", "", *table_lines(table), ""]
        if result.examples or result.curves:
            lines.append(f"![{name}]({name}.png)")
    return "\n".join(lines)


def goal_lines(goals: Sequence[Goal]) -> list[str]:
    rows: list[list[Cell]] = [
        [
            goal.what,
            _figure(goal.value, goal.unit),
            f"{'at most' if goal.most else 'at least'} {_figure(goal.bound, goal.unit)}",
            "reached" if goal.reached else "not measured" if goal.value is None else "MISSED",
        ]
        for goal in goals
    ]
    return table_lines(Table("", ["what", "measured", "goal", ""], rows))


def table_lines(table: Table) -> list[str]:
    """The table in Markdown, columns aligned so that it reads well in a terminal too."""
    cells = [list(table.header), *([_cell(value) for value in row] for row in table.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.header))]
    padded = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    return [padded[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *padded[1:]]


def picture(result: Result) -> Image.Image:
    """Curves, then rows of example pictures under their words."""
    charts = [chart(title, lines) for title, lines in result.curves.items()]
    rows = [_row(example) for example in result.examples]
    parts = [*charts, *rows]
    sheet = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def chart(
    title: str, lines: Mapping[str, Sequence[float]], size: tuple[int, int] = (640, 300)
) -> Image.Image:
    """Lines over steps 1, 2, ...; the axis runs from the smallest to the largest value."""
    image = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    left, top, right, bottom = 50, 30, size[0] - 20, size[1] - 30
    values = [value for line in lines.values() for value in line]
    low, high = min(values), max(max(values), min(values) + 1e-6)
    steps = max(len(line) for line in lines.values())
    draw.text((left, 6), title, fill="black", font=font)
    draw.rectangle((left, top, right, bottom), outline=(180, 180, 180))
    for value in (low, (low + high) / 2, high):
        y = bottom - (value - low) / (high - low) * (bottom - top)
        draw.text((4, y - 8), f"{value:.1f}", fill="black", font=font)
    for number, (name, line) in enumerate(lines.items()):
        ink = INKS[number % len(INKS)]
        points = [
            (
                left + step / max(steps - 1, 1) * (right - left),
                bottom - (value - low) / (high - low) * (bottom - top),
            )
            for step, value in enumerate(line)
        ]
        draw.line(points, fill=ink, width=2)
        draw.text((left + 8 + number * 190, bottom + 8), name, fill=ink, font=font)
    return image


def _row(example: Example) -> Image.Image:
    font = ImageFont.load_default(12)
    words = "".join(letter if letter.isprintable() else " " for letter in example.words)[:120]
    width = max(len(example.pictures) * (TILE + GAP) + GAP, round(font.getlength(words)) + 2 * GAP)
    image = Image.new("RGB", (width, TILE + LINE + 2 * GAP), "white")
    ImageDraw.Draw(image).text((GAP, GAP), words, fill="black", font=font)
    for place, shown in enumerate(example.pictures):
        tile = Image.fromarray(shown).resize((TILE, TILE), Image.Resampling.NEAREST)
        image.paste(tile, (GAP + place * (TILE + GAP), LINE + GAP))
    return image


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} dB" if unit == "dB" else f"{100 * value:.1f} %"


def _cell(value: Cell) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value).replace("|", "/")


def _words(value: Any) -> str:
    return (
        ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
    )


def _finite(value: Any) -> Any:
    """Infinite ends of an interval from one sample are null in JSON."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value
