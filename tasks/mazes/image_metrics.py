"""Image metrics of MazePlanning: does the last sketch show the path to the goal, and are the walls still
there.

Exactly the published evaluator (Latent Sketchpad, arXiv 2510.24514; revision 2d67b31), which uses OpenCV,
restated with scipy. Its known defect is kept in `last_image_verdict`, because published numbers contain it:
the mask of surplus path is overwritten by a filter of the *missing* path, so a spurious branch goes unseen.
`last_image_verdict_corrected` uses the surplus mask that upstream computes first. All images are resized to
224x224 (Lanczos) before anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 224
WHITE_FROM = 250
TOLERANCE = 5
SQUARE = np.ones((7, 7), bool)
EIGHT = np.ones((3, 3), bool)
RED, BLACK = (255, 0, 0), (0, 0, 0)
MOST_MISSING, MOST_EXTRA, MOST_LOST_WALL = 150, 80, 200


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`arrived`: the path to the goal is drawn. `excess`: surplus touches the goal; `explore`: it does
    not."""

    arrived: bool
    excess: bool
    explore: bool

    @property
    def success(self) -> bool:
        """What the visual success rate counts."""
        return self.arrived and not self.excess


@dataclass(frozen=True, kw_only=True)
class PathMasks:
    """bool [224, 224] each. `goal`: the disc; `reference`, `drawn`: the path in label and output, disc
    removed; `missing`: reference path without drawn path near it."""

    goal: np.ndarray
    reference: np.ndarray
    drawn: np.ndarray
    missing: np.ndarray


def last_image_verdict(maze: np.ndarray, label: np.ndarray, output: np.ndarray) -> Verdict:
    """The published verdict, defect included. maze: the input image; label: the solved maze; output: the
    last generated image; uint8 [H, W, 3] of any size each. Raises ValueError for anything else."""
    masks = path_masks(maze, label, output)
    extra = keep_large(masks.missing)  # upstream filters `missing` again instead of the surplus
    return _verdict(masks, extra)


def last_image_verdict_corrected(maze: np.ndarray, label: np.ndarray, output: np.ndarray) -> Verdict:
    """The verdict as intended: surplus is drawn path away from the reference path. Arguments as above."""
    masks = path_masks(maze, label, output)
    surplus = masks.drawn & ~dilate(masks.reference, ellipse(5))
    return _verdict(masks, keep_large(surplus))


def layout_consistent(maze: np.ndarray, output: np.ndarray) -> bool:
    """Whether at most 200 wall pixels of the input are away from any wall of the output. uint8 [H, W, 3]."""
    walls = near_colour(resize(maze, "maze"), BLACK)
    kept = near_colour(resize(output, "output"), BLACK)
    return int((walls & ~dilate(kept, ellipse(3))).sum()) <= MOST_LOST_WALL


def path_masks(maze: np.ndarray, label: np.ndarray, output: np.ndarray) -> PathMasks:
    """The masks that the verdict is made of."""
    before = resize(maze, "maze")
    goal = near_colour(before, RED)
    drawn_before = not_white(before)
    reference = new_regions(drawn_before, not_white(resize(label, "label")))
    drawn = new_regions(goal, new_regions(drawn_before & ~goal, not_white(resize(output, "output"))))
    missing = keep_large(reference & ~dilate(drawn, ellipse(3)))
    return PathMasks(goal=goal, reference=reference, drawn=drawn, missing=missing)


def new_regions(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Pixels of `after` more than 3 pixels from `before`, in 4-connected regions of at least 100. bool
    [224, 224]."""
    labels, _ = ndimage.label(after & ~dilate(before, SQUARE))
    area = np.bincount(labels.ravel())
    area[0] = 0
    return area[labels] >= 100


def keep_large(mask: np.ndarray) -> np.ndarray:
    """8-connected regions of at least 80 pixels whose longer side is at least 10. bool [224, 224]."""
    labels, count = ndimage.label(mask, structure=EIGHT)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    keep = np.zeros(count + 1, bool)
    for region, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        span = max(rows.stop - rows.start, columns.stop - columns.start)
        keep[region] = area[region] >= 80 and span >= 10
    return keep[labels]


def ellipse(radius: int) -> np.ndarray:
    """OpenCV's elliptic structuring element of side 2 * radius + 1: each row is filled up to the rounded
    half width."""
    offset = np.arange(-radius, radius + 1)
    half_width = np.rint(radius * np.sqrt((radius**2 - offset**2) / radius**2))  # half to even, as cvRound
    return np.abs(offset)[None, :] <= half_width[:, None]


def dilate(mask: np.ndarray, element: np.ndarray) -> np.ndarray:
    """Binary dilation by a symmetric element; what lies outside the image counts as not set. bool [H, W]."""
    height, width = mask.shape
    padded = np.pad(mask, [(side // 2, side // 2) for side in element.shape])
    grown = np.zeros_like(mask)
    for down, right in np.argwhere(element):
        grown |= padded[down : down + height, right : right + width]
    return grown


def not_white(image: np.ndarray) -> np.ndarray:
    """Where any channel is below 250. [H, W, 3] -> bool [H, W]."""
    return np.asarray((image < WHITE_FROM).any(axis=-1))


def near_colour(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where every channel is within 5 of the colour. [H, W, 3] -> bool [H, W]."""
    distance = np.abs(image.astype(np.int16) - np.array(colour, np.int16))
    return np.asarray((distance <= TOLERANCE).all(axis=-1))


def resize(image: np.ndarray, name: str) -> np.ndarray:
    """Lanczos to uint8 [224, 224, 3]; an image of that size is returned as it is."""
    check_image(image, name)
    if image.shape[:2] == (SIDE, SIDE):
        return image
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def check_image(image: Any, name: str) -> None:
    """Raises ValueError that names the image unless it is uint8 [H, W, 3]."""
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{name} must be a uint8 array [H, W, 3], got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"{name} must be a uint8 array [H, W, 3], got {image.dtype} {list(image.shape)}")


def _verdict(masks: PathMasks, extra: np.ndarray) -> Verdict:
    if masks.missing.sum() > MOST_MISSING:
        return Verdict(arrived=False, excess=False, explore=False)
    if extra.sum() <= MOST_EXTRA:
        return Verdict(arrived=True, excess=False, explore=False)
    touches = bool((extra & dilate(masks.goal, ellipse(5))).any())
    return Verdict(arrived=True, excess=touches, explore=not touches)
