"""Captions in three degrees of detail, and how a caption is scored: by the objects it mentions.

short: shapes and their numbers. medium: colours too. complete: every attribute, the place of each object and
the ground.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
from unified.tasks.scenes.choice import pick, shuffled
from unified.tasks.scenes.matching import best_pairs
from unified.tasks.scenes.relations import CELL_NAMES, cell, meets
from unified.tasks.scenes.scene import ATTRIBUTES, COLOURS, SHAPES, Filter, Scene
from unified.tasks.scenes.words import MEANINGS, NUMBERS, SINGULARS, a, counted, listed, normal, sentence

DETAILS: dict[str, tuple[str, ...]] = {
    "short": ("shape",),
    "medium": ("colour", "shape"),
    "complete": ATTRIBUTES,
}

REQUESTS: dict[str, tuple[str, ...]] = {
    "short": (
        "Which shapes are in this picture?",
        "Name the shapes in the image.",
        "Caption this image briefly.",
    ),
    "medium": (
        "Describe the shapes and their colours.",
        "What does this picture show? Name shapes and colours.",
        "Caption this image with colours.",
    ),
    "complete": (
        "Describe the picture in full detail.",
        "Give a complete description of this image.",
        "Describe everything: size, fill, colour, shape and place of each object, and the background.",
    ),
}

OPENINGS: dict[str, tuple[str, ...]] = {
    "short": ("{}", "a picture of {}", "there {be} {}"),
    "medium": ("{}", "the picture shows {}", "there {be} {}", "I see {}"),
    "complete": (
        "the picture shows {}",
        "there {be} {}",
        "on a {ground} there {be} {}",
        "the image contains {}",
    ),
}

TEXTURE_PHRASES = {
    "plain": "plain {} background",
    "gradient": "{} background with a gradient",
    "speckle": "speckled {} background",
    "checker": "{} background with a checker pattern",
    "stripes": "striped {} background",
}


def request(rng: np.random.Generator, detail: str) -> str:
    """What a user says to get a caption of this degree of detail."""
    return pick(rng, REQUESTS[detail])


def caption(rng: np.random.Generator, scene: Scene, detail: str) -> str:
    """A true caption. Raises ValueError for an unknown degree of detail."""
    check_detail(detail)
    if detail == "complete":
        items = shuffled(rng, scene.objects)
        parts = [f"{a(rng, Filter.of(item))} in the {cell(item)}" for item in items]
        be = "is"
    else:
        groups = Counter(Filter.of(item, DETAILS[detail]) for item in scene.objects)
        parts = [counted(rng, wanted, number) for wanted, number in shuffled(rng, tuple(groups.items()))]
        be = "is" if parts[0].startswith(("a ", "an ")) else "are"
    ground = TEXTURE_PHRASES[scene.texture].format(scene.background)
    opening = pick(rng, OPENINGS[detail])
    if detail == "complete" and "{ground}" not in opening:
        opening += ", on a {ground}"
    return sentence(opening.format(listed(parts), be=be, ground=ground))


def check_detail(detail: str) -> None:
    if detail not in DETAILS:
        raise ValueError(f"unknown degree of detail {detail!r}: choose one of {', '.join(DETAILS)}")


@dataclass(frozen=True, kw_only=True)
class Mention:
    """Objects that a text speaks of: what they are and, if said, in which cell."""

    wanted: Filter
    number: int = 1
    cell: str | None = None


_ADJECTIVES = sorted({*MEANINGS, *COLOURS}, key=len, reverse=True)
_SHAPE_WORDS = sorted(
    {*SHAPES, *(plural for plural, shape in SINGULARS.items() if shape in SHAPES)}, key=len
)[::-1]
_CELLS = sorted(CELL_NAMES, key=len, reverse=True)
_MENTION = re.compile(
    rf"\b(?:(?P<number>{'|'.join((*NUMBERS, *'0123456789'))})\s+)?"
    rf"(?P<adjectives>(?:(?:{'|'.join(_ADJECTIVES)})\s+)*)"
    rf"(?P<shape>{'|'.join(_SHAPE_WORDS)})\b"
    rf"(?:\s+(?:in|at)\s+the\s+(?P<cell>{'|'.join(_CELLS)})\b)?"
)


def mentions(text: str) -> list[Mention]:
    """The objects a text names, in its order. Words it cannot place are passed over."""
    lowered = re.sub(r"\s+", " ", text.lower().replace(",", " ,").replace("center", "centre"))
    found = []
    for match in _MENTION.finditer(lowered):
        said = match["number"] or "1"
        number = int(said) if said.isdigit() else NUMBERS.index(said)
        shape = SINGULARS.get(match["shape"], match["shape"])
        stated = dict(_meaning(word) for word in match["adjectives"].split())
        found.append(Mention(wanted=Filter(shape=shape, **stated), number=number, cell=match["cell"]))
    return found


def _meaning(word: str) -> tuple[str, str]:
    value = MEANINGS.get(word, word)
    name = "colour" if value in COLOURS else "fill" if value in ("solid", "outline") else "size"
    return name, value


def score_caption(scene: Scene, detail: str, text: str) -> dict[str, float]:
    """precision and recall of the objects a caption mentions, with everything it says of them; `all` is 1 if
    both are 1 and each mention says as much as the degree of detail asks for."""
    check_detail(detail)
    said = [mention for mention in mentions(text) for _ in range(mention.number)]
    true = np.array(
        [[float(meets(item, mention.wanted, mention.cell)) for item in scene.objects] for mention in said],
        dtype=float,
    ).reshape(len(said), len(scene.objects))
    right = sum(true[i, j] for i, j in best_pairs(true))
    full = all(set(DETAILS[detail]) <= set(mention.wanted.stated()) for mention in said)
    if detail == "complete":
        full &= all(mention.cell is not None for mention in said) and scene.background in normal(text).split()
    precision, recall = float(right / max(1, len(said))), float(right / max(1, len(scene.objects)))
    return {
        "precision": precision,
        "recall": recall,
        "all": float(precision == 1 and recall == 1 and full),
    }
