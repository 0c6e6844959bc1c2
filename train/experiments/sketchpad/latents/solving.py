"""Mazes solved in words and latent sketches, with the model's own and with others in their place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unified.train.experiments.sketchpad.codec import picture_of
from unified.train.experiments.sketchpad.latents.model import encode, painter_of
from unified.train.experiments.sketchpad.solving import Mazes, samples_of, scored, substitutes
from unified.train.experiments.sketchpad.traces import question

from unified.apps.pages import Answer
from unified.decoding.noise import Noise
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.heads.distribution import Drawn
from unified.vision_language.processor import PretrainedProcessor
from unified.vision_language.sketchpad.model import Images, Sketchpad
from unified.vision_language.sketchpad.thinking import Sketch, SketchRule, Thinking

Given = Callable[[int, int], Tensor]
"""Features [n, V] in the place of sketch k of maze n."""


@dataclass(frozen=True, kw_only=True)
class WithoutSketches(Sampler):
    """Never says the id that begins an image."""

    begin: int
    temperature: float = 0.0

    def draw(self, logits: Tensor, noise: Noise, places: Tensor) -> Drawn:
        banned = logits.clone()
        banned[..., self.begin] = float("-inf")
        return super().draw(banned, noise, places)


def solved(
    pad: Sketchpad,
    processor: PretrainedProcessor,
    form: str,
    shown: str,
    size: int,
    mazes: Mazes,
    *,
    page: int,
    seed: int = 0,
) -> dict[str, Any]:
    """As `sketchpad.solving.solved`, maze by maze."""
    began = time.monotonic()
    task, samples = samples_of(size, mazes, shown)
    pictures = [sample.messages[0]["content"][0]["image"] for sample in samples]
    solver = Solver(pad, processor, form, page, mazes, allowed=shown != "none")
    given = features_given(pad, substitutes(form, shown, samples, 1, seed), shown, seed)
    answers = [solver(picture, number, given) for number, picture in enumerate(pictures)]
    return scored(task, samples, answers, began)


def features_given(
    pad: Sketchpad, codes: Callable[[int, int], Sequence[int] | None] | None, shown: str, seed: int
) -> Given | None:
    """Features of the pictures in `codes`; noise is normal in every channel, and the connector's norm gives
    it the length of features."""
    if codes is None:
        return None
    if shown == "noise":
        return lambda maze, sketch: _noise(pad, [seed, maze, sketch])
    return lambda maze, sketch: encode(pad, [picture_of(np.array(codes(maze, sketch)))]).features[0]


def _noise(pad: Sketchpad, seed: Sequence[int]) -> Tensor:
    shape = pad.tokens * pad.connector.merge, pad.head.config.vision_width
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


@dataclass
class Solver:
    """Answers mazes in the words and sketches of a form, a page of `page` sketches at a time: the next one
    begins with the latest sketch, its latents, as its picture. `allowed`: whether it may draw."""

    pad: Sketchpad
    processor: PretrainedProcessor
    form: str
    page: int
    mazes: Mazes
    allowed: bool = True

    @torch.no_grad()
    def __call__(self, picture: np.ndarray, number: int = 0, given: Given | None = None) -> Answer:
        """The answer about one maze; `number`: of the maze, for `given`."""
        ids = self.processor.prompt(question(self.form, picture)).ids
        images = encode(self.pad, [picture])
        parts: list[str | Sketch] = []
        began = time.monotonic()
        while True:
            made = self._thinking(ids, images)
            drawn = sum(isinstance(part, Sketch) for part in parts)
            if given is not None:
                made.given = _shifted(given, number, drawn)
            parts += list(made)
            late = self.mazes.seconds is not None and time.monotonic() - began > self.mazes.seconds
            sketches = [part for part in parts if isinstance(part, Sketch)]
            if made.stopped != "sketches" or late or len(sketches) >= self.mazes.sketches:
                return Answer(self._content(parts), "" if made.stopped == "end" else made.stopped)
            images = Images([sketches[-1].features])

    def _thinking(self, ids: Sequence[int], images: Images) -> Thinking:
        pad = self.pad
        session = Session(pad.reader)
        session.feed(ids, values=pad.values(images, [False]))
        rule = SketchRule(closer=None, sketches=self.page, max_tokens=self.mazes.words)
        sampler = Sampler(temperature=0) if self.allowed else WithoutSketches(begin=pad.begin)
        return Thinking(pad, self.processor, session, rule, sampler, images)

    def _content(self, parts: Sequence[str | Sketch]) -> list[dict[str, Any]]:
        paint = painter_of(self.pad)
        return [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image", "image": paint(part.features)}
            for part in parts
        ]


def _shifted(given: Given, maze: int, drawn: int) -> Callable[[int], Tensor]:
    """By sketch of a page instead of by sketch of the answer."""
    return lambda sketch: given(maze, drawn + sketch)
