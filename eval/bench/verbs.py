"""How long the shipped model takes to answer, draw, imagine and start, beside the goals of the default model.

python -m unified.eval.bench.verbs
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from unified.tasks.scenes import random_scene, render

from unified.apps.assistant import Assistant
from unified.apps.conversation import Text
from unified.apps.loading import load
from unified.apps.rollout import WINDOW, Rollout

BOUNDS = {  # name: (bound, whether more is better, unit)
    "first_token": (0.3, False, "s"),
    "image_with_guidance": (0.5, False, "s"),
    "imagined_frames": (10.0, True, "frames/s"),
    "start_to_first_answer": (10.0, False, "s"),
}
QUESTION = "How many objects are there?"
WALK: dict[str, Any] = {"forward": 1, "camera": [0.0, 3.0]}


def measure(assistant: Assistant, repeats: int) -> dict[str, float]:
    """The median of `repeats` calls of each verb, after one that warms up. Frames are timed when the window
    is full."""
    picture = render(random_scene(np.random.default_rng(0), "test"), assistant.side)
    rollout = Rollout(assistant.model, assistant.processor, [[picture]])
    for _ in range(WINDOW + 1):
        rollout.step([WALK])
    return {
        "first_token": _median(lambda: _first_token(assistant, picture), repeats),
        "image_with_guidance": _median(lambda: assistant.draw("Draw a red circle."), repeats),
        "imagined_frames": 1 / _median(lambda: rollout.step([WALK]), repeats),
        "start_to_first_answer": start_to_answer(picture, assistant.folder),
    }


def lines(measured: dict[str, float]) -> list[str]:
    """One line for each figure, with its goal."""
    found = []
    for name, value in measured.items():
        bound, more, unit = BOUNDS[name]
        verdict = "reached" if (value >= bound if more else value <= bound) else "MISSED"
        words = "at least" if more else "at most"
        found.append(f"{name.replace('_', ' ')}: {value:.3g} {unit} (goal {words} {bound:g}: {verdict})")
    return found


def _first_token(assistant: Assistant, picture: np.ndarray) -> None:
    next(event for event in assistant.chat().say(QUESTION, [picture]) if isinstance(event, Text))


def start_to_answer(picture: np.ndarray, folder: Path | None) -> float:
    """A fresh `unified ask` about a picture, from the command to its last letter."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "scene.png"
        Image.fromarray(picture).save(path)
        command = [sys.executable, "-m", "unified.cli", "ask", QUESTION, "--image", str(path)]
        command += ["--model", str(folder)] if folder else []
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start


def _median(function: Callable[[], Any], repeats: int) -> float:
    function()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m unified.eval.bench.verbs", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", help="a folder (default: the shipped model)")
    parser.add_argument("--repeats", type=int, default=7, help="the median counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        assistant = load(options.model)
    except ValueError as error:
        parser.error(str(error))
    measured = measure(assistant, options.repeats)
    print(json.dumps(measured) if options.json else "\n".join(lines(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
