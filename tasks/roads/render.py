"""The picture of traffic from above: road, lane lines, boxes; uint8, the same bytes every time."""

from __future__ import annotations

import numpy as np
from unified.tasks.roads.traffic import AREA, LANE, LENGTH, WIDTH, Traffic, other_poses, own_pose

GROUND, ROAD, LINE = (70, 110, 64), (88, 88, 92), (226, 208, 92)
OWN = (250, 250, 250)
OTHERS = ((214, 36, 42), (36, 72, 216), (244, 132, 22), (126, 40, 178), (48, 206, 226))
SUPER = 3  # samples a side of a pixel
LINE_WIDTH = 0.5


def draw(traffic: Traffic, rate: float, time: float, size: int) -> np.ndarray:
    """uint8 [size, size, 3] at a time, the own box changing its speed at `rate` from time 0 on. Boxes are
    painted with a bright nose, so that one picture shows where they head."""
    step = AREA / (size * SUPER)
    axis = (np.arange(size * SUPER) + 0.5) * step
    x, y = np.meshgrid(axis, axis)
    image = np.empty((*x.shape, 3))
    image[:] = GROUND
    off_x, off_y = np.abs(x - traffic.centre[0]), np.abs(y - traffic.centre[1])
    image[(off_x < LANE) | (off_y < LANE)] = ROAD
    outside = (off_x > LANE) | (off_y > LANE)
    image[((off_x < LINE_WIDTH / 2) | (off_y < LINE_WIDTH / 2)) & outside] = LINE
    for number, at in enumerate(other_poses(traffic, time)):
        _paint(image, x, y, at, OTHERS[number % len(OTHERS)])
    _paint(image, x, y, own_pose(traffic, rate, time), OWN)
    small = image.reshape(size, SUPER, size, SUPER, 3).mean(axis=(1, 3))
    return np.rint(small).astype(np.uint8)


def _paint(
    image: np.ndarray, x: np.ndarray, y: np.ndarray, at: np.ndarray, colour: tuple[int, int, int]
) -> None:
    along = (x - at[0]) * at[2] + (y - at[1]) * at[3]
    aside = (y - at[1]) * at[2] - (x - at[0]) * at[3]
    inside = (np.abs(along) <= LENGTH / 2) & (np.abs(aside) <= WIDTH / 2)
    image[inside] = np.array(colour, float) * 0.75
    image[inside & (along > LENGTH / 6)] = colour
