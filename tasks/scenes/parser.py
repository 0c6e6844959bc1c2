"""Reads a picture back into a description by classical image analysis: no learned part, no generator's data.

Steps: (1) the ground is the known tone that most of the picture is near, plus a smooth field; (2) a pixel is
foreground when it lies far enough along the line from the ground to one of the object colours (anti-aliased
edges lie on that line too); (3) connected foreground is a component, cut by colour where one shape explains
it badly; (4) each component is matched to templates drawn from the public shape definitions, by least squares
over shape, fill, radius, blur and colour at once. Pictures are read at no more than 80 pixels on the shorter
side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation
from unified.tasks.scenes.scene import BACKGROUNDS, COLOURS, Scene, SceneObject
from unified.tasks.scenes.templates import bank

try:
    from skimage.color import rgb2lab
    from skimage.filters import apply_hysteresis_threshold, gaussian
    from skimage.measure import label, regionprops
    from skimage.transform import resize
except ImportError:
    raise ImportError("the scene parser needs scikit-image: pip install 'unified-multimodal[eval]'") from None

MINIMUM_SIDE = 32
WORKING_SIDE = 80
NEAR_TONE = 14  # CIE Lab distance within which a pixel may be ground
FOREGROUND = 0.45  # of the way from the ground to an object colour: surely part of an object
CORE = 0.6  # pieces of objects that touch hold together above this
FAINT = 0.25  # part of an object if joined to such a pixel
SMALLEST_AREA = 0.0016  # of the picture: about a quarter of what the smallest outline covers
GOOD_FIT = 0.8  # share of a component's energy its template must explain before a cut is not tried

NAMES = tuple(COLOURS)
PALETTE = np.array(list(COLOURS.values()), dtype=float)  # [C, 3]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A picture at working size: the ground's tone by name, its smooth field [h, w, 3], and pixels less
    field."""

    background: str
    field: np.ndarray
    offset: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Fit:
    """One object found: `explained` is the share of the component's energy that its template explains."""

    item: SceneObject
    explained: float


def parse(image: np.ndarray) -> Scene:
    """The description of a picture: uint8 [H, W, 3], sides of at least 32. Objects from left to right.

    The texture is not read: it comes back as "plain". Raises ValueError for other input."""
    reading = read_ground(image)
    objects = tuple(fit.item for fit in find_objects(reading))
    return Scene(background=reading.background, objects=objects)


def check_image(image: np.ndarray) -> None:
    good = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3
    if not (good and image.shape[2] == 3 and min(image.shape[:2]) >= MINIMUM_SIDE):
        found = (
            f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        )
        raise ValueError(
            f"an image must be uint8 [H, W, 3] with sides of at least {MINIMUM_SIDE}, got {found}"
        )


def read_ground(image: np.ndarray) -> Reading:
    """Step 1: the picture at working size, and what lies under its objects."""
    check_image(image)
    pixels = image.astype(float)
    scale = WORKING_SIDE / min(image.shape[:2])
    if scale < 1:
        shape = (round(image.shape[0] * scale), round(image.shape[1] * scale), 3)
        pixels = resize(pixels, shape, order=1, anti_aliasing=True, preserve_range=True)
    name, near = _tone(pixels)
    field = _plane(pixels, near)
    return Reading(background=name, field=field, offset=pixels - field)


def find_objects(reading: Reading) -> list[Fit]:
    """Steps 2 to 4: the objects with how well each is explained, from left to right."""
    height, width = reading.offset.shape[:2]
    colours, along = _nearest_lines(reading)
    foreground = apply_hysteresis_threshold(along, FAINT, FOREGROUND)
    labels = label(foreground, connectivity=2)
    fits: list[Fit] = []
    for region in regionprops(labels):
        if region.area >= SMALLEST_AREA * height * width:
            fits += _explain(reading, labels == region.label, foreground, colours, along)
    return sorted(fits, key=lambda fit: (fit.item.x, fit.item.y))


def _tone(pixels: np.ndarray) -> tuple[str, np.ndarray]:
    """The ground tone with the most pixels near it, and which pixels those are [h, w]."""
    lab = rgb2lab(gaussian(pixels, 1.0, channel_axis=2) / 255)
    tones = rgb2lab(np.array([list(BACKGROUNDS.values())], dtype=float) / 255)[0]
    distance = np.linalg.norm(lab[:, :, None] - tones, axis=-1)  # [h, w, tones]
    nearest = np.where(distance.min(axis=-1) < NEAR_TONE, distance.argmin(axis=-1), -1)
    winner = int(np.argmax([(nearest == i).sum() for i in range(len(tones))]))
    return tuple(BACKGROUNDS)[winner], distance[:, :, winner] < NEAR_TONE


def _plane(pixels: np.ndarray, near: np.ndarray) -> np.ndarray:
    """A plane fitted to the pixels near the ground's tone: float [h, w, 3]. Follows gradients."""
    height, width = near.shape
    y, x = np.mgrid[:height, :width]
    basis = np.stack([np.ones_like(x), x / width - 0.5, y / height - 0.5], axis=-1).astype(float)
    if near.sum() < 16:  # no known ground at all: take the whole picture's plane
        near = np.ones_like(near)
    known, seen = basis[near], pixels[near]  # [N, 3] each
    normal = np.einsum(
        "ni,nj->ij", known, known
    )  # singular where the known ground is a single line: hence lstsq
    plane, *_ = np.linalg.lstsq(normal, np.einsum("ni,nj->ij", known, seen), rcond=None)
    return basis @ plane


