"""From an assistant turn to numbers: what the maze and the lake task share.

`success`, `progress` and `visual_success` follow the published evaluator; `layout` is the share of this
answer's images that keep the walls (0 without images: look at `images`). `visual_success_corrected` judges
the last image without the published defect. Pictures below 224 pixels are enlarged without smoothing first
(see `enlarge`). `metrics.rates` aggregates these dictionaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from unified.tasks.mazes.image_metrics import (
    SIDE,
    check_image,
    last_image_verdict,
    last_image_verdict_corrected,
    layout_consistent,
    resize,
)
from unified.tasks.mazes.trace import images_of


def check_answer(answer: Any) -> None:
    """Raises ValueError in one line unless `answer` is the content list of an assistant turn."""
    if not isinstance(answer, list):
        raise ValueError(f"an answer is a list of content items, got {type(answer).__name__}")
    for item in answer:
        if not isinstance(item, dict) or item.get("type") not in ("text", "image", "action"):
            raise ValueError("every content item needs a type: text, image or action")
        if item["type"] == "text" and not isinstance(item.get("text"), str):
            raise ValueError("a text item needs a string under the key text")
        if item["type"] == "image":
            check_image(item.get("image"), "the picture of an image item")


def score_images(
    before: np.ndarray, labels: Sequence[np.ndarray], answer: Sequence[dict[str, Any]]
) -> dict[str, float]:
    """Judges the last image against each picture in `labels` (one is enough) and the walls of all images."""
    images, labels = [enlarge(image) for image in images_of(answer)], [enlarge(label) for label in labels]
    before = enlarge(before)
    consistent = sum(layout_consistent(before, image) for image in images)
    last = images[-1:]
    published = [last_image_verdict(before, label, image).success for image in last for label in labels]
    corrected = [
        last_image_verdict_corrected(before, label, image).success for image in last for label in labels
    ]
    return {
        "visual_success": float(any(published)),
        "visual_success_corrected": float(any(corrected)),
        "layout": consistent / len(images) if images else 0.0,
        "images": float(len(images)),
        "consistent_images": float(consistent),
    }


def enlarge(image: np.ndarray) -> np.ndarray:
    """The image as the metric wants it: uint8 [224, 224, 3]. Below 224 pixels are first repeated until the
    longer side is at least 448: by Lanczos alone, ringing around the walls would hide a narrow path."""
    longer = max(image.shape[:2])
    times = -(-2 * SIDE // longer) if longer < SIDE else 1
    return resize(image.repeat(times, axis=0).repeat(times, axis=1), "picture")
