"""Text-to-image prompts: data that says exactly what must hold, its wording, and the score of a drawing.

Categories are those of GenEval (single object, two objects, counting, colours, position, colour attribution;
arXiv 2310.11513) and "complete", which states every attribute and the place of each object. As there, the
number of objects is part of the demand: what is not asked for must not be drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
from unified.tasks.scenes.choice import chance, pick, shuffled
from unified.tasks.scenes.generate import Wish
from unified.tasks.scenes.matching import best_pairs
from unified.tasks.scenes.relations import (
    CELL_NAMES,
    RELATION_PHRASES,
    RELATIONS,
    cell,
    clear,
    holds,
    in_cell,
)
from unified.tasks.scenes.scene import ATTRIBUTES, GROUNDS, Filter, Scene, SceneObject
from unified.tasks.scenes.words import a, counted, listed


@dataclass(frozen=True, kw_only=True)
class Demand:
    """One object that must be drawn, with its place if that is stated."""

    wanted: Filter
    cell: str | None = None

    def __post_init__(self) -> None:
        if self.cell is not None and self.cell not in CELL_NAMES:
            raise ValueError(f"unknown place {self.cell!r}: choose one of {', '.join(CELL_NAMES)}")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a drawing must show: these objects and no others; `relation` is that of the first to the
    second."""

    category: str
    demands: tuple[Demand, ...]
    relation: str | None = None
    background: str | None = None

    def __post_init__(self) -> None:
        if self.category not in CATEGORIES:
            raise ValueError(f"unknown category {self.category!r}: choose one of {', '.join(CATEGORIES)}")
        if not self.demands:
            raise ValueError("a prompt needs at least one object")
        if self.relation is not None and (self.relation not in RELATIONS or len(self.demands) < 2):
            raise ValueError(
                f"a relation is one of {', '.join(RELATIONS)} between two objects, got {self.relation!r}"
            )
        if self.background is not None and self.background not in GROUNDS:
            raise ValueError(f"unknown background {self.background!r}: choose one of {', '.join(GROUNDS)}")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "demands": [asdict(demand) for demand in self.demands]}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Prompt:
        """The inverse of `to_json`. Raises ValueError for anything else."""
        try:
            demands = [Demand(wanted=Filter.from_json(d["wanted"]), cell=d["cell"]) for d in data["demands"]]
            return Prompt(**{**data, "demands": tuple(demands)})
        except (TypeError, KeyError) as error:
            raise ValueError(f"not the data of a prompt: {error}") from None


def _alone(rng: np.random.Generator, scene: Scene, names: tuple[str, ...]) -> Prompt | None:
    category = "colours" if "colour" in names else "single_object"
    return Prompt(category=category, demands=(Demand(wanted=Filter.of(scene.objects[0], names)),))


def _two(rng: np.random.Generator, scene: Scene, names: tuple[str, ...]) -> Prompt | None:
    wanted = [Filter.of(item, names) for item in scene.objects]
    if wanted[0].shape == wanted[1].shape or (wanted[0].colour and wanted[0].colour == wanted[1].colour):
        return None
    category = "colour_attribution" if "colour" in names else "two_objects"
    return Prompt(category=category, demands=tuple(Demand(wanted=item) for item in wanted))


def _counting(rng: np.random.Generator, scene: Scene, names: tuple[str, ...]) -> Prompt | None:
    names = tuple(name for name in names if len({getattr(item, name) for item in scene.objects}) == 1)
    demands = tuple(Demand(wanted=Filter.of(item, names)) for item in scene.objects)
    return Prompt(category="counting", demands=demands)


def _position(rng: np.random.Generator, scene: Scene, names: tuple[str, ...]) -> Prompt | None:
    pair = _two(rng, scene, names)
    first, second = scene.objects
    relations = [r for r in RELATIONS if holds(first, second, r) and clear(first, second, r)]
    if pair is None or not relations:
        return None
    return replace(pair, category="position", relation=pick(rng, relations))


def _complete(rng: np.random.Generator, scene: Scene, names: tuple[str, ...]) -> Prompt | None:
    demands = tuple(
        Demand(wanted=Filter.of(item, names), cell=cell(item)) for item in shuffled(rng, scene.objects)
    )
    return Prompt(category="complete", demands=demands, background=scene.background)


@dataclass(frozen=True, kw_only=True)
class Category:
    """How prompts of one category are made: the scenes they need and the attributes they may state."""

    wish: Wish
    names: tuple[str, ...]
    make: Callable[[np.random.Generator, Scene, tuple[str, ...]], Prompt | None]


CATEGORIES: dict[str, Category] = {
    "single_object": Category(wish=Wish(most=1), names=("shape",), make=_alone),
    "two_objects": Category(wish=Wish(least=2, most=2), names=("shape",), make=_two),
    "counting": Category(wish=Wish(least=2, shared=("shape",)), names=("shape",), make=_counting),
    "colours": Category(wish=Wish(most=1), names=("colour", "shape"), make=_alone),
    "position": Category(wish=Wish(least=2, most=2), names=("shape",), make=_position),
    "colour_attribution": Category(wish=Wish(least=2, most=2), names=("colour", "shape"), make=_two),
    "complete": Category(wish=Wish(), names=ATTRIBUTES, make=_complete),
}


def category_wish(category: str, least: int, most: int, coloured: bool = False) -> Wish | None:
    """The scenes that prompts of this category need, within limits on the number of objects; None if there
    are none. `coloured` prompts state every colour, which leaves out the categories that never do."""
    wish = CATEGORIES[category].wish
    if coloured and category in ("single_object", "two_objects"):
        return None
    if coloured and category == "counting":
        wish = replace(wish, shared=("shape", "colour"))
    low, high = max(least, wish.least), min(most, wish.most)
    return replace(wish, least=low, most=high) if low <= high else None


