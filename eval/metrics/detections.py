"""What a detector says of an image, and the geometry of boxes that compositional metrics share.

Boxes are (left, top, right, bottom) in pixels, y downwards. `Detector` is the one interface between a metric
and whatever finds objects: the scene parser (`unified.eval.scene_detector`) or a pretrained network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

Box = Sequence[float]


@dataclass(frozen=True)
class Detection:
    """One object: `label`, `box` (left, top, right, bottom) in pixels, `score` in [0, 1]; `colours`: a score
    for each colour by name, empty where the detector reads none; `depth`: mean over the object, larger is
    nearer."""

    label: str
    box: Box
    score: float = 1.0
    colours: Mapping[str, float] = field(default_factory=dict)
    depth: float | None = None

    @property
    def colour(self) -> str:
        """The colour of the highest score, the first of equal ones. ValueError where none was read."""
        if not self.colours:
            raise ValueError(f"the detector read no colour of the {self.label}: give it a colour classifier")
        return max(self.colours, key=lambda name: self.colours[name])


class Detector(Protocol):
    """Finds objects in an image."""

    def detect(self, image: np.ndarray, labels: Sequence[str]) -> list[Detection]:
        """The objects of an image uint8 [H, W, 3] that bear one of `labels`, in any order and of any
        score."""
        ...


def centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def overlap(a: Box, b: Box, pixel: float = 0.0) -> float:
    """The area that two boxes share; `pixel` is added to every length (1: the last pixel belongs to a
    box)."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + pixel
    height = min(a[3], b[3]) - max(a[1], b[1]) + pixel
    return max(width, 0.0) * max(height, 0.0)


def area(box: Box, pixel: float = 0.0) -> float:
    return max(box[2] - box[0] + pixel, 0.0) * max(box[3] - box[1] + pixel, 0.0)


def iou(a: Box, b: Box, pixel: float = 0.0) -> float:
    """Intersection over union; 0 for boxes without area."""
    shared = overlap(a, b, pixel)
    union = area(a, pixel) + area(b, pixel) - shared
    return shared / union if union else 0.0
