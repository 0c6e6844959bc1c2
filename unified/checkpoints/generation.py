"""Images of classes through a `Session`, and the habits of the published samplers as hooks on its steps.

Sources: FoundationVision/VAR (MIT), models/var.py; jiaosiyu1999/FlexVAR (MIT), models/flexvar.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.next_scale import NextScaleTransformer
from unified.decoding.drawing import Choice, Hook
from unified.decoding.guidance import Guidance
from unified.decoding.noise import Noise
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.heads.distribution import Categorical
from unified.orders.shapes import Shapes

USUAL_SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 23, 24, 32)
FORBIDDEN = -100.0  # the logit FlexVAR gives to codes that must not be drawn
GREEDY = Sampler(temperature=0)


@dataclass
class Generated:
    """Per map: `codes` [B, n], guided and unfiltered `logits` [B, n, V], the `vectors` [B, n, C] fed on."""

    codes: list[Tensor] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    vectors: list[Tensor] = field(default_factory=list)

    def recorder(self, model: Any, hooks: Sequence[Hook] = ()) -> Hook:
        """A hook that lets `hooks` act in turn on every map and keeps what comes of it; logits of several
        symbols a code one after another, [B, n, S V]. `model` has `vectors`."""

        def record(choice: Choice) -> Choice:
            for hook in hooks:
                choice = hook(choice)
            self.codes.append(choice.codes)
            self.logits.append(choice.logits.flatten(-2))
            self.vectors.append(model.vectors(choice.codes) if choice.vectors is None else choice.vectors)
            return choice

        return record


@torch.no_grad()
def generate(
    model: NextScaleTransformer,
    labels: Tensor,
    shapes: Shapes,
    *,
    guidance: Guidance | None = None,
    sampler: Sampler = GREEDY,
    noise: Noise | None = None,
    hooks: Sequence[Hook] = (),
) -> Generated:
    """Write one image per label [B], the hooks acting in turn on every map."""
    made = Generated()
    record = made.recorder(model, hooks)
    session = Session(model, rows=len(labels), noise=noise)
    session.feed([model.prompt(label) for label in labels.tolist()])
    session.draw(shapes, order=model.order, sampler=sampler, guidance=guidance, hook=record)
    return made


def smooth(model: NextScaleTransformer, generator: torch.Generator) -> Hook:
    """VAR's `more_smooth`, for looking at only: the codes drawn are put aside, mixtures of code vectors
    fed instead."""

    def mix(choice: Choice) -> Choice:
        progress = choice.step / max(len(choice.plan.steps) - 1, 1)
        temperature = max(0.27 * (1 - 0.95 * progress), 0.005)
        logits = choice.sampler.filter(choice.logits).squeeze(-2)  # [B, n, V]
        gumbel = -torch.empty_like(logits).exponential_(generator=generator).log()
        weights = ((logits * (1 + progress) + gumbel) / temperature).softmax(-1)
        every = torch.arange(logits.shape[-1], device=logits.device)
        return replace(choice, vectors=weights @ model.vectors(every))

    return mix


def greedy_where_unusual(largest: int = 16) -> Hook:
    """FlexVAR takes the likeliest codes of maps finer than `largest` and of sides it does not know."""

    def take(choice: Choice) -> Choice:
        shape = choice.plan.step_shape(choice.step)
        usual = max(shape) <= largest and all(side in USUAL_SIDES for side in shape)
        return choice if usual else replace(choice, codes=choice.logits.squeeze(-2).argmax(dim=-1))

    return take


def forbid(codes: Sequence[int]) -> Hook:
    """FlexVAR's `invalid_ids`: these codes are not drawn. Where one was, the draw is repeated without
    them."""

    def redraw(choice: Choice) -> Choice:
        logits = choice.logits.clone()
        logits[..., list(codes)] = FORBIDDEN
        places = torch.zeros(choice.codes.shape, dtype=torch.long)
        drawn = choice.sampler.draw(logits, choice.noise, places + choice.slots).symbols.squeeze(-1)
        return replace(choice, predicted=Categorical(logits), codes=drawn)

    return redraw
