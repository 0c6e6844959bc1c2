"""Compares the maze metrics with a folder of golden vectors: `python -m unified.tasks.mazes.golden FOLDER`.

The folder holds `metrics.json` (text cases and image verdicts) and `metrics_images.safetensors` (`input`,
`label`, `output.<case>`). Prints one line per case; exit status 0 only when all agree, 1 otherwise, 2 for
an unusable folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from unified.tasks.mazes.image_metrics import last_image_verdict, layout_consistent
from unified.tasks.mazes.metrics import score_text

from unified.command import Parser, run
from unified.text_files import content_of, read_json


def verify_metrics(folder: str | Path) -> list[str]:
    """One line per case that disagrees; empty when all agree. Raises ValueError when the folder is
    unusable."""
    return [f"{name}: {difference}" for name, difference in compare_cases(folder) if difference]


def compare_cases(folder: str | Path) -> Iterator[tuple[str, str]]:
    """Per case its name and what differs ("" when nothing does)."""
    cases, images = _load(Path(folder))
    with content_of(Path(folder) / "metrics.json"):
        for index, case in enumerate(cases["text_cases"]):
            expected = {key: value for key, value in case.items() if key not in ("output", "label")}
            yield f"text {index}", _difference(expected, asdict(score_text(case["output"], case["label"])))
        for name, expected in cases["image_cases"].items():
            yield f"image {name}", _difference(expected, _judge(images, name))


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="unified.tasks.mazes.golden", description="check the maze metrics")
    parser.add_argument("folder", help="folder with metrics.json and metrics_images.safetensors")
    return run("error", _compare, parser.parse_args(arguments))


def _compare(options: argparse.Namespace) -> int:
    failures = 0
    for name, difference in compare_cases(options.folder):
        print(f"{name}: {difference or 'agrees'}")
        failures += bool(difference)
    return 1 if failures else 0


def _load(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        cases = read_json(folder / "metrics.json")
        images = load_file(folder / "metrics_images.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"cannot read the golden vectors in {folder}: {error}") from error
    if not isinstance(cases, dict) or not {"text_cases", "image_cases"} <= set(cases):
        raise ValueError(f"{folder / 'metrics.json'} needs the fields text_cases and image_cases")
    return cases, images


def _judge(images: dict[str, np.ndarray], name: str) -> dict[str, bool]:
    missing = {"input", "label", f"output.{name}"} - set(images)
    if missing:
        raise ValueError(f"metrics_images.safetensors lacks {', '.join(sorted(missing))}")
    maze, output = images["input"], images[f"output.{name}"]
    verdict = asdict(last_image_verdict(maze, images["label"], output))
    return {**verdict, "layout_ok": layout_consistent(maze, output)}


def _difference(expected: dict[str, Any], found: dict[str, Any]) -> str:
    wrong = [key for key in expected if key not in found or found[key] != expected[key]]
    return "; ".join(f"{key} is {found.get(key)!r}, expected {expected[key]!r}" for key in wrong)


if __name__ == "__main__":
    raise SystemExit(main())
