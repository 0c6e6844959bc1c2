"""VAREdit: Infinity with a source image. Keys and values of the source, at its finest resolution only, are
seen by all maps; in the first layer they are shrunk to the grid of the map that asks (scale-aligned
reference).

Source: Visual Autoregressive Modeling for Instruction-Guided Image Editing, arXiv 2508.15772;
HiDream-ai/VAREdit (MIT). There are no parameters beside Infinity's. Different from the published code: the
source, which sees itself alone, is run once by itself, in training too. Positions are the published ones:
rows of the table of one megapixel in sequence, from its first on, so that at lower resolutions source and
maps are placed along a line. Tests: tests/unified/checkpoints/varedit/test_network.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from unified.backbone.layer_pass import Pass
from unified.backbone.parts.scale_aligned import ScaleAlignedSource
from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_bits import area_resized
from unified.checkpoints.infinity_config import InfinityConfig
from unified.checkpoints.infinity_layers import Shared, TextCondition
from unified.checkpoints.infinity_rope import STRETCHED, grid_angles, rotations
from unified.checkpoints.infinity_schedules import full_grid, nearest_ratio, schedule, schedules
from unified.checkpoints.infinity_text import TextStream
from unified.checkpoints.next_scale import MapWriter, block_causal
from unified.layout.attention import Seen
from unified.orders import Plan
from unified.orders.shapes import Shape, Shapes, area

SOURCE = "source"  # the name of the placeholders of a source image
Pairs = tuple[tuple[Tensor, ...], ...]


@dataclass(frozen=True, eq=False)
class EditCondition(TextCondition):
    """What texts and source images decide. `source`: for each layer keys and values [R, H, S, C]."""

    source: Pairs = ()

    def stack(self, below: TextCondition) -> EditCondition:
        assert isinstance(below, EditCondition)
        pairs = zip(self.source, below.source, strict=True)
        source = tuple(tuple(map(torch.cat, zip(*pair, strict=True))) for pair in pairs)
        return _with_source(super().stack(below), source)


def _with_source(condition: TextCondition, source: Pairs) -> EditCondition:
    told = {field.name: getattr(condition, field.name) for field in fields(TextCondition)}
    return EditCondition(**told, source=source)


class VAREdit(Infinity):
    """The transformer for images of one size: `shapes` are its maps, of which the last is the source's grid
    too. The source is part of the prompt (`prompt(..., source=count)` with values "source"), so that both
    branches of guidance see it."""

    def __init__(self, config: InfinityConfig, shapes: Shapes | None = None) -> None:
        super().__init__(config)
        if config.rope != STRETCHED:
            raise ValueError(f"the rotary embedding of editing has mode {STRETCHED}, got rope {config.rope}")
        self.shapes: Shapes = schedule(1.0, "0.25M") if shapes is None else shapes
        self.vocabulary = self.vocabulary.extended(f"continuous:{SOURCE}")
        self.texts = TextStream(self.vocabulary)

    # The source ---------------------------------------------------------------------------------------------

    @property
    def source_length(self) -> int:
        """Tokens of a source image."""
        return area(self.shapes[-1:])

    def source_tokens(self, latent: Tensor) -> Tensor:
        """The encoder's latent [B, d, h, w], not quantised -> tokens [B, S, token bits]."""
        return self.grid.to_tokens(area_resized(latent, self.grid.cells(self.shapes[-1])))

    def edited(self, condition: TextCondition, source: Tensor) -> EditCondition:
        """A condition of texts with the tokens [R, S, token bits] of its rows' source images: their keys and
        values, computed here, once."""
        want = (len(condition.start), self.source_length, self.grid.token_bits)
        if tuple(source.shape) != want:
            raise ValueError(f"source tokens must have shape {want}, got {tuple(source.shape)}")
        kept: list[tuple[Tensor, ...]] = []

        def attend(query: Tensor, key: Tensor, value: Tensor, seen: Seen, scale: float) -> Tensor:
            kept.append((key, value))
            return self.attend(query, key, value, seen, scale)

        level = self.lvl_embed(torch.tensor([len(self.shapes) - 1], device=self.device))[None]
        index = block_causal(self.shapes[-1:]).map(lambda field: field.expand(len(source), -1))
        run = Pass(index, source.new_zeros(3, 1, 1), attend=attend, condition=condition)
        cos, sin = (table[: self.source_length].to(self.device) for table in self._table())
        shared = Shared(condition, (cos, sin), level if self.config.level_every else None)
        hidden = self.later_inputs(source) + level
        for number in range(len(self)):
            hidden = self.layer(number, hidden, shared, run)
        return _with_source(condition, tuple(kept))

    def _table(self) -> tuple[Tensor, Tensor]:
        return table_of(self.shapes, self.config.width // self.config.heads)

    def rotation(self, shapes: Shapes) -> tuple[Tensor, Tensor]:
        cos, sin = (table[self.source_length :] for table in self._table())
        return cos, sin

    # Training and sessions ----------------------------------------------------------------------------------

    def forward(
        self, texts: Sequence[Tensor], vectors: Tensor, shapes: Shapes, source: Tensor | None = None
    ) -> Tensor:
        """Teacher forcing, see `Infinity.forward`; `source` [B, S, token bits] (`source_tokens`)."""
        self._check(shapes)
        if source is None:
            raise ValueError("an edit needs the tokens of its source image")
        return self.forced(self.edited(self.condition(texts), source), vectors, shapes)

    def hidden(self, embeds: Tensor, run: Pass) -> list[Tensor]:
        condition = run.condition
        if not isinstance(condition, EditCondition):
            raise ValueError("no source image was given: feed the model's prompt(length, source=count) first")
        pairs = {number: (key, value) for number, (key, value) in enumerate(condition.source)}
        source = ScaleAlignedSource(pairs, self.shapes[-1])
        return super().hidden(embeds, replace(run, parts=(*run.parts, source)))

    def prompt(self, length: int, negative: int = 0, source: int | None = None) -> list[int]:
        """The stream that asks for an edit: the source's tokens (as many as a source image has), then the
        text as in `Infinity.prompt`."""
        words, count = self.vocabulary, self.source_length if source is None else source
        begin, user, *texts = super().prompt(length, negative)
        return [begin, user, words.read, *[words.placeholder(SOURCE)] * count, words.close, *texts]

    def steer(self, ids: Tensor, values: Mapping[str, Tensor] | None = None) -> TextCondition | None:
        """The features of each row's text, and keys and values of its source image."""
        condition = super().steer(ids, values)
        if condition is None:
            return None
        counts = (ids == self.vocabulary.placeholder(SOURCE)).sum(dim=1).tolist()
        given = (values or {}).get(SOURCE)
        if given is None or set(counts) != {self.source_length}:
            found = ", ".join(map(str, counts))
            raise ValueError(f"each row needs a source image of {self.source_length} tokens, got {found}")
        return self.edited(condition, given.view(len(ids), self.source_length, -1).to(self.device))

    def write(self, plan: Plan, rows: int, condition: Any = None) -> MapWriter:
        self._check(plan.shapes)
        return super().write(plan, rows, condition)

    def _check(self, shapes: Shapes) -> None:
        if shapes != self.shapes:
            raise ValueError(f"this model edits images of the maps {self.shapes}, not {shapes}")


@lru_cache(maxsize=8)
def table_of(shapes: Shapes, width: int) -> tuple[Tensor, Tensor]:
    """cos and sin [S + L, width / 2]: the first rows of the table of the aspect ratio's one-megapixel
    schedule, in which a source stands, shifted by one grid along both axes, before thirteen maps. ValueError
    if the table is too short."""
    full = full_grid(shapes)
    maps = schedules()[nearest_ratio(shapes[-1][0] / shapes[-1][1])]
    with torch.inference_mode(False):
        parts = (shifted(full, width), rotations(maps, width))
        cos, sin = (torch.cat(pair) for pair in zip(*parts, strict=True))
    length = area(shapes[-1:]) + area(shapes)
    if length > len(cos):
        raise ValueError(f"source and maps take {length} positions, of which the table has {len(cos)}")
    return cos[:length], sin[:length]


def shifted(full: Shape, width: int) -> tuple[Tensor, Tensor]:
    """cos and sin [h * w, width / 2] of the cells of a grid (h, w), moved by h rows and w columns."""
    rows, columns = (torch.arange(side, 2 * side, dtype=torch.float32, device="cpu") for side in full)
    cos, sin = grid_angles(rows, columns, width).flatten(1, 2)
    return cos, sin
