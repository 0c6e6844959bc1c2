"""Where objects are, alone and to each other.

A relation compares one coordinate of two centres. It *holds* by the sign of the difference; it is *clear*,
and may be asked about or stated, when the difference is at least `CLEAR` of the picture. A place is one cell
of a 3x3 grid; it is clear when the centre keeps `GUARD` from the lines between cells. Scorers of drawings
accept `TOLERANCE` beyond a cell.
"""

from __future__ import annotations

from unified.tasks.scenes.scene import Filter, SceneObject

CLEAR = 0.1
GUARD = 0.03
TOLERANCE = 0.05

RELATIONS = ("left", "right", "above", "below")
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
RELATION_PHRASES: dict[str, tuple[str, ...]] = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above",),
    "below": ("below",),
}

# Names of the cells by row and column.
CELLS = (
    ("top left", "top centre", "top right"),
    ("middle left", "centre", "middle right"),
    ("bottom left", "bottom centre", "bottom right"),
)
CELL_NAMES = tuple(name for row in CELLS for name in row)


def lead(a: SceneObject, b: SceneObject, relation: str) -> float:
    """How far a is in that direction from b, as a fraction of the picture; negative on the other side."""
    return {"left": b.x - a.x, "right": a.x - b.x, "above": b.y - a.y, "below": a.y - b.y}[relation]


def holds(a: SceneObject, b: SceneObject, relation: str) -> bool:
    return lead(a, b, relation) > 0


def clear(a: SceneObject, b: SceneObject, relation: str) -> bool:
    """Whether the two differ enough along the relation's axis for a question about it."""
    return abs(lead(a, b, relation)) >= CLEAR


def cell(item: SceneObject) -> str:
    return CELLS[min(2, int(item.y * 3))][min(2, int(item.x * 3))]


def clear_cell(item: SceneObject) -> bool:
    return all(abs(at - line) >= GUARD for at in (item.x, item.y) for line in (1 / 3, 2 / 3))


def bounds(name: str) -> tuple[float, float, float, float]:
    """(left, right, top, bottom) of a cell."""
    row, column = next((r, names.index(name)) for r, names in enumerate(CELLS) if name in names)
    return column / 3, (column + 1) / 3, row / 3, (row + 1) / 3


def in_cell(item: SceneObject, name: str) -> bool:
    """Whether a drawn object lies in the cell, or at most `TOLERANCE` outside it."""
    left, right, top, bottom = bounds(name)
    return left - TOLERANCE <= item.x <= right + TOLERANCE and top - TOLERANCE <= item.y <= bottom + TOLERANCE


def meets(item: SceneObject, wanted: Filter, name: str | None) -> bool:
    """Whether an object is what is wanted and, if a cell is named, in it."""
    return wanted.matches(item) and (name is None or in_cell(item, name))
