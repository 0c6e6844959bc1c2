"""Scenes of the suite in the first renderer or in a style of the second one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from unified.eval.suites.ood.painting import paint
from unified.eval.suites.ood.reading import Read, read
from unified.eval.suites.ood.settings import PALETTES, STYLES, Style
from unified.tasks.scenes.generate import Wish, random_scene
from unified.tasks.scenes.parser import parse
from unified.tasks.scenes.render import render
from unified.tasks.scenes.scene import Scene

CONTRAST = 100.0  # RGB distance of every object from the ground, at least


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A scene and its picture; `style` None: by the first renderer."""

    scene: Scene
    style: Style | None
    picture: np.ndarray

    @property
    def ground(self) -> str:
        return self.style.ground_name if self.style else self.scene.background

    def read(self, picture: np.ndarray) -> Read:
        """What an edited version of the picture shows."""
        if self.style is not None:
            return read(picture, self.style)
        parsed = parse(picture)
        return Read(objects=parsed.objects, ground_kept=parsed.background == self.scene.background)

    def holds(self, colour: str) -> bool:
        """Whether an object of this colour would stand out from the ground."""
        return self.style is None or stands_out(colour, self.style)


def show(rng: np.random.Generator, split: str, number: int, second: bool, most: int = 4) -> Shown:
    """A random scene of at most `most` objects; `second`: by the second renderer, in style `number`."""
    style = STYLES[number % len(STYLES)] if second else None
    while True:
        scene = random_scene(rng, split, Wish(most=most))
        if style is None:
            return Shown(scene=scene, style=None, picture=render(scene, 64))
        if all(stands_out(item.colour, style) for item in scene.objects):
            return Shown(scene=scene, style=style, picture=paint(scene, style))


def stands_out(colour: str, style: Style) -> bool:
    ink = np.array(PALETTES[style.palette][colour], dtype=float)
    return all(float(np.linalg.norm(ink - np.array(ground))) >= CONTRAST for ground in style.ground)
