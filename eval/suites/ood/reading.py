"""A classical reader of the second renderer's pictures, and the rule by which edits are judged.

The ground is known: what differs from it by CIE Lab distance is foreground. Each connected piece is matched
to templates of every shape, fill and size of both renderers, by normalised correlation around its centroid;
its colour is the one whose line from the ground passes nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion, center_of_mass, gaussian_filter, label, shift
from unified.eval.suites.ood.painting import covered, paint
from unified.eval.suites.ood.settings import PALETTES, Style
from unified.tasks.scenes.relations import bounds, cell
from unified.tasks.scenes.scene import COLOURS, FILLS, SHAPES, SIZES, Scene, SceneObject
from unified.tasks.scenes.shapes import coverage

try:
    from skimage.color import rgb2lab
    from skimage.filters import apply_hysteresis_threshold
except ImportError:
    raise ImportError("this suite needs scikit-image: pip install 'unified-multimodal[eval]'") from None

FAINT, SURE = 11.0, 24.0  # CIE Lab distance from the ground: part of an object, if one of its pixels is sure
SMALLEST_AREA = 0.0025  # of the picture
STRETCHES = (0.9, 1.0, 1.1)
BLUR = 0.5  # pixels: of the templates
SAME_PLACE = 0.08
NEAR_PLACE = (
    0.1  # what is replaced or resized may drift further; how far beyond a cell a place is still in it
)
GROUND_CHANGE = 10.0  # median CIE Lab distance of the ground from what it was, at most


@dataclass(frozen=True, kw_only=True)
class Read:
    """What stands in a picture; `ground_kept`: whether the ground is the one that was expected."""

    objects: tuple[SceneObject, ...]
    ground_kept: bool


@dataclass(frozen=True, kw_only=True)
class Change:
    """An edit of kind recolour, remove, add, move, resize or replace: `old` (None: add) becomes `new` (None:
    remove). Of what is added or moved the cell counts, not the exact place."""

    kind: str
    before: Scene
    old: SceneObject | None = None
    new: SceneObject | None = None

    @property
    def rest(self) -> tuple[SceneObject, ...]:
        return tuple(item for item in self.before.objects if item is not self.old)

    @property
    def after(self) -> Scene:
        return replace(self.before, objects=(*self.rest, *([self.new] if self.new else [])))


def carried_out(change: Change, read: Read) -> bool:
    """Whether the new object is there, the old one is gone, all others stand where they stood with their
    shape and colour, nothing was added and the ground is as it was. Size counts where it was to change, fill
    never."""
    found = list(read.objects)
    for item in change.rest:
        match = next((one for one in found if _stands(item, one, SAME_PLACE)), None)
        if match is None:
            return False
        found.remove(match)
    if change.new is None:
        return not found and read.ground_kept
    return len(found) == 1 and read.ground_kept and _became(change, change.new, found[0])


def _became(change: Change, new: SceneObject, item: SceneObject) -> bool:
    if change.kind in ("add", "move"):
        return (item.shape, item.colour) == (new.shape, new.colour) and in_place(item, cell(new))
    resized = change.kind != "resize" or item.size == new.size
    return resized and _stands(new, item, NEAR_PLACE)


def in_place(item: SceneObject, name: str) -> bool:
    """Whether the centre lies in the cell of this name, or at most `NEAR_PLACE` outside it."""
    left, right, top, bottom = bounds(name)
    within = left - NEAR_PLACE <= item.x <= right + NEAR_PLACE
    return within and top - NEAR_PLACE <= item.y <= bottom + NEAR_PLACE


def _stands(wanted: SceneObject, item: SceneObject, within: float) -> bool:
    alike = (wanted.shape, wanted.colour) == (item.shape, item.colour)
    return alike and float(np.hypot(wanted.x - item.x, wanted.y - item.y)) <= within


def read(picture: np.ndarray, style: Style) -> Read:
    """The objects of a picture on the ground of a style. picture uint8 [H, W, 3], of any size."""
    height, width = picture.shape[:2]
    empty = Image.fromarray(paint(Scene(), replace(style, jpeg=0)))
    ground = np.asarray(empty.resize((width, height), Image.Resampling.BICUBIC), dtype=float)
    distance = np.linalg.norm(rgb2lab(picture / 255) - rgb2lab(ground / 255), axis=-1)  # [H, W]
    foreground = apply_hysteresis_threshold(distance, FAINT, SURE)
    labels, number = label(foreground, np.ones((3, 3)))
    pieces = [labels == i for i in range(1, number + 1)]
    large = [piece for piece in pieces if piece.mean() >= SMALLEST_AREA]
    offset = picture - ground
    objects = tuple(_object(piece, offset, ground, style) for piece in large)
    around = distance[~foreground]
    kept = around.size > 0.3 * distance.size and float(np.median(around)) <= GROUND_CHANGE
    return Read(objects=objects, ground_kept=kept)


def _object(piece: np.ndarray, offset: np.ndarray, ground: np.ndarray, style: Style) -> SceneObject:
    height, width = piece.shape
    colour, line = _colour(piece, offset, ground, style)
    along = np.clip(offset @ line / max(float(line @ line), 1e-9), 0, 1) * piece  # [H, W]
    if style.contour:
        along = np.maximum(along, binary_erosion(piece))  # a dark line is no hole
    y, x = center_of_mass(along)
    bank = _templates(replace(style, size=(height, width)))
    middle = (height - 1) / 2, (width - 1) / 2
    shown = shift(along, (middle[0] - y, middle[1] - x), order=1).ravel()
    shown = shown - shown.mean()
    best = int(np.argmax(bank.flat @ shown))
    shape, fill, size, (dy, dx) = bank.labels[best]
    place = {"x": (x + 0.5 - dx) / width, "y": (y + 0.5 - dy) / height}
    held = {name: float(np.clip(at, 0, 1)) for name, at in place.items()}
    return SceneObject(shape=shape, fill=fill, size=size, colour=colour, **held)


def _colour(
    piece: np.ndarray, offset: np.ndarray, ground: np.ndarray, style: Style
) -> tuple[str, np.ndarray]:
    """The colour's name, and its line [3] from the ground."""
    inside = binary_erosion(piece, iterations=1 + bool(style.contour))
    seen = inside if inside.sum() >= 4 else piece
    pixels, under = offset[seen], ground[piece].mean(axis=0)
    known = [
        (name, np.array(rgb, dtype=float) - under)
        for palette in (PALETTES[style.palette], COLOURS)
        for name, rgb in palette.items()
    ]

    def residual(line: np.ndarray) -> float:
        squared = max(float(line @ line), 1.0)
        strong = float(np.percentile(pixels @ line / squared, 90))
        along = np.clip(pixels @ line / squared, 0.0, 1.1)[:, None]
        error = float(((pixels - along * line) ** 2).sum(axis=1).mean())
        return (
            error + squared * max(0.0, 0.75 - strong) ** 2
        )  # a strong colour does not appear as a faint one

    return min(known, key=lambda one: residual(one[1]))


