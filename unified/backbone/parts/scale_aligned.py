"""Keys and values of a source image, shrunk in some layers to the grid of the map that is being written.

VAREdit (arXiv 2508.15772): an image to be edited is given at its finest resolution only. The first layer's
queries, which attend to all of it, get keys of their own resolution (scale-aligned reference): keys, rotated
already, and values are averaged over the areas of a coarser grid, without being normalised again. Later
layers attend locally and see the source as it is. Nothing is learnt. The null rows of guidance see the source
too, so that guidance amplifies the instruction alone. Test: tests/unified/backbone/test_scale_aligned.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.backbone.layer_pass import LayerPart, Memory, Pass
from unified.backbone.parts.steps import steps_of
from unified.orders import Plan
from unified.orders.shapes import Shape, area


class ScaleAlignedSource(LayerPart):
    """`pairs`: by layer, keys and values [B, G, h * w, D] of the source for B rows, row-major over its grid
    `shape` (h, w); `aligned`: the layers whose keys are shrunk. Rows after the first B (null rows) repeat
    them."""

    adds_keys = by_step = True

    def __init__(
        self,
        pairs: Mapping[int, tuple[Tensor, Tensor]],
        shape: Shape,
        aligned: Collection[int] = (0,),
    ) -> None:
        for layer, (key, value) in pairs.items():
            if key.shape != value.shape or key.ndim != 4 or key.shape[2] != area((shape,)):
                raise ValueError(
                    f"layer {layer} needs keys and values [rows, kv heads, {area((shape,))}, head width] of "
                    f"a source of {shape}, got {tuple(key.shape)} and {tuple(value.shape)}"
                )
        self.pairs, self.shape, self.aligned = dict(pairs), shape, frozenset(aligned)

    def memory(self, layer: int, run: Pass) -> Memory | None:
        if layer not in self.pairs or (run.append is not None and run.step < 0):
            return None  # text between images reads no source
        plan, numbers = _plan_of(run), steps_of(run)  # [R, n]
        if plan is None:
            return None
        if len(plan.steps) != len(plan.shapes):
            raise ValueError("a scale-aligned source needs images that are written one map a step")
        start, device = run.rows.start or 0, self.pairs[layer][0].device
        numbers = numbers.to(device)
        rows = (torch.arange(len(numbers), device=device) + start) % len(self.pairs[layer][0])
        key, value = (x[rows] for x in self.pairs[layer])
        if layer not in self.aligned:
            return _seen(key, value, (numbers >= 0)[..., None].expand(-1, -1, key.shape[2]))
        steps = [run.step] if run.step >= 0 else range(len(plan.shapes))
        shapes = [plan.shapes[step] for step in steps]
        own = torch.tensor([number for number, shape in zip(steps, shapes, strict=True)
                            for _ in range(area((shape,)))], device=device)  # fmt: skip
        keys, values = (
            torch.cat([shrunk(x, self.shape, shape) for shape in shapes], dim=2) for x in (key, value)
        )
        return _seen(keys, values, numbers[..., None] == own)


def shrunk(held: Tensor, source: Shape, target: Shape) -> Tensor:
    """Keys or values [R, G, h * w, D] of a grid averaged over the areas of another, [R, G, h' * w', D]."""
    if source == target:
        return held
    rows, groups, _, width = held.shape
    maps = held.transpose(2, 3).reshape(rows, groups * width, *source)
    return F.adaptive_avg_pool2d(maps, target).view(rows, groups, width, -1).transpose(2, 3)


def _plan_of(run: Pass) -> Plan | None:
    """The plan of the image, or of the images of a batch; None where none is written."""
    if run.layout is None:
        return run.plan
    plans = [group.plan for group in run.layout.writes]
    if any(plan.shapes != plans[0].shapes for plan in plans):
        raise ValueError("images of a batch with one scale-aligned source must have the same maps")
    return plans[0] if plans else None


def _seen(keys: Tensor, values: Tensor, mask: Tensor) -> Memory:
    return Memory(keys, values, None if bool(mask.all()) else mask)
