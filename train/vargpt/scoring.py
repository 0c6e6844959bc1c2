"""Log-probabilities of VARGPT's targets as every objective takes them (`unified.objectives.Scores`): those of
text first, then those of the slots of drawings, which stand behind the text of their row."""

from __future__ import annotations

import torch
from torch import Tensor

from unified.checkpoints.vargpt import Forced
from unified.layout.layout import IGNORED
from unified.objectives import Scores
from unified.orders.shapes import Shapes


def scores_of(
    forced: Forced,
    labels: Tensor,
    bits: Tensor | None,
    shapes: Shapes,
    *,
    draws: Tensor,
    weights: tuple[float, float],
) -> Scores:
    """Of labels [B, T] at the ids themselves (IGNORED: no target) and, for rows that draw (`draws` [B] bool),
    bits [N, L, S] of their slots. `weights`: of text and of drawings. The loss of `CrossEntropy` is then
    weights[0] times the mean over text targets plus weights[1] times the mean over slots and bits."""
    text, scored = _text(forced.text, labels)
    rows = len(labels)
    count = 0 if bits is None else bits.shape[1]
    image = text.new_zeros(rows, count)
    if bits is not None and forced.drawn is not None:
        chosen = forced.drawn.bits.float().log_softmax(dim=-1).gather(-1, bits[..., None])
        image = image.index_put((draws.nonzero()[:, 0],), chosen.squeeze(-1).sum(dim=-1))
    log_probs = torch.cat([text, image], dim=1)  # [B, T + L]
    step = torch.full((count,), 0, device=labels.device)
    if count:
        areas = torch.tensor([height * width for height, width in shapes], device=labels.device)
        step = torch.arange(len(shapes), device=labels.device).repeat_interleave(areas)
    drawn = draws[:, None].expand(rows, count)
    per_text = weights[0] * rows / scored.sum().clamp(min=1)
    symbols = 1 if bits is None else bits.shape[1] * bits.shape[2]
    per_slot = weights[1] * rows / (draws.sum().clamp(min=1) * symbols)
    factors = torch.cat([scored * per_text, drawn * per_slot], dim=1).float()
    segment = torch.cat([torch.zeros_like(labels), torch.ones_like(drawn, dtype=torch.long)], dim=1)
    steps = torch.cat([torch.full_like(labels, -1), step.expand(rows, count)], dim=1)
    return Scores(
        log_probs=log_probs,
        targets=torch.cat([scored, drawn], dim=1) & (factors > 0),
        weights=factors,
        segment_sums=_summed(log_probs, segment, 2),
        step_sums=_by_step(log_probs, segment, steps, len(shapes)),
        sample=torch.zeros_like(segment),
        segment=segment,
        step=steps,
    )


def _text(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each target at its own place [B, T], 0 elsewhere, and which are targets."""
    scored = labels != IGNORED
    scored[:, 0] = False  # nothing stands before the first id
    likely = logits[:, :-1].float().log_softmax(dim=-1)
    chosen = likely.gather(-1, labels[:, 1:].clamp(min=0)[..., None]).squeeze(-1)
    return torch.nn.functional.pad(chosen, (1, 0)).masked_fill(~scored, 0.0), scored


def _summed(values: Tensor, number: Tensor, count: int) -> Tensor:
    return values.new_zeros(len(values), count).scatter_add(1, number, values)


def _by_step(values: Tensor, segment: Tensor, step: Tensor, steps: int) -> Tensor:
    """[B, 2, steps]: sums of drawings by map."""
    inside = values.masked_fill(step < 0, 0.0)
    flat = _summed(inside, segment * steps + step.clamp(min=0), 2 * steps)
    return flat.unflatten(1, (2, steps))
