"""Masks of edits: what is white in a picture is painted anew, the codes of all other places stay.

In-painting is decoding with some codes given (VAR, arXiv 2404.02905, section 5; `decoding.editing`). What
stays are codes, not pixels: the decoder looks at neighbouring codes, so pixels beside the mask may change.
Test: tests/unified/apps/test_masks.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unified.apps.pictures import fit
from unified.decoding.drawing import Hook
from unified.decoding.editing import keep
from unified.orders import plan_for
from unified.stream.message_forms import read_picture
from unified.stream.processor import Processor


def in_painting(processor: Processor, picture: np.ndarray, mask: Any) -> Hook:
    """A hook that keeps the codes of a picture uint8 [H, W, 3], as the model reads it, where the mask is
    black. ValueError for a mask of another aspect ratio, or one without a white cell."""
    item = processor.image_item(picture, drawn=True)
    plan = plan_for(item["order"], tuple(tuple(shape) for shape in item["shapes"]))
    kept = kept_cells(mask, picture.shape[:2], picture.shape[0] // plan.shapes[-1][0])
    return keep(plan, torch.tensor(item["codes"]), kept)


def kept_cells(mask: Any, size: tuple[int, ...], stride: int) -> Tensor:
    """[h, w] of 0 and 1: the cells, of `stride` pixels, of an image of `size` (H, W) that stay: less than
    half of each is white. `mask`: a picture in any form, or bool [H, W]."""
    shown = mask.astype(np.uint8) * 255 if isinstance(mask, np.ndarray) and mask.dtype == bool else mask
    fitted = fit(read_picture(shown), max(size), stride)
    if fitted.shape[:2] != tuple(size):
        found, want = (f"{sides[1]} x {sides[0]}" for sides in (fitted.shape, size))
        raise ValueError(f"the mask has another aspect ratio than the picture: {found} pixels beside {want}")
    levels = torch.from_numpy(fitted.copy()).float().mean(dim=2)[None] / 255  # [1, H, W]
    kept = F.avg_pool2d(levels, stride)[0] < 0.5
    if bool(kept.all()):
        raise ValueError(
            f"the mask is white in less than half of every cell of {stride} pixels: nothing to paint"
        )
    return kept.float()
