"""What people call objects, numbers and places: the vocabulary of requests in free wording.

The model's own words are those of `words.py`; these are what it must understand.
"""

from __future__ import annotations

import numpy as np
from unified.tasks.grammar import expand
from unified.tasks.scenes.choice import chance, pick
from unified.tasks.scenes.relations import CELLS
from unified.tasks.scenes.scene import Filter

SIZE_NAMES: dict[str, tuple[str, ...]] = {
    "small": ("small", "small", "small", "little", "tiny", "mini"),
    "medium": ("medium", "medium", "medium-sized", "medium sized", "mid-sized", "middle-sized"),
    "large": ("large", "large", "big", "big", "huge", "giant"),
}
FILL_NAMES: dict[str, tuple[str, ...]] = {
    "solid": ("solid", "solid", "filled", "filled-in", "filled in", "full"),
    "outline": ("outlined", "outlined", "hollow", "empty", "unfilled", "outline"),
}
COLOUR_NAMES: dict[str, tuple[str, ...]] = {
    "purple": ("purple", "purple", "purple", "violet"),
    "cyan": ("cyan", "cyan", "cyan", "turquoise", "aqua"),
    "pink": ("pink", "pink", "pink", "pink", "magenta"),
}
SHAPE_NAMES: dict[str, tuple[str, ...]] = {
    "circle": (*["circle"] * 6, "disc", "disk", "round shape", "ball", "dot"),
    "square": (*["square"] * 6, "box", "block"),
    "triangle": (*["triangle"] * 6, "three-sided shape"),
    "diamond": (*["diamond"] * 5, "rhombus", "lozenge"),
    "star": (*["star"] * 6, "five-pointed star"),
    "cross": (*["cross"] * 5, "plus", "plus sign"),
    "heart": ("heart", "heart", "heart", "heart shape"),
    "moon": (*["moon"] * 5, "crescent", "crescent moon"),
}
ANYTHING = ("object", "shape", "thing", "figure", "item")
IT = ("it", "it", "it", "that", "this", "the object", "the shape", "the thing", "that one", "this one")
RING = "ring"  # an outlined circle
PLURAL_ENDINGS = {"cross": "crosses", "box": "boxes", "rhombus": "rhombuses", "plus": "pluses"}
NUMBER_NAMES = ("no", "one", "two", "three", "four", "five", "six")

# (preposition, name): the cell as a place to be in; the name alone also as one to go to.
PLACE_NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "top centre": (("at", "top"), ("in", "top centre"), ("in", "top middle"), ("at", "middle of the top"),
                   ("in", "upper middle"), ("at", "top centre")),
    "middle left": (("on", "left"), ("on", "left side"), ("in", "middle left"), ("at", "left edge"),
                    ("in", "left middle"), ("in", "centre left"), ("on", "left-hand side")),
    "centre": (("in", "middle"), ("in", "middle"), ("in", "centre"), ("at", "centre"), ("in", "very middle"),
               ("in", "middle of the picture"), ("in", "centre of the image")),
    "middle right": (("on", "right"), ("on", "right side"), ("in", "middle right"), ("at", "right edge"),
                     ("in", "right middle"), ("in", "centre right"), ("on", "right-hand side")),
    "bottom centre": (("at", "bottom"), ("in", "bottom centre"), ("in", "bottom middle"),
                      ("at", "bottom centre"), ("at", "middle of the bottom"), ("in", "lower middle")),
    **{
        f"{row} {side}": (("in", f"{row} {side}"), ("at", f"{row} {side}"), ("in", f"{row} {side} corner"),
                          ("in", f"{other} {side}"), ("in", f"{other} {side} corner"),
                          ("at", f"{row}-{side}"), ("in", f"{row} {side} of the picture"),
                          ("in", f"{other} {side}-hand corner"))
        for row, other in (("top", "upper"), ("bottom", "lower"))
        for side in ("left", "right")
    },
}  # fmt: skip
# Names of a side alone: to go there may mean to keep one's row or column.
BARE = (
    "top",
    "bottom",
    *(f"{side}{end}" for side in ("left", "right") for end in ("", " side", " edge", "-hand side")),
)
WAYS = {"left": "left", "right": "right", "above": "up", "below": "down"}


