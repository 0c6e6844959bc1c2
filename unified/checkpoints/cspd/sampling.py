"""Images by continuous speculative decoding of two MARs, as released: the draft writes the tokens of several
steps, the target then predicts all of them at once, and each is accepted or drawn anew by itself. Tokens
that were drafted after one that is rejected are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unified.checkpoints.cspd.rule import Redrawn, Trajectory, trajectory
from unified.checkpoints.mar.network import MAR
from unified.finite import check_count, check_number
from unified.heads.diffusion import DiffusionDistribution, Term
from unified.heads.diffusion_schedule import cosine
from unified.orders.masked_schedule import masked_rounds

Rule = Callable[[Tensor, Trajectory, Trajectory], Redrawn]


@dataclass(frozen=True, kw_only=True)
class SpeculativeMasked:
    """`steps` of masked decoding; guidance `scale`, growing with the share of known tokens (1: none); every
    `drafts` steps are verified; `prefill`: share of steps that the target writes alone; `temperature` and
    `sections` of the diffusion head. Released: 64, 8, 0.15."""

    steps: int = 64
    scale: float = 1.0
    drafts: int = 8
    prefill: float = 0.15
    temperature: float = 1.0
    sections: tuple[int, ...] = (100,)

    def __post_init__(self) -> None:
        check_count("steps", self.steps, 1)
        check_count("drafts", self.drafts, 1)
        check_number("prefill", self.prefill, 0, 1)
        check_number("scale", self.scale)


@dataclass(frozen=True, eq=False)
class Writer:
    """One model on images of classes `labels` [B] with the noise [B, L, K, C] of every token."""

    model: MAR
    labels: Tensor
    normal: Tensor
    settings: SpeculativeMasked

    def hidden(self, tokens: Tensor, mask: Tensor, doubled: bool) -> Tensor:
        """[B or 2B, L, D]: conditions of all tokens, those of no class last."""
        rows = len(tokens)
        told = self.model.classes(self.labels, rows)
        if doubled:
            told = torch.cat([told, self.model.classes(None, rows)])
            tokens, mask = torch.cat([tokens, tokens]), torch.cat([mask, mask])
        return self.model(tokens, mask, told)

    def predict(self, tokens: Tensor, mask: Tensor, chosen: Tensor, scale: float) -> Trajectory:
        """Of the tokens that `chosen` [B, L] bool names, row by row; `mask` [B, L] bool: unknown ones."""
        doubled = self.settings.scale != 1
        hidden = self.hidden(tokens, mask, doubled)
        schedule = cosine(1000, self.settings.sections)

        def law(part: Tensor) -> DiffusionDistribution:
            return DiffusionDistribution(self.model.diffloss, schedule, (Term(part[chosen], 1.0, 1.0),))

        found = law(hidden[: len(tokens)])
        if doubled:
            found = found.guided(law(hidden[len(tokens) :]), scale - 1)
        return trajectory(found, self.normal[chosen], self.settings.temperature)


@torch.no_grad()
def sample(
    draft: MAR,
    target: MAR,
    labels: Tensor,
    orders: Tensor,
    normal: Tensor,
    rule: Rule,
    settings: SpeculativeMasked,
) -> Tensor:
    """Tokens [B, L, C] of new images. labels [B]; orders [B, L]: permutations of which the last entries are
    written first; normal [B, L, K, C]: noise of every token, row 0 the start."""
    count = orders.shape[1]
    writers = [Writer(model, labels, normal, settings) for model in (draft, target)]
    tokens = normal.new_zeros(*orders.shape, normal.shape[-1])
    waiting = torch.zeros(orders.shape, dtype=torch.bool)  # drafted and not verified
    held = Trajectory(*(torch.zeros_like(tokens) for _ in range(4)))
    for now in masked_rounds(orders, settings.steps):
        scale = now.step.scale(settings.scale, count)
        drafted = now.number > settings.steps * settings.prefill
        found = writers[not drafted].predict(tokens, now.mask, now.chosen, scale)
        tokens = now.filled(tokens, found.out)
        if drafted:
            waiting = waiting | now.chosen
            parts = zip(vars(held).values(), vars(found).values(), strict=True)
            held = Trajectory(*(now.filled(whole, part) for whole, part in parts))
        if waiting.any() and (now.step.last or (drafted and now.number % settings.drafts == 0)):
            true = writers[1].predict(tokens, now.left | waiting, waiting, scale)
            verdict = rule(tokens[waiting], true, held[waiting])
            tokens = tokens.masked_scatter(waiting[..., None], verdict.values)
            waiting = torch.zeros_like(waiting)
    return tokens
