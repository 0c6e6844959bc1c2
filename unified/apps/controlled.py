"""Drawing under a picture, and enlarging one, with a trained control (`apps.adapters`).

The control's features are those of the condition at every map of the image (`apps.conditions`); both branches
of guidance see them, so that guidance amplifies the words alone. Enlarging follows NSARM (arXiv 2510.00820):
the small picture gives the codes of the maps that it has the pixels for, the model goes on from them. Unlike
there, the codes are those of the enlarged small picture, not of a network that restores it, and the rest is
drawn under a control by the small picture. What is larger than the model's images is drawn tile by tile, with
overlaps that fade into one another. Tests: tests/unified/apps/test_controlled.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from unified.apps.adapters import Adapter
from unified.apps.conditions import features
from unified.backbone.layer_pass import LayerPart
from unified.decoding.editing import give_maps
from unified.finite import check_count
from unified.orders import Plan, plan_for
from unified.orders.shapes import Shapes
from unified.stream.processor import Processor
from unified.tokenizers.images import to_images

LARGER = "Draw the picture larger."  # what is said to the model, in training too
OVERLAP = 4  # the share of a tile's side, one in so many, that two tiles have in common
LARGEST = 4096  # pixels of an enlarged picture's longer side


def reading(adapter: Adapter, picture: np.ndarray, plan: Plan) -> LayerPart:
    """The part of a control with a condition uint8 [H, W, 3] for images of a plan."""
    part: Any = adapter.modules["part"]
    weight = next(part.parameters())
    read = features(to_images(picture), plan, adapter.options["patch"])
    found: LayerPart = part.reading(read.to(weight), plan)
    return found


def given_maps(
    processor: Processor, picture: np.ndarray, shapes: Shapes, factor: float
) -> list[torch.Tensor]:
    """The codes [1, n] of the maps that a picture enlarged by `factor` has the pixels for: up to a side of
    1 / factor of the last map's. None for orders that do not write map by map."""
    item = processor.image_item(picture, drawn=True)
    plan = plan_for(item["order"], shapes)
    if len(plan.steps) != len(plan.shapes) or len(item["codes"]) != plan.length:
        return []
    maps = torch.tensor([item["codes"]]).split([h * w for h, w in shapes], dim=1)
    limit = max(shapes[-1]) / factor
    return [codes for codes, shape in zip(maps[:-1], shapes, strict=False) if max(shape) <= limit]


# Tiles ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """A tile of an enlarged picture: rows and columns, in pixels."""

    rows: slice
    columns: slice


def tiles(height: int, width: int, side: int) -> list[Tile]:
    """Tiles of at most `side` x `side` pixels that cover a picture, an OVERLAPth of a side or more in
    common."""
    every = [_spans(length, side) for length in (height, width)]
    return [Tile(rows, columns) for rows in every[0] for columns in every[1]]


def _spans(length: int, side: int) -> list[slice]:
    if length <= side:
        return [slice(0, length)]
    step = side - max(side // OVERLAP, 1)
    count = -(-(length - side) // step) + 1
    starts = [round(number * (length - side) / (count - 1)) for number in range(count)]
    return [slice(start, start + side) for start in starts]


def joined(pictures: list[np.ndarray], places: list[Tile], height: int, width: int) -> np.ndarray:
    """Tiles uint8 as one picture uint8 [H, W, 3]: a mean whose weights fall towards the borders of a tile."""
    total, weights = np.zeros((height, width, 3)), np.zeros((height, width, 1))
    for picture, place in zip(pictures, places, strict=True):
        down, across = (np.minimum(np.arange(n) + 1, np.arange(n)[::-1] + 1) for n in picture.shape[:2])
        weight = np.minimum.outer(down, across)[..., None]
        total[place.rows, place.columns] += weight * picture
        weights[place.rows, place.columns] += weight
    return np.rint(total / weights).astype(np.uint8)


def enlarged(picture: np.ndarray, to: int, stride: int) -> np.ndarray:
    """A picture uint8 [H, W, 3] whose longer side is made `to` pixels (bicubic), both sides multiples of
    `stride`. ValueError for a `to` that is no multiple, no larger than the picture, or above LARGEST."""
    check_count("to", to, stride)
    height, width = picture.shape[:2]
    if to % stride or not max(height, width) < to <= LARGEST:
        raise ValueError(
            f"to must be a multiple of {stride} above the picture's {max(height, width)} pixels and at most "
            f"{LARGEST}, got {to}"
        )
    sides = [
        max(stride, round(length * to / max(height, width) / stride) * stride) for length in (width, height)
    ]
    return np.asarray(Image.fromarray(picture).resize((sides[0], sides[1]), Image.Resampling.BICUBIC))


def continued(settings: Any, maps: list[torch.Tensor]) -> Any:
    """Settings under which an image begins with given maps."""
    return replace(settings, hook=give_maps(maps)) if maps else settings
