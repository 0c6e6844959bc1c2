"""What a TRL trainer gets from this model in place of its fused head.

TRL 1.16 replaces the `forward` of its models by one that, called with `fused_lm_head=True`, multiplies the
states of `base_model` by the output embeddings and takes each state for that of the next token. Neither holds
for a stream: `install` puts a branch in its place that returns the model's own log-probabilities, shifted to
where TRL looks for them (entry t scores token t + 1).
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from unified.bound import BoundNoise
from unified.heads.distribution import Distribution
from unified.layout.layout import IGNORED, Layout
from unified.likelihood import measured
from unified.model import UnifiedModel

MEASURES = ("log_probs", "entropy", "mean_logits", "is_top1", "log_sum_sq_probs")
OURS = ("layout", "weights", "columns", "silent", "bound_noise")  # what our collators and trainers add


@dataclass
class HeadOutput(ModelOutput):
    """What TRL's trainers read, each [B, T - 1]; entry t is of token t + 1, and 0 where that is no target."""

    loss: Tensor | None = None
    log_probs: Tensor | None = None
    entropy: Tensor | None = None
    mean_logits: Tensor | None = None
    is_top1: Tensor | None = None
    log_sum_sq_probs: Tensor | None = None


def token_measures(predicted: Distribution, values: Tensor) -> Tensor:
    """[N, 5] of tokens: their log-probability, with gradient; without, what TRL logs or weighs by: entropy,
    mean logit, whether the token is the likeliest, and log sum p^2. A code of several symbols sums the first
    and the last over its symbols. NaN for continuous values, which have no logits."""
    log_probs = predicted.log_prob(values)
    logits = getattr(predicted, "logits", None)
    if logits is None:
        nothing = log_probs.detach().new_full((len(log_probs), 4), torch.nan)
        return torch.cat([log_probs[:, None], nothing], dim=1)
    with torch.no_grad():
        logits = logits.detach().float()  # [N, S, V]
        log_p = logits.log_softmax(dim=-1)
        p = log_p.exp()
        noted = [
            -(p * log_p.clamp(min=-1e9)).sum(dim=(-1, -2)),
            logits.mean(dim=(-1, -2)),
            (logits.argmax(dim=-1) == values).all(dim=-1).float(),
            p.square().sum(dim=-1).log().sum(dim=-1),
        ]
    return torch.cat([log_probs[:, None], torch.stack(noted, dim=1)], dim=1)


def install(
    model: UnifiedModel,
    note: Callable[[Tensor], None],
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> None:
    """Replace TRL's branch of `model.forward`, in place. `note` is given the log-probabilities [B, T] of the
    targets of every pass, without weights; `context` is entered for it (autocast, where nobody else does)."""
    plain = type(model).forward

    @functools.wraps(plain)
    def forward(
        self: UnifiedModel,
        input_ids: Tensor,
        labels: Tensor | None = None,
        *,
        fused_lm_head: bool = False,
        **others: Any,
    ) -> Any:
        given = {name: others.pop(name, None) for name in OURS}
        if not fused_lm_head:
            return plain(self, input_ids, labels=labels, **others)
        del given["columns"]  # the trainer's own
        with context():
            return _scored(self, input_ids, labels, note, **given)

    model.forward = types.MethodType(forward, model)  # type: ignore[method-assign]


def _scored(
    model: UnifiedModel,
    ids: Tensor,
    labels: Tensor | None,
    note: Callable[[Tensor], None],
    layout: Layout | None = None,
    weights: Tensor | None = None,
    silent: Tensor | None = None,
    bound_noise: BoundNoise | None = None,
) -> HeadOutput:
    """Rows of ids [B, T] with labels. `weights` [B, T]: factors on the log-probabilities that are returned.
    `silent` [1, T]: a row that is run along, so that every parameter is used, and counts nothing; the layout
    includes it. `bound_noise`: as of the model's own `forward`."""
    rows = len(ids)
    if silent is not None:
        ids = torch.cat([ids, silent])
    layout = (layout or Layout.of(ids, model.vocabulary)).to(ids.device)
    asked = labels if labels is not None else layout.labels(ids)[:rows]
    wanted = layout.predicted.clone()
    wanted[:rows] &= asked != IGNORED
    states = model.states(ids, layout)
    found = measured(model, states, ids, layout, wanted, token_measures, (len(MEASURES),), bound_noise)
    log_probs = found[:rows, :, 0] + 0.0 * found[rows:, :, 0].sum()
    note(log_probs)
    weighted = log_probs if weights is None else log_probs * weights
    noted = dict(zip(MEASURES, found[:rows, 1:].detach().unbind(dim=-1), strict=True))
    noted |= {"log_probs": weighted[:, 1:], "is_top1": noted["is_top1"] > 0}
    return HeadOutput(loss=-weighted.sum() / wanted[:rows].sum().clamp(min=1), **noted)
