"""Edited images through a `Session`.

Source: HiDream-ai/VAREdit (MIT); arXiv 2508.15772. The published script pads a source to a square at the
bottom and on the right with white, and cuts the result back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unified.checkpoints.generation import Generated
from unified.checkpoints.infinity_generation import Habits
from unified.checkpoints.infinity_text import NEGATIVE, PROMPT
from unified.checkpoints.varedit.network import SOURCE, VAREdit
from unified.decoding.guidance import Guidance
from unified.decoding.session import Session


@torch.no_grad()
def edit(
    model: VAREdit,
    texts: Sequence[Tensor],
    source: Tensor,
    guidance: Guidance | None = None,
    *,
    negative: Sequence[Tensor] | None = None,
    habits: Habits | None = None,
) -> Generated:
    """Write one edited image for each instruction, given as features [n, Ct], from the latents [B, d, h, w]
    of as many source images. The rest as in `infinity_generation.generate`."""
    made, habits = Generated(), habits or Habits()
    session = Session(model, rows=len(texts), noise=habits.noise, policy=habits.policy, parts=habits.parts)
    feed(session, model, texts, model.source_tokens(source), negative)
    session.draw(
        model.shapes,
        order=model.order,
        sampler=habits.sampler,
        guidance=guidance,
        hook=made.recorder(model, habits.hooks),
    )
    return made


def feed(
    session: Session,
    model: VAREdit,
    texts: Sequence[Tensor],
    source: Tensor,
    negative: Sequence[Tensor] | None = None,
) -> None:
    """Give each row of a session its source image, as tokens [B, S, token bits], and its text."""
    away = negative or [text[:0] for text in texts]
    prompts = [model.prompt(len(text), len(other)) for text, other in zip(texts, away, strict=True)]
    values = {PROMPT: torch.cat(list(texts)), SOURCE: source.flatten(0, 1)}
    if negative:
        values[NEGATIVE] = torch.cat(list(away))
    session.feed(prompts, values=values)


def padded_to_square(image: Tensor) -> Tensor:
    """[..., 3, H, W] in [-1, 1] -> [..., 3, N, N], N the longer side: white at the bottom and on the
    right."""
    height, width = image.shape[-2:]
    side = max(height, width)
    return torch.nn.functional.pad(image, (0, side - width, 0, side - height), value=1.0)
