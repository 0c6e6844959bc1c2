"""Example pictures of the page, scenes and a maze: drawn when it starts, into a folder that goes with it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

LARGE = 6  # pixels of the editor for one of the model's
QUESTIONS = ("How many objects are there?", "Describe the shapes and their colours.")
PROMPTS = (
    "Draw a large red circle and a small blue star.",
    "Draw a green square in the top left.",
    "Draw two yellow triangles.",
)
EDITS = ("Make the cross green.", "Remove the heart.", "Add a small red star.")


class Examples:
    """`scenes` and `maze`: files with pictures of `side` pixels; `large`: the scenes enlarged, for an
    editor."""

    def __init__(self, side: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="unified-page-")
        pictures = _scenes(side)
        self.scenes = [self._write(f"scene-{n}", one) for n, one in enumerate(pictures, start=1)]
        self.large = [enlarged(one, LARGE) for one in pictures]
        self.maze = self._write("maze", _maze(side))

    def _write(self, name: str, picture: np.ndarray) -> str:
        path = Path(self._folder.name) / f"{name}.png"
        Image.fromarray(picture).save(path)
        return str(path)


def enlarged(picture: np.ndarray, times: int) -> np.ndarray:
    """[H, W, 3] -> [H * times, W * times, 3], each pixel a square."""
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def shrunk(picture: np.ndarray, times: int = LARGE) -> np.ndarray:
    """What `enlarged` made larger, exactly; any other picture as it is."""
    small = picture[::times, ::times]
    same = small.shape[0] * times == picture.shape[0] and small.shape[1] * times == picture.shape[1]
    return small if same and (enlarged(small, times) == picture).all() else picture


def _scenes(side: int) -> list[np.ndarray]:
    from unified.tasks.scenes import random_scene, render
    from unified.tasks.scenes.generate import Wish

    rngs = [np.random.default_rng(seed) for seed in (5, 7)]
    return [render(random_scene(rng, "test", Wish(least=2, most=3)), side) for rng in rngs]


def _maze(side: int) -> np.ndarray:
    from unified.tasks.mazes import MazeConfig, MazeTask

    sample = MazeTask(MazeConfig(seed=0, image_size=side, sizes=((4, 4),))).sample(0, "test")
    found: np.ndarray = sample.messages[0]["content"][0]["image"]
    return found