def check_categories(names: tuple[str, ...], least: int, most: int, coloured: bool = False) -> None:
    """Raises ValueError unless prompts of some of these categories can be made, as in `category_wish`."""
    unknown = [name for name in names if name not in CATEGORIES]
    if unknown:
        raise ValueError(f"unknown category {unknown[0]!r}: choose some of {', '.join(CATEGORIES)}")
    if not any(category_wish(name, least, most, coloured) for name in names):
        what = "prompts that state every colour" if coloured else "prompts"
        raise ValueError(f"no category of {list(names)} has {what} about {least} to {most} objects")


def demand(rng: np.random.Generator, scene: Scene, category: str, coloured: bool = False) -> Prompt | None:
    """A prompt of the category that this scene fulfils, or None; `coloured` ones state every colour."""
    names = CATEGORIES[category].names
    if category in ("counting", "position") and (coloured or chance(rng, 0.4)):
        names = ("colour", *names)
    prompt = CATEGORIES[category].make(rng, scene, names)
    plain = prompt is not None and not all(each.wanted.colour for each in prompt.demands)
    return None if coloured and plain else prompt


def loosened(rng: np.random.Generator, prompt: Prompt, scene: Scene) -> Prompt:
    """A prompt that says another part of what is true of the scene: complete ones leave out sizes, fills,
    places or the ground now and then; others, but for counts and relations, may name places. Shapes and
    colours that are stated stay."""
    if prompt.category == "complete":
        dropped = [name for name in ("size", "fill") if chance(rng, 0.4)]
        placed = chance(rng, 0.8)
        demands = tuple(
            replace(
                each,
                wanted=replace(each.wanted, **dict.fromkeys(dropped)),
                cell=each.cell if placed else None,
            )
            for each in prompt.demands
        )
        return replace(prompt, demands=demands, background=prompt.background if chance(rng, 0.4) else None)
    if prompt.category == "counting" or prompt.relation or not chance(rng, 0.5):
        return prompt
    pairs = zip(prompt.demands, scene.objects, strict=True)
    return replace(prompt, demands=tuple(replace(each, cell=cell(item)) for each, item in pairs))


OPENINGS = ("Draw {}.", "Please draw {}.", "Make a picture of {}.", "Show me {}.", "An image of {}.", "{}")


def prompt_text(rng: np.random.Generator, prompt: Prompt) -> str:
    """The prompt in words: all that its data states and nothing else."""
    if prompt.relation:
        first, second = (a(rng, each.wanted) for each in prompt.demands)
        text = f"{first} {pick(rng, RELATION_PHRASES[prompt.relation])} {second}"
    else:
        groups = Counter((each.wanted, each.cell) for each in prompt.demands)
        text = listed([_phrase(rng, *key, number) for key, number in groups.items()])
    if prompt.background:
        text += f", on a {prompt.background} background"
    return pick(rng, OPENINGS).format(text)


def _phrase(rng: np.random.Generator, wanted: Filter, place: str | None, number: int) -> str:
    text = counted(rng, wanted, number)
    return f"{text} in the {place}" if place else text


def score_drawing(prompt: Prompt, drawn: Scene) -> dict[str, float]:
    """How far a drawing, as read by the parser, meets the prompt; each number in [0, 1].

    count: the number of objects is exact. shape, colour, size, fill, position: share of the demanded ones
    that hold under the best pairing; only what the prompt states is in the result. all: everything holds at
    once."""
    pairs = _best_pairing(prompt, drawn.objects)
    met: dict[str, list[bool]] = {}
    for i, wish in enumerate(prompt.demands):
        item = drawn.objects[pairs[i]] if i in pairs else None
        for name, truth in _held(wish, item):
            met.setdefault(name, []).append(truth)
    if prompt.relation:
        met.setdefault("position", []).append(_relation_held(prompt, drawn.objects, pairs))
    if prompt.background:
        met["background"] = [drawn.background == prompt.background]
    met["count"] = [len(drawn.objects) == len(prompt.demands)]
    scores = {name: sum(truths) / len(truths) for name, truths in met.items()}
    return {**scores, "all": float(all(score == 1 for score in scores.values()))}


def _held(wish: Demand, item: SceneObject | None) -> list[tuple[str, bool]]:
    held = [
        (name, item is not None and getattr(item, name) == value)
        for name, value in wish.wanted.stated().items()
    ]
    place = [("position", item is not None and in_cell(item, wish.cell))] if wish.cell else []
    return held + place


def _relation_held(prompt: Prompt, objects: tuple[SceneObject, ...], pairs: dict[int, int]) -> bool:
    return 0 in pairs and 1 in pairs and holds(objects[pairs[0]], objects[pairs[1]], str(prompt.relation))


def _best_pairing(prompt: Prompt, objects: tuple[SceneObject, ...]) -> dict[int, int]:
    """Demands to drawn objects: the pairing under which most holds. Shape weighs most, so that parts of one
    object are not credited to another."""
    weights = {"shape": 1.5, "colour": 1.2}
    gain = np.array(
        [
            [sum(weights.get(name, 1.0) * t for name, t in _held(wish, item)) for item in objects]
            for wish in prompt.demands
        ]
    ).reshape(len(prompt.demands), len(objects))
    if prompt.relation and len(objects) <= 6:  # a relation couples two pairs: try them all
        options = [
            dict(enumerate(order)) for order in permutations(range(len(objects)), min(2, len(objects)))
        ]
        return max(
            options,
            key=lambda pairs: (
                sum(gain[i, j] for i, j in pairs.items()) + _relation_held(prompt, objects, pairs)
            ),
            default={},
        )
    return dict(best_pairs(gain))
