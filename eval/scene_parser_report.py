"""How well the scene parser reads pictures back: `python -m unified.eval.scene_parser_report`.

Renders random scenes, spoils them in known ways, parses them and compares with the description they were
drawn from: objects recovered with all attributes, each attribute, and the answers to questions re-derived
from the pixels.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from unified.eval.metrics.rates import wilson
from unified.tasks.sample import generator
from unified.tasks.scenes.asking import Question, questions_about
from unified.tasks.scenes.generate import random_scene
from unified.tasks.scenes.matching import same_place
from unified.tasks.scenes.parser import parse
from unified.tasks.scenes.questions import answer
from unified.tasks.scenes.render import render
from unified.tasks.scenes.scene import ATTRIBUTES, Scene, SceneObject

from unified.command import Parser, run

WITHIN = 0.03  # of the picture: how far a recovered centre may be off; two pixels of 64

Spoil = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _jpeg(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=75)
    return np.array(Image.open(buffer))


def _blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.rint(gaussian_filter(image.astype(float), (0.7, 0.7, 0))).astype(np.uint8)


def _noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(np.rint(image + rng.normal(0, 8, image.shape)), 0, 255).astype(np.uint8)


CONDITIONS: dict[str, Spoil] = {
    "clean": lambda image, rng: image,
    "jpeg": _jpeg,
    "blur": _blur,
    "noise": _noise,
}


@dataclass(kw_only=True)
class Tally:
    """Counts under one condition. `right` holds, per attribute, the objects found whose attribute is
    right."""

    scenes: int = 0
    objects: int = 0
    recovered: int = 0
    exact_scenes: int = 0
    invented: int = 0
    backgrounds: int = 0
    right: Counter[str] = field(default_factory=Counter)
    questions: int = 0
    agreed: int = 0
    disagreed: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        rates = {
            "recovered_rate": self.recovered / max(1, self.objects),
            "recovered_interval": wilson(self.recovered, self.objects),
            "agreement_rate": self.agreed / max(1, self.questions),
            "agreement_interval": wilson(self.agreed, self.questions),
        }
        counts = {name: dict(value) for name, value in vars(self).items() if isinstance(value, Counter)}
        return {**vars(self), **counts, **rates}


def measure(
    scenes: int, seed: int = 0, size: int = 64, conditions: tuple[str, ...] = tuple(CONDITIONS)
) -> dict[str, Tally]:
    """Renders and parses this many scenes under each condition; every second scene is of the compositional
    split."""
    tallies = {name: Tally() for name in conditions}
    for index in range(scenes):
        split = ("train", "compositional")[index % 2]
        rng = generator(seed, split, index)
        scene = random_scene(rng, split)
        image, questions = render(scene, size), questions_about(rng, scene, split)
        for name, tally in tallies.items():
            _compare(tally, index, scene, parse(CONDITIONS[name](image, rng)), questions)
    return tallies


def _compare(tally: Tally, index: int, truth: Scene, found: Scene, questions: list[Question]) -> None:
    places = same_place(truth.objects, found.objects, WITHIN)
    tally.scenes += 1
    tally.objects += len(truth.objects)
    tally.invented += len(found.objects) - len(places)
    tally.backgrounds += truth.background == found.background
    recovered = 0
    for i, item in enumerate(truth.objects):
        seen = found.objects[places[i]] if i in places else None
        right = [
            name for name in ATTRIBUTES if seen is not None and getattr(seen, name) == getattr(item, name)
        ]
        tally.right.update(right)
        recovered += len(right) == len(ATTRIBUTES)
        if len(right) < len(ATTRIBUTES):
            tally.failures.append(f"scene {index}: {_words(item)} read as {_words(seen)}")
    tally.recovered += recovered
    tally.exact_scenes += recovered == len(truth.objects) == len(found.objects)
    for question in questions:
        derived = _derive(question, found)
        tally.questions += 1
        tally.agreed += derived == question.answer
        if derived != question.answer:
            tally.disagreed[question.query.kind] += 1


def _derive(question: Question, found: Scene) -> str:
    try:
        return answer(question.query, found)
    except ValueError:  # the parsed scene leaves the question open: that is a disagreement, counted as one
        return ""


def _words(item: SceneObject | None) -> str:
    if item is None:
        return "nothing"
    return f"{item.size} {item.fill} {item.colour} {item.shape} at ({item.x:.3f}, {item.y:.3f})"


def report(tallies: dict[str, Tally], failures: int) -> str:
    """The figures as text, with up to `failures` failure cases per condition."""
    lines = []
    for name, tally in tallies.items():
        lines.append(f"{name}: {tally.scenes} scenes, {tally.objects} objects")
        lines.append(f"  recovered with all attributes {_rate(tally.recovered, tally.objects)}")
        parts = [f"{part} {100 * tally.right[part] / max(1, tally.objects):.2f} %" for part in ATTRIBUTES]
        lines.append(
            f"  {', '.join(parts)}, background {100 * tally.backgrounds / max(1, tally.scenes):.2f} %"
        )
        lines.append(
            f"  scenes exact {_rate(tally.exact_scenes, tally.scenes)}, objects invented {tally.invented}"
        )
        lines.append(f"  question agreement {_rate(tally.agreed, tally.questions)} of {tally.questions}")
        lines += [f"  failure: {case}" for case in tally.failures[:failures]]
    return "\n".join(lines)


def _rate(successes: int, trials: int) -> str:
    low, high = wilson(successes, trials)
    return f"{100 * successes / max(1, trials):.2f} % (95 % interval {100 * low:.2f} to {100 * high:.2f})"


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="scene_parser_report", description="Scores the scene parser on rendered scenes.")
    parser.add_argument("--scenes", type=int, default=2000, help="scenes to render (default 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=64, help="side of the pictures in pixels (default 64)")
    parser.add_argument("--failures", type=int, default=5, help="failure cases to print per condition")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures and failures here")
    options = parser.parse_args(arguments)
    if options.scenes < 1 or options.seed < 0 or options.failures < 0:
        parser.error("--scenes must be at least 1, --seed and --failures at least 0")
    if not 32 <= options.size <= 1024:
        parser.error(f"--size must be 32 to 1024 pixels, got {options.size}")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.parent}")
    return run(parser.prog, _report, options)


def _report(options: argparse.Namespace) -> int:
    tallies = measure(options.scenes, options.seed, options.size)
    print(report(tallies, options.failures))
    if options.json:
        figures = {name: tally.to_json() for name, tally in tallies.items()}
        settings = {"scenes": options.scenes, "seed": options.seed, "size": options.size}
        options.json.write_text(json.dumps({**settings, "conditions": figures}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
