"""Super-resolution with Infinity: the first maps are given, the rest is written. And what it is trained on.

Source: Xiangtaokong/NSARM (Apache-2.0 by its README), arXiv 2510.00820. As published, bits of given maps are
drawn as well and put aside, so that noise from a generator is used up by them. The released inference differs
from training in two ways (`AsReleased`): a map is fed the running sum averaged over areas, not interpolated,
and the rotary positions of every map begin at the first row of the table. Test:
tests/unified/checkpoints/nsarm/test_network.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unified.checkpoints.generation import Generated
from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_forks import AsReleased
from unified.checkpoints.infinity_generation import Habits, feed
from unified.decoding.editing import give_maps
from unified.decoding.guidance import Guidance
from unified.decoding.session import Session
from unified.orders.shapes import Shapes


@torch.no_grad()
def upscale(
    model: Infinity,
    texts: Sequence[Tensor],
    shapes: Shapes,
    given: Sequence[Tensor],
    guidance: Guidance | None = None,
    *,
    habits: Habits | None = None,
    as_released: bool = True,
) -> Generated:
    """Write one image for each text [n, Ct], of which the latents `given` [B, d, h, w] are the first maps by
    their signs (`Transformation.maps` makes them of a low-resolution image). `habits.hooks` act before the
    maps are given. Without `as_released` maps are fed and placed as in training. The rest as in
    `infinity_generation.generate`."""
    made, habits = Generated(), habits or Habits()
    fed = AsReleased.of(model) if as_released else model
    hooks = (*habits.hooks, give_maps([codes_of(model, latent) for latent in given]))
    session = Session(fed, rows=len(texts), noise=habits.noise, policy=habits.policy, parts=habits.parts)
    feed(session, fed, texts)
    record = made.recorder(fed, hooks)
    session.draw(shapes, order=model.order, sampler=habits.sampler, guidance=guidance, hook=record)
    return made


def codes_of(model: Infinity, latent: Tensor) -> Tensor:
    """The codes [B, n] of a map whose bits are the signs of a latent [B, d, h, w]."""
    bits = model.grid.to_tokens((latent > 0).float()).long()
    return model.head.to_codes(bits)