def _nearest_lines(reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Per pixel, the colour whose line from the ground passes nearest, and how far along it: [h, w] each."""
    lines = PALETTE - reading.field.mean(axis=(0, 1))  # [C, 3]
    squared = (lines**2).sum(axis=1)
    product = reading.offset @ lines.T  # [h, w, C]
    along = np.clip(product / squared, 0.0, 1.1)
    residual = along * (along * squared - 2 * product)  # less |offset|^2, the same for all
    colours = residual.argmin(axis=-1)
    return colours, np.take_along_axis(along, colours[..., None], axis=-1)[..., 0]


def _explain(
    reading: Reading, mask: np.ndarray, foreground: np.ndarray, colours: np.ndarray, along: np.ndarray
) -> list[Fit]:
    """One component as one object, or cut in several where that explains it better."""
    best = [_fit(reading, mask, foreground & ~mask)]
    if best[0].explained >= GOOD_FIT:
        return best
    by_colour = [mask & (colours == colour) for colour in np.unique(colours[mask])]
    for cores in ([mask & (along > CORE)], by_colour):
        fits = [_fit(reading, piece, foreground & ~piece) for piece in _pieces(cores)]
        if len(fits) > 1 and min(fit.explained for fit in fits) > min(fit.explained for fit in best):
            best = fits
    return best


def _pieces(masks: list[np.ndarray]) -> list[np.ndarray]:
    """The connected pieces of the masks that are large enough to be objects."""
    found = []
    for mask in masks:
        labels = label(mask, connectivity=2)
        regions = [region for region in regionprops(labels) if region.area >= SMALLEST_AREA * mask.size]
        found += [labels == region.label for region in regions]
    return found


def _fit(reading: Reading, mask: np.ndarray, others: np.ndarray) -> Fit:
    """The template, radius and colour that explain a component best: least squares over its window."""
    templates = bank(min(mask.shape))
    window = _window(reading.offset, mask, others & ~binary_dilation(mask, np.ones((3, 3))), templates.side)
    stack = templates.shifted(*window.shift)
    # einsum instead of a matrix product: one thread, so the same result and speed on a busy machine.
    product = np.einsum("kp,cp->kc", stack.flat, window.offset)  # [K, 3]
    energy = stack.energy - (stack.flat[:, ~window.seen] ** 2).sum(axis=1)  # [K]
    lines = (PALETTE - reading.field[mask].mean(axis=0)).astype(np.float32)  # [C, 3]
    error = (lines**2).sum(axis=1) * energy[:, None] - 2 * product @ lines.T  # [K, C], less the total
    best, colour = np.unravel_index(int(error.argmin()), error.shape)
    template = templates.labels[best % len(templates.labels)]
    height, width = mask.shape
    x = float(np.clip((window.centre[0] - template.centroid[0]) / width, 0, 1))
    y = float(np.clip((window.centre[1] - template.centroid[1]) / height, 0, 1))
    item = SceneObject(
        shape=template.shape, colour=NAMES[colour], size=template.size, fill=template.fill, x=x, y=y
    )
    total = max(float((window.offset**2).sum()), 1e-9)
    return Fit(item=item, explained=float(-error.min() / total))


@dataclass(frozen=True, kw_only=True)
class Window:
    """A square cut out around a component's centroid: offset [n, n, 3] and which pixels count, seen [n,
    n]."""

    offset: np.ndarray
    seen: np.ndarray
    centre: tuple[float, float]  # of the component's mass, x and y in pixels of the picture
    shift: tuple[float, float]  # centre less the middle of the window's middle pixel, in [-0.5, 0.5]


def _window(offset: np.ndarray, mask: np.ndarray, others: np.ndarray, side: int) -> Window:
    wide = binary_dilation(mask, np.ones((3, 3))) & ~others
    line = offset[mask].mean(axis=0)
    mass = np.clip(offset @ line / max(float(line @ line), 1e-9), 0.0, 1.2) * wide
    rows, columns = np.arange(mask.shape[0]) + 0.5, np.arange(mask.shape[1]) + 0.5
    x = float(mass.sum(axis=0) @ columns / mass.sum())
    y = float(mass.sum(axis=1) @ rows / mass.sum())
    left, top = int(x) - side // 2, int(y) - side // 2
    seen = ~_cut(others[..., None], left, top, side)
    shown = _cut(offset, left, top, side) * seen
    return Window(
        offset=np.ascontiguousarray(shown.reshape(-1, 3).T, dtype=np.float32),
        seen=seen.ravel(),
        centre=(x, y),
        shift=(x - int(x) - 0.5, y - int(y) - 0.5),
    )


def _cut(values: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """values [H, W, C] at rows top.. and columns left.. as [side, side, C], zero beyond the picture."""
    height, width = values.shape[:2]
    result = np.zeros((side, side, values.shape[2]), dtype=values.dtype)
    y0, y1, x0, x1 = max(0, top), min(height, top + side), max(0, left), min(width, left + side)
    result[y0 - top : y1 - top, x0 - left : x1 - left] = values[y0:y1, x0:x1]
    return result
