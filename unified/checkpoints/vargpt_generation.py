"""Drawings of prompts through a `Session`, and the published habits of sampling.

Source: VARGPT-family/VARGPT-v1.1 (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unified.checkpoints.generation import Generated
from unified.checkpoints.infinity_generation import Habits
from unified.checkpoints.vargpt_session import DrawingReader
from unified.decoding.guidance import Constant, Guidance
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.orders.shapes import Shapes

GUIDANCE = Constant(3.0)
SAMPLER = Sampler(temperature=0.5, top_k=900, top_p=0.97)


@torch.no_grad()
def generate(
    reader: DrawingReader,
    prompts: Sequence[Sequence[int]],
    shapes: Shapes,
    guidance: Guidance | None = GUIDANCE,
    *,
    values: Mapping[str, Tensor] | None = None,
    habits: Habits | None = None,
) -> Generated:
    """One drawing for each prompt, ids up to where its start token comes; `values`: of the pictures in them
    (`DrawingReader.values`). Sampled as published unless `habits` say otherwise. The logits returned are
    [B, n, 2 S], guided, bit by bit those of 0 and 1."""
    made, habits = Generated(), habits or Habits(sampler=SAMPLER)
    record = made.recorder(reader, habits.hooks)
    session = Session(reader, rows=len(prompts), noise=habits.noise, policy=habits.policy)
    session.feed([list(prompt) for prompt in prompts], values=values)
    session.draw(shapes, order=reader.order, sampler=habits.sampler, guidance=guidance, hook=record)
    return made
