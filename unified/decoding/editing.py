"""Zero-shot editing: generate an image while masked slots keep the codes of a given one.

In-painting, out-painting and class-conditional editing are the same hook with different masks and prompts
(VAR, arXiv 2404.02905, section 5). It works with any order, since it only overwrites the codes that a step
has just sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.decoding.drawing import Choice, Hook
from unified.orders import Plan


def keep_slots(plan: Plan, mask: Tensor) -> Tensor:
    """[T] bool: slots to keep, from a mask [h, w] of any size (1 = keep). The mask is resized to every map
    (bilinear) and cut at one half; maps of at most three cells are kept whole."""
    if mask.ndim != 2:
        raise ValueError(f"the mask must be [height, width], got {tuple(mask.shape)}")
    parts = []
    for height, width in plan.shapes:
        resized = F.interpolate(mask[None, None].float(), size=(height, width), mode="bilinear")
        kept = resized.flatten() > 0.5
        parts.append(kept if height * width > 3 else torch.ones_like(kept))
    return torch.cat(parts)


def keep(plan: Plan, codes: Tensor, mask: Tensor) -> Hook:
    """A hook that keeps the codes [T] or [B, T] of an image (in slot order, from 0) where `mask` [h, w] is 1,
    with log-probability 0. ValueError for codes of another length than the plan."""
    reference = codes if codes.ndim == 2 else codes[None]
    if reference.shape[1] != plan.length:
        raise ValueError(f"the plan has {plan.length} slots, the image to keep {reference.shape[1]} codes")
    kept = keep_slots(plan, mask)

    def hook(choice: Choice) -> Choice:
        slots = choice.slots
        drawn = choice.codes
        fixed = kept[slots].to(drawn.device)
        codes = torch.where(fixed, reference[:, slots].to(drawn.device), drawn)
        return replace(choice, codes=codes, log_probs=choice.log_probs.masked_fill(fixed, 0.0))

    return hook


def give_maps(maps: Sequence[Tensor]) -> Hook:
    """A hook that gives the first maps of an image, as codes [B, n] from 0 each: the model goes on from them,
    as in super-resolution by next-scale prediction (NSARM, arXiv 2510.00820). Their log-probability is 0.
    ValueError, when they are written, for maps of another size."""

    def hook(choice: Choice) -> Choice:
        if choice.step >= len(maps):
            return choice
        codes = maps[choice.step].to(choice.codes.device)
        if codes.shape != choice.codes.shape:
            want, got = tuple(choice.codes.shape), tuple(codes.shape)
            raise ValueError(f"map {choice.step} needs codes {want}, got {got}")
        return replace(choice, codes=codes, log_probs=torch.zeros_like(choice.log_probs))

    return hook