@dataclass(frozen=True, kw_only=True)
class Templates:
    """flat [K, H * W], of mean 0 and norm 1; labels: shape, fill, size, centroid less centre (y, x) in
    pixels."""

    flat: np.ndarray
    labels: Sequence[tuple[str, str, str, tuple[float, float]]]


@lru_cache(maxsize=16)
def _templates(style: Style) -> Templates:
    """Every shape, fill and size of both renderers in the middle of a picture of `style.size`."""
    height, width = style.size
    flat, labels = [], []
    for shape in SHAPES:
        for fill in FILLS:
            for size in SIZES:
                for alpha in _drawn(shape, fill, size, style):
                    y, x = center_of_mass(alpha)
                    middle = (height - 1) / 2, (width - 1) / 2
                    moved = shift(
                        gaussian_filter(alpha, BLUR), (middle[0] - y, middle[1] - x), order=1
                    ).ravel()
                    moved = moved - moved.mean()
                    flat.append(moved / max(float(np.linalg.norm(moved)), 1e-9))
                    labels.append((shape, fill, size, (y - middle[0], x - middle[1])))
    return Templates(flat=np.array(flat), labels=labels)


def _drawn(shape: str, fill: str, size: str, style: Style) -> list[np.ndarray]:
    height, width = style.size
    item = SceneObject(shape=shape, colour="red", size=size, fill=fill, x=0.5, y=0.5)
    plain = replace(style, contour=0.0)
    found = [covered(item, replace(plain, scale=style.scale * stretch))[0] for stretch in STRETCHES]
    radius = SIZES[size] * min(height, width)
    return [*found, coverage(shape, fill, radius, (width / 2, height / 2), height, width)]
