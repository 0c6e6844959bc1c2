"""Images of texts through a `Session`, and guidance of hidden states.

Source: FoundationVision/Infinity (MIT), infinity/models/infinity.py (autoregressive_infer_cfg).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unified.backbone.layer_pass import LayerPart, Pass
from unified.cache.policy import CachePolicy
from unified.checkpoints.generation import GREEDY, Generated
from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_text import NEGATIVE, PROMPT
from unified.decoding.drawing import Hook
from unified.decoding.guidance import Guidance, check_scales
from unified.decoding.noise import Noise
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.orders import Plan
from unified.orders.shapes import Shapes


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How images are written: sampling, noise, which keys and values stay, hooks that act in turn on every
    map, parts around the layers."""

    sampler: Sampler = GREEDY
    noise: Noise | None = None
    policy: CachePolicy | None = None
    hooks: Sequence[Hook] = ()
    parts: Sequence[LayerPart] = ()


@torch.no_grad()
def generate(
    model: Infinity,
    texts: Sequence[Tensor],
    shapes: Shapes,
    guidance: Guidance | None = None,
    *,
    negative: Sequence[Tensor] | None = None,
    habits: Habits | None = None,
) -> Generated:
    """Write one image for each text, given as features [n, Ct]; `negative`: as many texts to lead away from,
    in place of the learnt one. The logits returned are [B, n, 2 S], bit by bit those of 0 and 1."""
    made, habits = Generated(), habits or Habits()
    record = made.recorder(model, habits.hooks)
    session = Session(model, rows=len(texts), noise=habits.noise, policy=habits.policy, parts=habits.parts)
    feed(session, model, texts, negative)
    session.draw(shapes, order=model.order, sampler=habits.sampler, guidance=guidance, hook=record)
    return made


def draw(
    model: Infinity,
    texts: Sequence[Tensor],
    shapes: Shapes,
    guidance: Guidance | None = None,
    *,
    negative: Sequence[Tensor] | None = None,
    habits: Habits | None = None,
) -> Tensor:
    """As `generate`: images [B, 3, H, W] in [0, 1], by the tokenizer that is joined to the model."""
    model.needed_tokenizer()
    made = generate(model, texts, shapes, guidance, negative=negative, habits=habits)
    with torch.no_grad():
        return model.decode(torch.cat(made.vectors, dim=1), shapes)


def feed(
    session: Session, model: Infinity, texts: Sequence[Tensor], negative: Sequence[Tensor] | None = None
) -> None:
    """Give each row of a session its text, and what to lead away from."""
    away = negative or [text[:0] for text in texts]
    prompts = [model.prompt(len(text), len(other)) for text, other in zip(texts, away, strict=True)]
    values = {PROMPT: torch.cat(list(texts))}
    if negative:
        values[NEGATIVE] = torch.cat(list(away))
    session.feed(prompts, values=values)


@dataclass(frozen=True)
class LayerGuidance(Guidance, LayerPart):
    """Classifier-free guidance of the hidden states after one layer, in place of the logits: both branches go
    on from scale * conditional + (1 - scale) * null. To be used as a session's guidance and as one of its
    parts. `scales`: one for each step, 1 being off; `after`: the number of the layer."""

    scales: tuple[float, ...]
    after: int
    by_step = True

    def __post_init__(self) -> None:
        check_scales(*self.scales)

    def weight(self, plan: Plan, step: int) -> float:
        """Logits are read from the conditional branch alone."""
        return 0.0

    def uses_null(self, plan: Plan, step: int) -> bool:
        return self.scales[step] != 1

    def leave(self, layer: int, hidden: Tensor, run: Pass) -> Tensor:
        if layer != self.after or run.step < 0:
            return hidden
        conditional, null = hidden.chunk(2)
        return torch.lerp(null, conditional, self.scales[run.step]).repeat(2, 1, 1)
