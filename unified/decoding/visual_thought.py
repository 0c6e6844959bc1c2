"""A drawn image as a thought: what is read between a prompt and the answer to it.

FutureSightDrive (arXiv 2505.17685) lets a model draw the near future, reads its own drawing, and only then
plans; GoViG (arXiv 2508.09547) draws the views of a way before it is told in words. Whether such a drawing is
*used* shows when another is put in its place, and whether what helps is the drawing or the mere length of the
thought shows when ids without meaning are. A thought here is what of drawn codes is read: `own`, `foreign`
(that of the next row), `filler` (the same codes for everybody, nothing is drawn) or `none`. Later ids never
see a WRITE segment and stand where they would without one, so reading codes in a fresh session is the same as
having drawn them there. Test: tests/unified/decoding/test_visual_thought.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from unified.decoding.drawing import Generator
from unified.decoding.session import Session
from unified.orders.shapes import Shapes, area

FILLER_SEED = 17


class Thought(Protocol):
    """What is read as a thought."""

    draws: bool  # whether it needs a drawing

    def codes(self, drawn: Tensor, shapes: Shapes, visual: int) -> Tensor | None:
        """[B, R] of codes [B, R] as they were drawn, of maps `shapes` and a codebook of `visual`; None for
        no thought."""
        ...


class NoThought:
    """The answer follows the prompt."""

    draws = False

    def codes(self, drawn: Tensor, shapes: Shapes, visual: int) -> None:
        return None


class OwnThought:
    """What the model drew."""

    draws = True

    def codes(self, drawn: Tensor, shapes: Shapes, visual: int) -> Tensor:
        return drawn


class ForeignThought:
    """What it drew for the row before, the first row being given that of the last. ValueError for a single
    row."""

    draws = True

    def codes(self, drawn: Tensor, shapes: Shapes, visual: int) -> Tensor:
        if len(drawn) < 2:
            raise ValueError("a foreign thought needs at least two rows")
        return drawn.roll(1, dims=0)


class FillerThought:
    """As many ids without meaning: fixed codes, the same in every row."""

    draws = False

    def codes(self, drawn: Tensor, shapes: Shapes, visual: int) -> Tensor:
        return filler(len(drawn), shapes, visual)


THOUGHTS: dict[str, Thought] = {
    "none": NoThought(),
    "own": OwnThought(),
    "foreign": ForeignThought(),
    "filler": FillerThought(),
}


def filler(rows: int, shapes: Shapes, visual: int) -> Tensor:
    """[rows, R]: codes without meaning."""
    generator = torch.Generator().manual_seed(FILLER_SEED)
    return torch.randint(visual, (area(shapes),), generator=generator).expand(rows, -1)


def draw_ahead(
    model: Generator, prompts: Sequence[Sequence[int]], shapes: Shapes, *, seed: int = 0, **options: Any
) -> Tensor:
    """The codes [B, R] that a model reads of what it draws after prompts; `options` as of
    `Session.draw`."""
    session = Session(model, rows=len(prompts), seed=seed)
    session.feed(prompts)
    return session.draw(shapes, **options).read()


def think(session: Session, thought: Thought, drawn: Tensor, shapes: Shapes) -> None:
    """Let every row of a session read a thought: `drawn` [B, R] of maps `shapes`, codes from 0, as of
    `draw_ahead` (of a thought that draws nothing any of B rows). Without a thought the session is as it
    was."""
    words = session.vocabulary
    found = thought.codes(drawn, shapes, words.visual)
    if found is not None:
        session.feed([words.read_segment(row, shapes) for row in found.tolist()])
