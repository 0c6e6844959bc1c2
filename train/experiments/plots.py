"""Pictures of the results of preference tuning: margins, accuracy, likelihoods by map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

WIDTH, HEIGHT, BORDER = 460, 300, 44
COLOURS = ("#1f6fb2", "#d9720f", "#2d9440", "#c0322f", "#7d57a8", "#7a5548", "#c96fae", "#6b6b6b")
Curve = Sequence[tuple[float, float]]  # (update, value)


def plot(results: Sequence[dict[str, Any]], out: Path) -> Path:
    """`training.png`: of every arm with a log, the curves of its first seed. ValueError if there is none."""
    logs = {r["arm"]: r["seeds"][0]["log"] for r in results if r["seeds"] and r["seeds"][0]["log"]}
    if not logs:
        raise ValueError("no arm of preference tuning is among the results")
    titles = {
        "margin": "rewards/margins",
        "accuracy": "rewards/accuracies",
        "log p of chosen replies, change": "logps/chosen",
        "log p of rejected replies, change": "logps/rejected",
    }
    charts = {
        title: {arm: curve(log, name, change="change" in title) for arm, log in logs.items()}
        for title, name in titles.items()
    }
    for arm, log in logs.items():
        names = sorted({key for entry in log for key in entry if key.startswith("logps/map_")})
        maps = {name.removeprefix("logps/"): curve(log, name, change=True) for name in names}
        if maps:
            charts[f"{arm}: log p by map, change"] = maps
    rows = -(-len(charts) // 2)
    sheet = Image.new("RGB", (2 * WIDTH, rows * HEIGHT), "white")
    for number, (title, curves) in enumerate(charts.items()):
        sheet.paste(chart(title, curves), (number % 2 * WIDTH, number // 2 * HEIGHT))
    path = out / "training.png"
    sheet.save(path)
    return path


def curve(log: Sequence[Mapping[str, Any]], name: str, *, change: bool = False) -> Curve:
    """A figure of the log by update; `change`: from its first value."""
    found = [(float(entry["step"]), float(entry[name])) for entry in log if name in entry]
    first = found[0][1] if found and change else 0.0
    return [(step, value - first) for step, value in found]


def chart(title: str, curves: Mapping[str, Curve]) -> Image.Image:
    """Lines in a frame, with their names and the ends of both axes."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    points = [point for line in curves.values() for point in line] or [(0.0, 0.0)]
    (left, right), (low, high) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    box = (BORDER, BORDER, WIDTH - 12, HEIGHT - 28)
    draw.rectangle(box, outline="#999999")
    draw.text((BORDER, 8), title, fill="black")
    draw.text((2, BORDER - 4), f"{high:.3g}", fill="black")
    draw.text((2, HEIGHT - 38), f"{low:.3g}", fill="black")
    draw.text((BORDER, HEIGHT - 22), f"update {left:g} to {right:g}", fill="black")
    for number, (name, line) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [
            (
                box[0] + (x - left) / (right - left or 1) * (box[2] - box[0]),
                box[3] - (y - low) / (high - low or 1) * (box[3] - box[1]),
            )
            for x, y in line
        ]
        draw.line(places, fill=colour, width=2)
        draw.text((BORDER + 6 + number % 3 * 130, 22 + number // 3 * 10), name, fill=colour)
    return picture
