"""The task `scene_program`: a picture, then the program that draws it.

The form of IG-LLM (arXiv 2404.15228) on flat shapes. Two kinds of generalisation can be asked for, each by
what the compositional split holds and no other: pairs of shape and colour (`held_out` "pairs", as in CLEVR
CoGenT), or parts whose x lies in a stripe ("stripe").
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from unified.tasks.programs import program as programs
from unified.tasks.programs.program import COLOURS, PERIODS, SHAPES, SIZES, Part, Program
from unified.tasks.programs.render import overlap, render
from unified.tasks.sample import Sample, check_index, check_split, generator, split_of
from unified.tasks.scenes.choice import check_choice, pick

QUESTION = "Write the program that draws this picture."
MOST_PARTS = 6
MOST_DRAWS = 100_000
GRID = 100  # x and y are hundredths
BORDER, GAP = 0.14, 0.02
STRIPE = (0.6, 0.8)  # of x, held out
FAR = 0.25  # a matched part further away than this is none: distance that a missing part counts as
Content = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ProgramConfig:
    """`size`: side of the picture in pixels; `least` to `most` parts; `held_out`: what only the compositional
    split has, "pairs" or "stripe"."""

    seed: int = 0
    size: int = 64
    least: int = 1
    most: int = 3
    held_out: str = "pairs"

    def __post_init__(self) -> None:
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {self.seed!r}")
        if type(self.size) is not int or not 16 <= self.size <= 512:
            raise ValueError(f"size must be 16 to 512 pixels, got {self.size!r}")
        if not (type(self.least) is type(self.most) is int and 1 <= self.least <= self.most <= MOST_PARTS):
            raise ValueError(f"parts must be 1 to {MOST_PARTS}, got {self.least} to {self.most}")
        check_choice("held_out", self.held_out, ("pairs", "stripe"))


def held_out(part: Part, kind: str) -> bool:
    """Whether a part belongs to the compositional split alone."""
    if kind == "pairs":
        return (SHAPES.index(part.shape) + tuple(COLOURS).index(part.colour)) % 4 == 0
    return STRIPE[0] <= part.x <= STRIPE[1]


def program(config: ProgramConfig, index: int, split: str) -> Program:
    """The program with this number, the same every time. In the compositional split every part is held
    out."""
    check_split(split)
    check_index(index)
    rng = generator(config.seed, split, int(index))
    unseen = split == "compositional"
    for _ in range(MOST_DRAWS):
        found = _drawn(rng, config, unseen)
        if found is not None and (unseen or split_of(programs.canonical(found)) == split):
            return found
    raise ValueError(f"no program found for the split {split}")


def _drawn(rng: np.random.Generator, config: ProgramConfig, unseen: bool) -> Program | None:
    parts: list[Part] = []
    for _ in range(int(rng.integers(config.least, config.most + 1))):
        part = _part(rng, config, unseen)
        near = (np.hypot(part.x - p.x, part.y - p.y) < _room(part) + _room(p) + GAP for p in parts)
        if any(near):
            return None
        parts.append(part)
    return programs.ordered(tuple(parts))


def _part(rng: np.random.Generator, config: ProgramConfig, unseen: bool) -> Part:
    while True:
        shape = pick(rng, SHAPES)
        low, high = round(BORDER * GRID), round((1 - BORDER) * GRID)
        x, y = (int(n) / GRID for n in rng.integers(low, high + 1, 2))
        angle = float(rng.integers(int(PERIODS[shape])))
        part = Part(
            shape=shape, colour=pick(rng, tuple(COLOURS)), size=pick(rng, tuple(SIZES)), x=x, y=y, angle=angle
        )
        if held_out(part, config.held_out) == unseen:
            return part


def _room(part: Part) -> float:
    return SIZES[part.size]


class SceneProgram:
    """Inverse graphics: the program of a picture. Implements `unified.tasks.sample.Task`."""

    name = "scene_program"

    def __init__(self, config: ProgramConfig | None = None) -> None:
        self.config = config or ProgramConfig()

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample with this number, the same every time. Raises ValueError for an unknown split or a bad
        index."""
        found = program(self.config, index, split)
        picture = {"type": "image", "image": render(found, self.config.size)}
        asked: Content = [picture, {"type": "text", "text": QUESTION}]
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": [{"type": "text", "text": programs.text_of(found)}]},
        ]
        meta = {"category": f"{len(found)} parts", "program": programs.to_json(found)}
        return Sample(task=self.name, messages=messages, meta=meta)

    def score(self, sample: Sample, answer: Content) -> dict[str, float]:
        """`valid`: the text is a program; the scores of `compare`, for what is none those of an empty one.
        Raises ValueError for a malformed answer."""
        if not isinstance(answer, list) or not all(
            isinstance(item, dict) and item.get("type") in item for item in answer
        ):
            raise ValueError("an answer is a list of text and image items")
        said = programs.parse("".join(item["text"] for item in answer if item["type"] == "text"))
        truth = programs.from_json(sample.meta["program"])
        return {"valid": float(bool(said)), **compare(said or (), truth)}


def compare(said: Program, truth: Program) -> dict[str, float]:
    """How near a program comes to the true one, parts matched so that the sum of distances and of wrong
    words is least. `attributes`: the share of words that are right, `shape`, `colour`, `size` apart;
    `position`: mean distance in units of the side, at most FAR; `angle`: mean error in degrees of parts
    whose shape is right, in units of the period; a part that is missing counts as wrong and far. `count`:
    parts too many or missing; `iou` after rendering both."""
    pairs = match(said, truth)
    missing = len(truth) - len(pairs)
    words = [[a == b for a, b in zip(p.words, t.words, strict=True)] for p, t in pairs]
    right = np.array([*words, *[[False] * 3] * missing], float)  # [N, 3]
    away = [min(FAR, float(np.hypot(p.x - t.x, p.y - t.y))) for p, t in pairs] + [FAR] * missing
    turned = [
        programs.angle_error(t.shape, p.angle, t.angle) / PERIODS[t.shape] if p.shape == t.shape else 0.5
        for p, t in pairs
    ] + [0.5] * missing
    return {
        "attributes": float(right.mean()),
        **dict(zip(programs.WORDS, right.mean(axis=0).tolist(), strict=True)),
        "position": float(np.mean(away)),
        "angle": float(np.mean(turned)),
        "count": float(abs(len(said) - len(truth))),
        "iou": overlap(said, truth),
    }


def match(said: Program, truth: Program) -> list[tuple[Part, Part]]:
    """Pairs of parts, each used once. Of many parts the first MOST_PARTS are looked at."""
    short, long = sorted((said[:MOST_PARTS], truth), key=len)
    best = min(
        permutations(range(len(long)), len(short)),
        key=lambda order: sum(_cost(part, long[n]) for part, n in zip(short, order, strict=True)),
    )
    pairs = [(part, long[n]) for part, n in zip(short, best, strict=True)]
    return pairs if short is not truth else [(other, part) for part, other in pairs]


def _cost(one: Part, other: Part) -> float:
    wrong = sum(a != b for a, b in zip(one.words, other.words, strict=True))
    return float(np.hypot(one.x - other.x, one.y - other.y)) + wrong / 3
