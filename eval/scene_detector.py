"""The scene parser as a detector: GenEval's and T2I-CompBench's rules on pictures of coloured shapes.

A box is the outline of the shape as it is drawn; the one colour read has the score 1; a score is the share of
an object's energy that its template explains. `metadata` says a prompt of `unified.tasks.scenes.drawing` in
GenEval's clauses, as far as they can: they know neither sizes nor fills, grounds nor cells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from unified.eval.metrics.detections import Detection
from unified.tasks.scenes.drawing import Prompt
from unified.tasks.scenes.scene import COLOURS

TAGS = {
    "single_object": "single_object",
    "two_objects": "two_object",
    "counting": "counting",
    "colours": "colors",
    "position": "position",
    "colour_attribution": "color_attr",
}
RELATIONS = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
ANY = "object"  # the class of a prompt that states no shape


class SceneDetector:
    """Objects as the scene parser reads them; needs scikit-image. `score`: of every box, for rules whose
    thresholds were set for another detector; None: what the parser's template explains."""

    def __init__(self, score: float | None = None) -> None:
        self.score = score

    def detect(self, image: np.ndarray, labels: Sequence[str]) -> list[Detection]:
        """`Detector.detect`. ValueError for an image that the parser does not read."""
        from unified.tasks.scenes.parser import find_objects, read_ground

        height, width = image.shape[:2]
        found = []
        for fit in find_objects(read_ground(image)):
            item, reach = fit.item, fit.item.radius * min(height, width)
            x, y = item.x * width, item.y * height
            box = (x - reach, y - reach, x + reach, y + reach)
            score = fit.explained if self.score is None else self.score
            colours = {name: float(name == item.colour) for name in COLOURS}
            found += [Detection(name, box, score, colours) for name in (item.shape, ANY) if name in labels]
        return found


def metadata(prompt: Prompt) -> dict[str, Any]:
    """A prompt in GenEval's clauses; counting prompts exclude one more. ValueError for a category that
    GenEval does not have."""
    if prompt.category not in TAGS:
        raise ValueError(f"GenEval has no prompts of {prompt.category!r}: only {', '.join(TAGS)}")
    wanted = Counter((each.wanted.shape or ANY, each.wanted.colour) for each in prompt.demands)
    if prompt.relation:  # of the first to the second
        wanted_in_order = [(each.wanted.shape or ANY, each.wanted.colour, 1) for each in prompt.demands[::-1]]
    else:
        wanted_in_order = [(*key, number) for key, number in wanted.items()]
    include: list[dict[str, Any]] = [
        {"class": name, "count": number} | ({"color": colour} if colour else {})
        for name, colour, number in wanted_in_order
    ]
    if prompt.relation:
        include[-1]["position"] = [RELATIONS[prompt.relation], 0]
    found: dict[str, Any] = {"tag": TAGS[prompt.category], "include": include}
    if prompt.category == "counting":
        found["exclude"] = [{"class": each["class"], "count": each["count"] + 1} for each in include]
    return found