def noun(rng: np.random.Generator, wanted: Filter, number: int = 1) -> str:
    """What the filter names, without an article: "big filled-in red disc", "stars that are blue"."""
    adjectives = {
        "size": pick(rng, SIZE_NAMES[wanted.size]) if wanted.size else "",
        "fill": pick(rng, FILL_NAMES[wanted.fill]) if wanted.fill else "",
        "colour": pick(rng, COLOUR_NAMES.get(wanted.colour, (wanted.colour,))) if wanted.colour else "",
    }
    head = pick(rng, SHAPE_NAMES[wanted.shape]) if wanted.shape else pick(rng, ANYTHING)
    if wanted.shape == "circle" and wanted.fill == "outline" and chance(rng, 0.2):
        head, adjectives["fill"] = RING, ""
    if not wanted.shape and any(adjectives.values()) and chance(rng, 0.25):
        head = "one"
    head = head if number == 1 else plural(head)
    order = ("fill", "size", "colour") if chance(rng, 0.15) else ("size", "fill", "colour")
    said = [adjectives[name] for name in order if adjectives[name]]
    if said and chance(rng, 0.12):
        return f"{' '.join([*said[:-1], head])} {_after(rng, said[-1], bool(adjectives['colour']), number)}"
    return " ".join([*said, head])


def _after(rng: np.random.Generator, word: str, colour: bool, number: int) -> str:
    """An adjective behind its noun; the last one is the colour if there is one."""
    be = "is" if number == 1 else "are"
    return expand(rng, f"[in|that {be}|of colour]" if colour else f"[that {be}|which {be}]") + f" {word}"


def plural(name: str) -> str:
    """The plural of a name's last word: "plus signs", "boxes"."""
    return PLURAL_ENDINGS.get(name, name + "s")


def a(rng: np.random.Generator, wanted: Filter) -> str:
    text = noun(rng, wanted)
    article = "one" if chance(rng, 0.05) else "an" if text[0] in "aeiou" else "a"
    return text if chance(rng, 0.06) else f"{article} {text}"


def the(rng: np.random.Generator, wanted: Filter) -> str:
    """The object that the filter names; one that says nothing is "it"."""
    if not wanted.stated():
        return pick(rng, IT)
    return f"{pick(rng, ('the',) * 8 + ('that', 'this'))} {noun(rng, wanted)}"


def counted(rng: np.random.Generator, wanted: Filter, number: int) -> str:
    """ "a red disc", "3 little stars"."""
    if number == 1:
        return a(rng, wanted)
    said = str(number) if chance(rng, 0.3) else NUMBER_NAMES[number]
    return f"{said} {noun(rng, wanted, number)}"


def within(rng: np.random.Generator, cell: str, start: str | None = None) -> str:
    """A place to be in: "in the upper left corner". What comes there from the cell `start` may be said to be
    "on the left" only if it keeps its row."""
    bare = start is None or direction(start, cell) is not None
    names = [(before, name) for before, name in PLACE_NAMES[cell] if bare or name not in BARE]
    preposition, name = pick(rng, names)
    return f"{preposition} the {name}"


def towards(rng: np.random.Generator, cell: str, start: str) -> str:
    """A place to go to from the cell `start`: "to the upper left corner". In one row or column the side alone
    says it ("left"); the bare name of a side ("to the left") is not used for anything else."""
    way = direction(start, cell)
    if way and chance(rng, 0.4):
        side = {"above": "top", "below": "bottom"}.get(way, way)
        return expand(rng, f"[to the {side}|to the {side}|all the way {WAYS[way]}|{WAYS[way]}]")
    names = [name for _, name in PLACE_NAMES[cell] if way or name not in BARE]
    return expand(rng, f"[to|to|to|into] the {pick(rng, names)}")


def direction(start: str, cell: str) -> str | None:
    """The side on which a border cell lies as seen from another one in its row or column."""
    (row, column), (to_row, to_column) = _at(start), _at(cell)
    if row == to_row and column != to_column and to_column != 1:
        return "left" if to_column == 0 else "right"
    if column == to_column and row != to_row and to_row != 1:
        return "above" if to_row == 0 else "below"
    return None


def _at(cell: str) -> tuple[int, int]:
    return next((row, names.index(cell)) for row, names in enumerate(CELLS) if cell in names)
