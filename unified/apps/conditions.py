"""Pictures that control an image, and what parts around layers read of them (`backbone.parts.controls`).

A condition is any picture: an edge map, a sketch, a depth map, or a small picture that is to be enlarged. For
each map of an image it is averaged to a few pixels a cell, and the pixels of a cell are the features of its
slot, so that every slot has what lies at its own place. Test: tests/unified/apps/test_conditions.py.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unified.finite import check_count
from unified.orders import Plan
from unified.tokenizers.images import to_images

PATCH = 4  # pixels of a cell's side
EDGES, SMALL, GIVEN = "edges", "small", "given"  # what an adapter reads: edges of a picture, a small one, any
CONDITIONS = (EDGES, SMALL, GIVEN)
WEAKEST = 0.1  # share of the step from black to white that an edge has at least


def features(pictures: Tensor, plan: Plan, patch: int = PATCH) -> Tensor:
    """Pictures [B, 3, H, W] in [-1, 1] -> [B, T, 3 patch^2] for the T slots of a plan."""
    found = []
    for height, width in plan.shapes:
        cells = F.adaptive_avg_pool2d(pictures, (height * patch, width * patch))
        found.append(F.pixel_unshuffle(cells, patch).flatten(2).transpose(1, 2))  # [B, h * w, C]
    return torch.cat(found, dim=1)


def channels(patch: int = PATCH) -> int:
    """Features of a slot."""
    return 3 * patch**2


def edges(picture: np.ndarray) -> np.ndarray:
    """The edges of a picture uint8 [H, W, 3], white on black, of the same size: gradients of the smoothed
    colours (Sobel), where they are at least `WEAKEST` and largest across the edge (J. Canny, A Computational
    Approach to Edge Detection, 1986; without its tracing of weak edges). An edge between colours of one
    brightness is found too."""
    levels = to_images(picture).movedim(1, 0)  # [3, 1, H, W]: every colour by itself
    smooth = torch.tensor([1.0, 2.0, 1.0]) / 4
    levels = _filtered(levels / 2, smooth[:, None] * smooth)
    slope = torch.tensor([-1.0, 0.0, 1.0])
    across, down = (
        _filtered(levels, kernel) for kernel in (smooth[:, None] * slope, slope[:, None] * smooth)
    )
    strongest = (across**2 + down**2).argmax(dim=0, keepdim=True)
    across, down = (x.gather(0, strongest)[0, 0] for x in (across, down))  # [H, W]
    strength = torch.hypot(across, down)
    found = (strength >= WEAKEST) & (strength >= _ahead(strength, across, down))
    found &= strength > _ahead(strength, -across, -down)
    white = found.to(torch.uint8).mul(255)[..., None].expand(-1, -1, 3)
    return white.contiguous().numpy()


def _filtered(levels: Tensor, kernel: Tensor) -> Tensor:
    """[C, 1, H, W] under a kernel [3, 3], the border repeated."""
    return F.conv2d(F.pad(levels, (1, 1, 1, 1), mode="replicate"), kernel[None, None])


def _ahead(strength: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """[H, W]: the strength at the neighbour that lies in a direction, of eight."""
    octant = (torch.atan2(down, across) * (4 / torch.pi)).round().long() % 8
    steps = [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)]  # row, column
    wide = F.pad(strength[None, None], (1, 1, 1, 1))[0, 0]
    height, width = strength.shape
    moved = [wide[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in steps]
    return torch.stack(moved).gather(0, octant[None])[0]


def small(picture: np.ndarray, factor: int) -> np.ndarray:
    """A picture uint8 [H, W, 3] with only what is left of it at 1 / `factor` of its sides, at its own size:
    averaged over boxes, then enlarged (bicubic). ValueError for a factor below 1."""
    check_count("factor", factor, 1)
    height, width = picture.shape[:2]
    less = max(1, width // factor), max(1, height // factor)
    reduced = Image.fromarray(picture).resize(less, Image.Resampling.BOX)
    return np.asarray(reduced.resize((width, height), Image.Resampling.BICUBIC))
