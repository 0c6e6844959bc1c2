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
from unified.layout.layout import Layout
from unified.orders import Plan
from unified.orders.shapes import Shape, area
from unified.stream.segments import Kind


class ScaleAlignedSource(LayerPart):
    """`pairs`: by layer, keys and values [B, G, h * w, D] of the source for B rows, row-major over its grid
    `shape` (h, w); `aligned`: the layers whose keys are shrunk. `layout`: that of a whole batch in
    training, which says where its images are. Rows after the first B (null rows) repeat them."""

    adds_keys = by_step = True

    def __init__(
        self,
        pairs: Mapping[int, tuple[Tensor, Tensor]],
        shape: Shape,
        aligned: Collection[int] = (0,),
        layout: Layout | None = None,
    ) -> None:
        for layer, (key, value) in pairs.items():
            if key.shape != value.shape or key.ndim != 4 or key.shape[2] != area((shape,)):
                raise ValueError(
                    f"layer {layer} needs keys and values [rows, kv heads, {area((shape,))}, head width] of "
                    f"a source of {shape}, got {tuple(key.shape)} and {tuple(value.shape)}"
                )
        self.pairs, self.shape, self.aligned, self.layout = dict(pairs), shape, frozenset(aligned), layout

    def memory(self, layer: int, run: Pass) -> Memory | None:
        plan, layout = run.plan, self.layout if run.append is None else None
        if layout is not None and layout.writes:
            plan = layout.writes[0].plan
        if layer not in self.pairs or (plan is None and run.append is not None):
            return None  # text between images reads no source
        if plan is None or len(plan.steps) != len(plan.shapes):
            raise ValueError("a scale-aligned source needs the plan of images written one map a step")
        start, device = run.rows.start or 0, self.pairs[layer][0].device
        numbers = _maps(plan, run, layout).to(device)  # [R, n]
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


def _maps(plan: Plan, run: Pass, layout: Layout | None) -> Tensor:
    """[R, n]: the number of the map that each position writes, -1 where it writes none."""
    label, writes = run.index.label, run.index.kind == int(Kind.WRITE)
    if run.step >= 0:  # the slots of a step share the latest label, marks of the image come before
        latest = torch.where(writes, label, -1).amax(dim=1, keepdim=True)
        return torch.where(writes & (label == latest), run.step, -1)
    if layout is None:
        return plan.labels.expand(len(label), -1)
    numbers = torch.full_like(label, -1)
    for group in layout.writes:
        if group.plan.shapes != plan.shapes:
            raise ValueError("images of a batch with one scale-aligned source must have the same maps")
        numbers[group.rows[:, None], group.slots()] = plan.labels.to(numbers.device)
    return numbers


def _seen(keys: Tensor, values: Tensor, mask: Tensor) -> Memory:
    return Memory(keys, values, None if bool(mask.all()) else mask)
