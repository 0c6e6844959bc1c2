"""GenEval's rules: is what a prompt names in an image, in its number, colour and place, and nothing too many?

Each prompt is `metadata`: a tag (the task), `include` clauses {class, count, color?, position?} that must all
hold and `exclude` clauses {class, count} of which none may. Scores are 0 or 1 an image; a task's score is the
mean of its images, the overall score the plain mean of the tasks. Ghosh et al., arXiv 2310.11513
(djghosh13/geneval, whose rules these are on any `Detector`; there Mask2Former and CLIP). `python -m
unified.checkpoints verify` compares them with the released functions on given boxes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from unified.eval.metrics.detections import Box, Detection, Detector, iou

LEAST_OFFSET = 1e-3  # pixels: below this on both axes two centres have no relation
LEAST_SHARE = 0.5  # of the offset's length that an axis must have for a relation


@dataclass(frozen=True, kw_only=True)
class Rules:
    """`threshold`: a box counts above this score, in prompts of tag "counting" above `counting_threshold`; at
    most `max_objects` a class; of boxes that overlap by an IoU of at least `max_overlap` only the best counts
    (1: all do); `position_threshold`: share of both sizes by which an offset is reduced."""

    threshold: float = 0.3
    counting_threshold: float = 0.9
    max_objects: int = 16
    max_overlap: float = 1.0
    position_threshold: float = 0.1


RELEASED = Rules()


@dataclass(frozen=True)
class Judgement:
    """`reason`: one line for each clause that does not hold, empty if the image is correct; `kept`: the boxes
    that counted, by class, best first."""

    correct: bool
    reason: str
    kept: Mapping[str, Sequence[Detection]]


def score_image(
    detector: Detector, image: np.ndarray, metadata: Mapping[str, Any], rules: Rules = RELEASED
) -> Judgement:
    """The judgement of an image uint8 [H, W, 3]."""
    clauses = [*metadata.get("include", ()), *metadata.get("exclude", ())]
    labels = list(dict.fromkeys(clause["class"] for clause in clauses))
    return judge(metadata, detector.detect(image, labels), rules)


def judge(metadata: Mapping[str, Any], detections: Iterable[Detection], rules: Rules = RELEASED) -> Judgement:
    """Whether every clause holds of what a detector found. ValueError for a colour that it did not read, or a
    position that refers to no earlier clause."""
    kept = counted(detections, metadata.get("tag") == "counting", rules)
    reasons: list[str] = []
    taken: list[Sequence[Detection] | None] = []  # of each include clause; None: it failed
    for clause in metadata.get("include", ()):
        found = kept.get(clause["class"], ())[: clause["count"]]
        reason = _missing(clause, found) or _misplaced(clause, found, taken, rules)
        taken.append(None if reason else found)
        reasons += [reason] if reason else []
    for clause in metadata.get("exclude", ()):
        number = len(kept.get(clause["class"], ()))
        if number >= clause["count"]:
            reasons.append(f"expected {clause['class']}<{clause['count']}, found {number}")
    return Judgement(not reasons, "\n".join(reasons), kept)


# Which boxes count ------------------------------------------------------------------------------------------


def counted(detections: Iterable[Detection], counting: bool, rules: Rules) -> dict[str, list[Detection]]:
    """By class the boxes that count, best first; classes without any are left out."""
    limit = np.float32(rules.counting_threshold if counting else rules.threshold)
    found: dict[str, list[Detection]] = {}
    for one in detections:
        found.setdefault(one.label, []).append(one)
    kept = {}
    for label, every in found.items():
        best = [one for one in sorted(every, key=lambda one: -one.score) if np.float32(one.score) > limit]
        best = _apart(best[: rules.max_objects], rules.max_overlap)
        if best:
            kept[label] = best
    return kept


def _apart(best: list[Detection], max_overlap: float) -> list[Detection]:
    """Greedy removal of overlaps, best first."""
    if max_overlap >= 1:
        return best
    kept: list[Detection] = []
    for one in best:
        if all(box_iou(other.box, one.box) < max_overlap for other in kept):
            kept.append(one)
    return kept


def box_iou(a: Box, b: Box) -> float:
    """Of boxes whose last pixel belongs to them, in float32 as detectors give them."""
    return float(iou(np.asarray(a, np.float32), np.asarray(b, np.float32), np.float32(1)))  # type: ignore[arg-type]


# Clauses ----------------------------------------------------------------------------------------------------


def _missing(clause: Mapping[str, Any], found: Sequence[Detection]) -> str:
    """Why the boxes taken are too few, or not of the colour; empty if they will do."""
    name, count = clause["class"], clause["count"]
    if len(found) < count:
        return f"expected {name}>={count}, found {len(found)}"
    wanted = clause.get("color")
    if wanted is None:
        return ""
    colours = Counter(one.colour for one in found)
    if colours[wanted] >= count:
        return ""
    order = found[0].colours if found else {}
    seen = ", ".join(f"{colours[colour]} {colour}" for colour in order if colours[colour])
    return f"expected {wanted} {name}>={count}, found {colours[wanted]} {wanted}; and {seen}"


def _misplaced(
    clause: Mapping[str, Any],
    found: Sequence[Detection],
    taken: Sequence[Sequence[Detection] | None],
    rules: Rules,
) -> str:
    """Which pair of own and target box lacks the relation; empty if none does."""
    if not clause.get("position"):
        return ""
    wanted, target = clause["position"]
    if not 0 <= target < len(taken):
        raise ValueError(
            f"position of {clause['class']} refers to clause {target}, which is not an earlier one"
        )
    others = taken[target]
    if others is None:
        return f"no target for {clause['class']} to be {wanted}"
    for one in found:
        for other in others:
            held = relations(one.box, other.box, rules.position_threshold)
            if wanted not in held:
                seen = " and ".join(held)
                return f"expected {clause['class']} {wanted} target, found {seen} target"
    return ""


def relations(a: Box, b: Box, position_threshold: float = 0.1) -> list[str]:
    """Where box a lies from box b: none, one or two of "left of", "right of", "above", "below".

    The offset of the centres is reduced on each axis by `position_threshold` times both sizes, and divided by
    its length *before* that: what is straight beside must be two such reductions away."""
    boxes = np.asarray([a, b], np.float32).reshape(2, 2, 2)  # [box, corner, axis]
    centres, sizes = boxes.mean(axis=1), np.abs(boxes[:, 1] - boxes[:, 0])
    offset = centres[0] - centres[1]
    reduced = np.abs(offset) - np.float32(position_threshold) * (sizes[0] + sizes[1])
    reduced = np.sign(offset) * np.maximum(reduced, 0)
    if (np.abs(reduced) < LEAST_OFFSET).all():
        return []
    across, down = reduced / np.linalg.norm(offset)
    found = {
        "left of": across < -LEAST_SHARE,
        "right of": across > LEAST_SHARE,
        "above": down < -LEAST_SHARE,
        "below": down > LEAST_SHARE,
    }
    return [name for name, held in found.items() if held]


# Scores of many images --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One image: the task of its prompt, a text that tells prompts apart, and whether it is correct."""

    tag: str
    prompt: str
    correct: bool


