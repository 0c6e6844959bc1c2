"""Which step of an image each position of a pass writes, for parts that are not the same at all of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from unified.backbone.layer_pass import Pass
from unified.stream.segments import Kind


def steps_of(run: Pass) -> Tensor:
    """[R, n] long: the step of a plan whose slots a position writes, -1 where it writes none (text, images
    that are read, marks of an image). ValueError for a pass that does not say where its images are."""
    index = run.index
    if run.step >= 0:  # the slots of a step share the latest label, marks of the image come before
        writes = index.kind == int(Kind.WRITE)
        latest = torch.where(writes, index.label, -1).amax(dim=1, keepdim=True)
        lag = 0 if run.plan is None else run.plan.feed.lag  # slots may be run after their code is known
        return torch.where(writes & (index.label == latest), run.step - lag, -1)
    if run.append is not None:
        return torch.full_like(index.label, -1)
    if run.layout is not None:
        steps = run.layout.at_positions(run.layout.step)
        return pad(steps, (0, index.label.shape[1] - steps.shape[1]), value=-1)
    if run.plan is None:
        raise ValueError(
            "a part that differs by step needs a pass with a layout or with the plan of an image"
        )
    return run.plan.labels.to(index.label.device).expand(len(index.label), -1)
