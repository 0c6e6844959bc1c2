"""T2I-CompBench's scores of an image, each in [0, 1]: relations in the plane and in depth, numbers,
attributes.

Of detections, depths and answers whoever gives them: `Detector` (there UniDet), `Answers` (there BLIP-VQA).
The rules are those of the released scripts, quirks included: "on top of" always scores 0, one object alone
too, and `released_depth` takes x as the row. Huang et al., arXiv 2307.06350 (Karine-Huang/T2I-CompBench); the
comparison of diffusion with autoregressive models that uses it is arXiv 2410.22775. `python -m
unified.checkpoints verify` compares all of them with the released scripts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from unified.eval.metrics.compbench_prompts import QUESTIONS, questions
from unified.eval.metrics.detections import Box, Detection, area, centre, iou, overlap

SAME = 0.9  # overlap from which two detections of a class are one object
CLASSES = {  # of the detector, where they are not the words of a prompt
    **dict.fromkeys(("boy", "girl", "man", "woman"), "person"),
    "ship": "boat",
    "telivision": "tv",  # so spelt there: "television" stays
    "goldfish": "fish",
    "painting": "picture",
}
SIDES = {
    "on the left of": (0, 1),
    "on the right of": (0, -1),
    "on the top of": (1, 1),
    "on the bottom of": (1, -1),
}
DISTANCES = ("next to", "on side of", "near")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """`near`: pixels within which objects are next to each other (of an image of 512: 0.29 of its side);
    `apart`: the IoU below which two boxes are beside each other; `behind`: the IoU above which one object
    surely hides another; `floor`: scores in the plane below it are 0."""

    near: float = 150.0
    apart: float = 0.1
    behind: float = 0.5
    floor: float = 0.5


RELEASED = Rules()

# Relations --------------------------------------------------------------------------------------------------


def plane_rule(relation: str | None, a: Box, b: Box, rules: Rules = RELEASED) -> float:
    """How far box a stands in a relation to box b; 0 for a relation that has no rule."""
    offset = np.subtract(centre(b), centre(a))  # x, y
    if relation in DISTANCES:
        far = np.abs(offset).max()
        return 1.0 if np.abs(offset).min() < rules.near else float(rules.near / far)
    if relation not in SIDES:
        return 0.0
    axis, sign = SIDES[relation]
    if sign * offset[axis] <= 0 or abs(offset[axis]) <= abs(offset[1 - axis]):
        return 0.0
    shared = iou(a, b)
    return 1.0 if shared < rules.apart else rules.apart / shared


def depth_rule(relation: str | None, a: Detection, b: Detection, rules: Rules = RELEASED) -> float:
    """The same for detections with depth (larger is nearer); relations in the plane follow `plane_rule`."""
    if relation not in ("in front of", "behind", "hidden"):
        return plane_rule(relation, a.box, b.box, rules)
    if a.depth is None or b.depth is None:
        raise ValueError(f"{relation!r} needs the depth of both objects: give the detector a depth network")
    sign = 1 if relation == "in front of" else -1
    if not sign * (a.depth - b.depth) > 0:  # NaN, the mean over no pixels, too
        return 0.0
    shared = iou(a.box, b.box)
    if shared == rules.behind:  # quirk
        return 0.0
    return min(shared / rules.behind, 1.0)


def released_depth(depths: np.ndarray, box: Box) -> float:
    """The mean of a map [H, W] over a box as the released script takes it: x as row, y as column; NaN where
    that is outside the map."""
    left, top, right, bottom = (int(value) for value in box)
    part = depths[left:right, top:bottom]
    return float(part.mean()) if part.size else float("nan")


def plane_score(
    names: Sequence[str], relation: str | None, found: Sequence[Detection], rules: Rules = RELEASED
) -> float:
    """Of an image: 0.25 of each score and 0.5 of the rule, for the first detection of each name; below the
    floor it is 0."""
    first = [next((one for one in found if one.label == name), None) for name in names]
    score = _composed(first, lambda a, b: plane_rule(relation, a.box, b.box, rules))
    return score if score >= rules.floor else 0.0


def depth_score(
    names: Sequence[str], relation: str | None, found: Sequence[Detection], rules: Rules = RELEASED
) -> float:
    """The same in depth, without a floor; a name is part of a label."""
    return _composed(_partial(names, found), lambda a, b: depth_rule(relation, a, b, rules))


class Rule(Protocol):
    def __call__(self, a: Detection, b: Detection, /) -> float: ...


def _composed(pair: Sequence[Detection | None], rule: Rule) -> float:
    present = [one for one in pair if one is not None]
    score = sum((0.25 * one.score for one in present), 0.0)
    return score + 0.5 * rule(present[0], present[1]) if len(present) == 2 else score


def _partial(names: Sequence[str], found: Sequence[Detection]) -> list[Detection | None]:
    """The detections of two names: the last seen of each when both have been seen; of one name alone the
    first."""
    labels = " ".join(one.label for one in found)
    if not all(name in labels for name in names):
        return [next((one for one in found if name in one.label), None) for name in names]
    last: list[Detection | None] = [None for _ in names]
    for one in found:
        last = [one if name in one.label else held for name, held in zip(names, last, strict=True)]
        if None not in last:
            break
    return last


# Numbers ----------------------------------------------------------------------------------------------------


def same_object(a: Box, b: Box) -> bool:
    """Whether two boxes are nearly equal or one nearly holds the other, lengths with their last pixel."""
    shared = overlap(a, b, 1)
    inside = any(shared > SAME * area(box, 1) for box in (a, b))
    return inside or iou(a, b, 1) > SAME


def distinct(found: Sequence[Detection]) -> list[Detection]:
    """Without those that repeat an earlier one of their class."""
    kept: list[Detection] = []
    for one in found:
        if not any(other.label == one.label and same_object(other.box, one.box) for other in kept):
            kept.append(one)
    return kept


def number_score(wanted: Sequence[tuple[str, int]], found: Sequence[Detection]) -> float:
    """Half for the presence of an object, half for its exact number; the mean over objects, 0 without any.

    Quirk: where no label is the name, labels that contain it are renamed to it, for later objects too."""
    labels = [one.label for one in distinct(found)]
    score = 0.0
    for name, number in wanted:
        name = CLASSES.get(name, name)
        if name not in labels:
            labels = [name if name in label else label for label in labels]
        score += (0.5 * (name in labels) + 0.5 * (labels.count(name) == number)) if name in labels else 0.0
    return score / len(wanted) if wanted else 0.0


# Attributes -------------------------------------------------------------------------------------------------


class Answers(Protocol):
    """A model that answers yes or no."""

    def yes(self, image: np.ndarray, question: str) -> float:
        """P(yes) / (P(yes) + P(no)) for a question about an image uint8 [H, W, 3]."""
        ...


def attribute_score(yes: Iterable[float]) -> float:
    """The product of the answers' probabilities, which go through text with four decimals, as does the
    result."""
    product = np.float32(1)
    for value in yes:
        product = product * np.float32(f"{value:.4f}")
    return float(f"{product:.4f}")


def score_attributes(model: Answers, image: np.ndarray, chunks: Sequence[str]) -> float:
    """B-VQA: is every noun chunk of the prompt in the image?"""
    return attribute_score(model.yes(image, asked) for asked in questions(chunks)[:QUESTIONS] if asked)


def three_in_one(
    prompts: Sequence[str], spatial_prompts: Iterable[str], action_prompts: Iterable[str],
    scores: Mapping[str, Sequence[float]], images: int = 10,
) -> list[float]:  # fmt: skip
    """Complex prompts: the mean of those of `scores` ("attribute", "spatial", "action", each `images` a
    prompt) that concern a prompt; all three where no list has it. ValueError for a wrong number of scores."""
    spatial, action = ({_key(line) for line in lines} for lines in (spatial_prompts, action_prompts))
    count = images * len(prompts)
    wrong = [name for name in ("attribute", "spatial", "action") if len(scores[name]) != count]
    if wrong:
        raise ValueError(f"{len(prompts)} prompts of {images} images need {count} scores of {wrong[0]}")
    found = []
    for number in range(count):
        key = _key(prompts[number // images])
        names = ["attribute", "spatial"] if key in spatial else ["attribute", "action"]
        names = names if key in spatial or key in action else ["attribute", "spatial", "action"]
        found.append(sum(scores[name][number] for name in names) / len(names))
    return found


def _key(line: str) -> str:
    return line.split(".")[0].lower()