@dataclass(frozen=True)
class Summary:
    """`tasks`: correct images and images of each tag, in order of first appearance; `prompts`: of all
    distinct prompts, those with at least one correct image."""

    tasks: Mapping[str, tuple[int, int]]
    prompts: tuple[int, int]

    @property
    def images(self) -> tuple[int, int]:
        right, every = zip(*self.tasks.values(), strict=True)
        return sum(right), sum(every)

    @property
    def overall(self) -> float:
        """The plain mean of the tasks' shares."""
        return float(np.mean([right / every for right, every in self.tasks.values()]))

    def __str__(self) -> str:
        """As the released script prints it."""
        lines = ["Summary", "=======", f"Total images: {self.images[1]}", f"Total prompts: {self.prompts[1]}"]
        lines.append(f"% correct images: {self.images[0] / self.images[1]:.2%}")
        lines.append(f"% correct prompts: {self.prompts[0] / self.prompts[1]:.2%}")
        lines += ["", "Task breakdown", "=============="]
        for tag, (right, every) in self.tasks.items():
            lines.append(f"{tag:<16} = {right / every:.2%} ({right} / {every})")
        return "\n".join([*lines, "", f"Overall score (avg. over tasks): {self.overall:.5f}", ""])


def summarise(rows: Sequence[Row]) -> Summary:
    """ValueError without any image."""
    if not rows:
        raise ValueError("no images to summarise")
    tasks: dict[str, tuple[int, int]] = {}
    prompts: dict[str, bool] = {}
    for row in rows:
        right, every = tasks.get(row.tag, (0, 0))
        tasks[row.tag] = (right + row.correct, every + 1)
        prompts[row.prompt] = prompts.get(row.prompt, False) or row.correct
    return Summary(tasks, (sum(prompts.values()), len(prompts)))
