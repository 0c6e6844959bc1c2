"""Pictures drawn by a model for the captions of scenes, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.ground.bases import prompt
from unified.eval.lab.ground.scenes import caption
from unified.eval.lab.ground.tokenizers import as_pictures
from unified.tasks.scenes.scene import Scene

from unified.backbone.layer_pass import Depth, LayerPart
from unified.cache.policy import CachePolicy
from unified.decoding.drawing import Hook
from unified.decoding.guidance import Guidance, needs_null
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import Strategy
from unified.orders import plan_for
from unified.orders.shapes import Shapes

SAMPLER = Sampler(top_k=64)


@dataclass(frozen=True, kw_only=True)
class How:
    """How pictures are drawn: the order, its map sizes and data, and the parts that are plugged in; `parts`:
    those around layers, of the pictures with these numbers. `watch` is shown the session after every step.
    """

    order: str
    shapes: Shapes
    data: tuple[int, ...] = ()
    sampler: Sampler = SAMPLER
    guidance: Guidance | None = None
    policy: CachePolicy | None = None
    depth: Depth | None = None
    strategy: Strategy | None = None
    hook: Hook | None = None
    parts: Callable[[slice], Sequence[LayerPart]] | None = None
    watch: Callable[[Session], None] | None = None

    def but(self, **changed: Any) -> How:
        """The same with some fields changed."""
        return replace(self, **changed)


@dataclass(frozen=True)
class Drawn:
    """`codes` [N, T] in slot order and `pictures` uint8 [N, H, W, 3]; of a picture the network `calls` (null
    branch included) and the largest number of `bytes` of keys and values while it was written; `seconds` of
    all."""

    codes: Tensor
    pictures: np.ndarray
    calls: float
    bytes: float
    seconds: float


def draw(model: Any, tokenizer: Any, scenes: Sequence[Scene], how: How, *, seed: int, rows: int) -> Drawn:
    """Picture n is drawn with the noise of seed + n, whatever the number of `rows` at once."""
    plan = plan_for(how.order, how.shapes, how.data)
    guided = needs_null(how.guidance, plan)
    codes, calls, most = [], 0, 0
    began = time.perf_counter()
    for start in range(0, len(scenes), rows):
        part = scenes[start : start + rows]
        session = Session(
            model,
            rows=len(part),
            seed=seed + start,
            policy=how.policy,
            depth=how.depth,
            strategy=how.strategy,
            parts=how.parts(slice(start, start + len(part))) if how.parts else (),
        )
        session.feed([prompt(model.vocabulary, caption(one)) for one in part])
        options: dict[str, Any] = {"order": how.order, "data": how.data, "sampler": how.sampler}
        peak = 0
        for _ in session.image(how.shapes, guidance=how.guidance, hook=how.hook, **options):
            peak = max(peak, session.context.cache.nbytes())
            if how.watch is not None:
                how.watch(session)
        most += peak
        calls += session.stats.passes * len(part) * (2 if guided else 1)
        codes.append(session.drawing.codes)
    found = torch.cat(codes)
    pictures = decode(tokenizer, found, how.shapes)
    seconds = time.perf_counter() - began
    return Drawn(found, pictures, calls / len(scenes), most / len(scenes), seconds)


@torch.no_grad()
def decode(tokenizer: Any, codes: Tensor, shapes: Shapes) -> np.ndarray:
    """Codes [N, T] of all maps -> pictures uint8 [N, H, W, 3]."""
    counts = [height * width for height, width in shapes]
    kept = tokenizer.read_shapes(shapes)
    maps = list(codes.split(counts, dim=1))[len(shapes) - len(kept) :]
    return as_pictures(tokenizer.decode_maps(maps, kept))
