"""A scene as data: coloured shapes on a ground, exactly as drawn.

Coordinates: x and y are the centre of an object as fractions of the image's width and height, y downwards.
Radii are fractions of the shorter side, so one description can be drawn at any size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

T = TypeVar("T")

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "heart", "moon")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 36, 42),
    "orange": (244, 132, 22),
    "yellow": (248, 220, 44),
    "green": (32, 150, 58),
    "cyan": (48, 206, 226),
    "blue": (36, 72, 216),
    "purple": (126, 40, 178),
    "pink": (246, 112, 190),
    "white": (252, 252, 252),
    "black": (14, 14, 16),
}
SIZES = {"small": 0.085, "medium": 0.125, "large": 0.18}
FILLS = ("solid", "outline")

# Muted grounds of medium lightness: every object colour is at least 85 RGB units away from every one of them.
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "grey": (152, 152, 152),
    "beige": (188, 172, 146),
    "slate": (96, 108, 126),
    "sage": (142, 166, 144),
    "mauve": (166, 146, 168),
}
# Grounds of pictures that are read; the scene parser, and so the scorers of drawings, know those above.
GROUNDS: dict[str, tuple[int, int, int]] = {
    **BACKGROUNDS,
    "white": (252, 252, 252),
    "black": (12, 12, 14),
    "light grey": (216, 216, 216),
    "dark grey": (66, 66, 68),
    "cream": (250, 240, 214),
    "light blue": (200, 222, 244),
    "light pink": (248, 214, 224),
    "light green": (206, 236, 206),
    "dark blue": (22, 30, 84),
    "dark green": (18, 66, 36),
    "brown": (112, 74, 46),
}
TEXTURES = ("plain", "gradient", "speckle", "checker", "stripes")

ATTRIBUTES = ("shape", "colour", "size", "fill")
VALUES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "size": tuple(SIZES),
    "fill": FILLS,
}


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One shape. `fill` "outline" means a stroke along the inner edge, with the ground showing through."""

    shape: str
    colour: str
    size: str
    fill: str
    x: float
    y: float

    def __post_init__(self) -> None:
        for name in ATTRIBUTES:
            check_value(name, getattr(self, name))
        for name in ("x", "y"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1):
                raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}")

    @property
    def radius(self) -> float:
        return SIZES[self.size]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A ground and the objects on it, later ones drawn on top. `texture_seed` fixes the texture's random
    parts."""

    background: str = "grey"
    texture: str = "plain"
    texture_seed: int = 0
    objects: tuple[SceneObject, ...] = ()

    def __post_init__(self) -> None:
        if self.background not in GROUNDS:
            raise ValueError(f"unknown background {self.background!r}: choose one of {', '.join(GROUNDS)}")
        if self.texture not in TEXTURES:
            raise ValueError(f"unknown texture {self.texture!r}: choose one of {', '.join(TEXTURES)}")
        if not isinstance(self.texture_seed, int) or self.texture_seed < 0:
            raise ValueError(f"texture_seed must be a whole number of at least 0, got {self.texture_seed!r}")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "objects": [asdict(item) for item in self.objects]}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Scene:
        """The inverse of `to_json`. Raises ValueError for anything else."""
        return _built(
            "a scene", lambda: Scene(**{**data, "objects": tuple(map(object_from_json, data["objects"]))})
        )

    def canonical(self) -> str:
        """The objects alone as one string, whatever their order: what decides the split a scene belongs
        to."""
        objects = sorted(json.dumps(asdict(item), sort_keys=True) for item in self.objects)
        return "[" + ",".join(objects) + "]"


@dataclass(frozen=True, kw_only=True)
class Filter:
    """The attributes an object must have; None leaves one open. Referring to objects is done with these."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    fill: str | None = None

    def __post_init__(self) -> None:
        for name, value in self.stated().items():
            check_value(name, value)

    def stated(self) -> dict[str, str]:
        """The attributes that are asked for."""
        return {name: value for name in ATTRIBUTES if (value := getattr(self, name)) is not None}

    def matches(self, item: SceneObject) -> bool:
        return all(getattr(item, name) == value for name, value in self.stated().items())

    def select(self, objects: tuple[SceneObject, ...]) -> list[SceneObject]:
        return [item for item in objects if self.matches(item)]

    @staticmethod
    def of(item: SceneObject, names: tuple[str, ...] = ATTRIBUTES) -> Filter:
        """The filter that names these attributes of one object."""
        return Filter(**{name: getattr(item, name) for name in names})

    @staticmethod
    def from_json(data: dict[str, Any]) -> Filter:
        return _built("a filter", lambda: Filter(**data))


def object_from_json(data: dict[str, Any]) -> SceneObject:
    return _built("an object", lambda: SceneObject(**data))


def check_value(name: str, value: Any) -> None:
    if value not in VALUES[name]:
        raise ValueError(f"unknown {name} {value!r}: choose one of {', '.join(VALUES[name])}")


def _built(what: str, build: Callable[[], T]) -> T:
    try:
        return build()
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not the data of {what}: {error}") from None
