"""Scene programs: one call for each shape of a picture, with named values and numbers; text and back.

    add(shape=square, colour=red, size=small, x=0.25, y=0.50, angle=30)

One call a line, sorted by x, then y, so that a picture has one program. x and y are fractions of the side, y
downwards; angles are in degrees, to the right, from 0 to below the angle after which a shape looks the same.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import Any

from unified.tasks.scenes import scene

PERIODS = {"square": 90.0, "triangle": 120.0, "heart": 360.0}  # degrees after which a shape looks the same
SHAPES = tuple(PERIODS)
COLOURS = {name: rgb for name, rgb in scene.COLOURS.items() if name not in ("white", "black")}
SIZES = {"small": 0.11, "large": 0.17}  # radius in units of the side
WORDS: dict[str, tuple[str, ...]] = {"shape": SHAPES, "colour": tuple(COLOURS), "size": tuple(SIZES)}
NUMBERS = {"x": 2, "y": 2, "angle": 0}  # decimals in text
NUMBER = r"(\d+(?:\.\d+)?)"
CALL = re.compile(rf"add\(shape=(\w+), colour=(\w+), size=(\w+), x={NUMBER}, y={NUMBER}, angle={NUMBER}\)")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One call."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    angle: float

    def __post_init__(self) -> None:
        for name, known in WORDS.items():
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(known)}")
        for name in ("x", "y"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)!r}")
        if not 0 <= self.angle < 360:
            raise ValueError(f"angle must be from 0 to below 360 degrees, got {self.angle!r}")

    @property
    def words(self) -> tuple[str, str, str]:
        return self.shape, self.colour, self.size


Program = tuple[Part, ...]


def ordered(parts: Program) -> Program:
    """By x, then y."""
    return tuple(sorted(parts, key=lambda part: (part.x, part.y)))


def text_of(program: Program) -> str:
    return "\n".join(
        f"add(shape={p.shape}, colour={p.colour}, size={p.size}, "
        f"x={p.x:.{NUMBERS['x']}f}, y={p.y:.{NUMBERS['y']}f}, angle={p.angle:.{NUMBERS['angle']}f})"
        for p in program
    )


def parse(text: str) -> Program | None:
    """The program that a text is, None if any line of it is no call or has a value that there is not."""
    found = []
    for line in text.strip().splitlines():
        call = CALL.fullmatch(line.strip())
        if call is None:
            return None
        shape, colour, size, *numbers = call.groups()
        x, y, angle = map(float, numbers)
        try:
            found.append(Part(shape=shape, colour=colour, size=size, x=x, y=y, angle=angle))
        except ValueError:
            return None
    return tuple(found)


def to_json(program: Program) -> list[dict[str, Any]]:
    return [asdict(part) for part in program]


def from_json(data: Any) -> Program:
    """The inverse of `to_json`. ValueError for anything else."""
    try:
        return tuple(Part(**part) for part in data)
    except TypeError as error:
        raise ValueError(f"not the data of a program: {error}") from None


def canonical(program: Program) -> str:
    """As one string, which decides the split."""
    return json.dumps(to_json(ordered(program)), sort_keys=True)


def angle_error(shape: str, one: float, other: float) -> float:
    """Degrees between two angles of a shape, at most half its period."""
    period = PERIODS[shape]
    off = math.fmod(abs(one - other), period)
    return min(off, period - off)
