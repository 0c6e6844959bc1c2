"""Whole batches: one pass over all positions under the attention rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from unified.backbone.attention import of_batch
from unified.backbone.layer_pass import Depth, LayerPart, Pass, runs_of
from unified.layout.attention import BLOCK, Index
from unified.layout.layout import Layout

Hidden = Callable[[Tensor, Pass], list[Tensor]]


def run_batch(
    hidden: Hidden,
    inputs: Tensor,
    layout: Layout,
    attention: str,
    layers: int,
    depth: Depth | None = None,
    parts: Sequence[LayerPart] = (),
) -> list[Tensor]:
    """Inputs [B, P, D] of the positions of a layout -> for each head, hidden states [B, P, D]. `hidden` runs
    a backbone of so many `layers`; `attention`: name in `BACKENDS`, "sdpa" where `depth` or `parts` need a
    dense mask."""
    index, positions = layout.merged()
    runs = {} if depth is None else runs_of(depth, layout, layers)
    runs = {number: layout.at_positions(where) for number, where in runs.items()}
    length, device = inputs.shape[1], inputs.device.type
    dense = bool(runs) or any(part.adds_keys for part in parts)
    kind = "sdpa" if dense else attention
    if kind == "by_block":
        inputs, index, positions = _padded(inputs, index, positions)
    low = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if low else inputs.dtype
    attend, seen = of_batch(kind, index, dtype)
    run = Pass(index, positions, seen=seen, attend=attend, runs=runs, parts=parts, layout=layout)
    states = hidden(inputs, run)
    return [state[:, :length] for state in states]


def _padded(inputs: Tensor, index: Index, positions: Tensor) -> tuple[Tensor, Index, Tensor]:
    """Rows of positions padded to a multiple of BLOCK, or of half the power of two below their length: what
    is compiled serves few lengths, and merged rows have many."""
    length = inputs.shape[1]
    index = index.filled(max(BLOCK, 2 ** (length.bit_length() - 2)))
    missing = index.sample.shape[1] - length
    return pad(inputs, (0, 0, 0, missing)), index, pad(positions, (0, missing))
