"""What experiments measure. Accuracy is read from pixels by the scene parser; the Frechet distance is on
fixed random features whose hash is part of its name, and never called FID."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.ground import scenes as told
from unified.eval.lab.ground.bases import rows
from unified.eval.lab.ground.drawing import Drawn, How, draw
from unified.eval.metrics.frechet import RandomConvFeatures, frechet_of
from unified.eval.metrics.images import pooled_psnr
from unified.tasks.scenes.parser import parse
from unified.tasks.scenes.relations import cell
from unified.tasks.scenes.scene import Scene

from unified.orders.shapes import Shapes

FEATURES = RandomConvFeatures()
FRECHET = f"frechet {FEATURES.name}"  # its name among what is measured


def scores(scenes: Sequence[Scene], pictures: np.ndarray) -> dict[str, float]:
    """Means over pictures of what the parser reads against the captions, and the Frechet distance to true
    pictures of the same scenes (biased upward for few: compare equal numbers)."""
    every = [told.score(one, picture) for one, picture in zip(scenes, pictures, strict=True)]
    found = {name: float(np.mean([one[name] for one in every])) for name in every[0]}
    true = told.pictures(scenes, pictures.shape[1])
    return {**found, FRECHET: frechet_of(true, pictures, FEATURES)}


def measured(scenes: Sequence[Scene], drawn: Drawn) -> dict[str, float]:
    """`scores`, and the cost of a picture."""
    cost = {"calls": drawn.calls, "bytes": drawn.bytes, "seconds": drawn.seconds / len(scenes)}
    return {**scores(scenes, drawn.pictures), **cost}


def layout_of(picture: np.ndarray) -> tuple[tuple[str, str, str, str], ...]:
    """What the parser sees: shape, colour, size and cell of each object, in their order."""
    return tuple(sorted((o.shape, o.colour, o.size, cell(o)) for o in parse(picture).objects))


def diversity(
    model: Any, tokenizer: Any, scenes: Sequence[Scene], how: How, *, seed: int, rows: int, each: int = 4
) -> float:
    """Mean number of distinct layouts among `each` drawings of one caption, divided by `each`."""
    repeated = [one for one in scenes for _ in range(each)]
    drawn = draw(model, tokenizer, repeated, how, seed=seed, rows=rows)
    layouts = [layout_of(picture) for picture in drawn.pictures]
    groups = [layouts[start : start + each] for start in range(0, len(layouts), each)]
    return float(np.mean([len(set(group)) / each for group in groups]))


@torch.no_grad()
def likelihood(
    model: Any, captions: Tensor | None, codes: Tensor, order: str, shapes: Shapes, data: tuple[int, ...] = ()
) -> dict[str, Any]:
    """Exact, in nats: `nll` of a code, `by_step` of a code of each step, `image` [N] of each picture. Codes
    [N, T]."""
    sums, steps, counts = [], [], None
    for start in range(0, len(codes), 32):
        part = None if captions is None else captions[start : start + 32]
        batch = rows(model.vocabulary, part, codes[start : start + 32], order, shapes, data)
        found = model(batch.ids, labels=batch.labels, layout=batch.layout, return_logits=False)
        scored = -found.log_probs
        sums.append(scored.sum(dim=1))
        step = batch.layout.step[0]
        counts = step[step >= 0].bincount()
        by = torch.zeros(len(scored), len(counts)).index_add_(1, step[step >= 0], scored[:, step >= 0])
        steps.append(by)
    assert counts is not None
    image = torch.cat(sums)
    by_step = (torch.cat(steps).mean(dim=0) / counts).tolist()
    return {"nll": float(image.mean()) / codes.shape[1], "by_step": by_step, "image": image}


@torch.no_grad()
def latent_psnr(tokenizer: Any, one: Tensor, other: Tensor, shapes: Shapes) -> float:
    """PSNR between two drawings in the tokenizer's code vectors, the range being that of the first."""
    counts = [height * width for height, width in shapes]
    a, b = (tokenizer.vectors(codes.split(counts, dim=1)[-1]).float() for codes in (one, other))
    error = float((a - b).square().mean())
    span = float(a.max() - a.min())
    return 100.0 if error < 1e-10 else float(10 * np.log10(span**2 / error))


def pixel_psnr(one: Iterable[np.ndarray], other: Iterable[np.ndarray]) -> float:
    """Pooled over pictures uint8 [N, H, W, 3]."""
    return pooled_psnr(one, other)
