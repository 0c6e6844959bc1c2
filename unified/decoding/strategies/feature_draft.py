"""A draft in the style of EAGLE: one layer that continues the hidden states of the model.

At slot t the layer reads what the slot is fed (the code before it) and the model's hidden state of the slot
before, and predicts the slot's hidden state, from which the model's own head predicts the code; further slots
of a round go on from its own predictions. Li et al., "EAGLE: speculative sampling requires rethinking feature
uncertainty", arXiv 2401.15077; trained as in LANTERN, arXiv 2410.03355: smooth L1 to the hidden states plus a
tenth of the cross-entropy with the model's distributions. For orders that write one code a step. Positions
are told by the hidden states. Tests: tests/unified/decoding/test_feature_draft.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.decoding.context import Chunk
from unified.decoding.strategies.tree_guesses import Level, NodeChunk
from unified.layout.layout import Layout
from unified.orders import Plan

if TYPE_CHECKING:
    from unified.decoding.session import Session

EPS = 1e-5  # added to the number of targets


@dataclass(frozen=True)
class DraftChunk(Chunk):
    """The positions of one drafted step. `history`: what went before them in the images, for each
    conversation its rows [b] with the inputs [b, m, D] and first hidden states [b, m, D] of its steps so far,
    those of this round as they were drafted."""

    history: Callable[[], Sequence[tuple[Sequence[int], Tensor, Tensor]]] = list


class FeatureDrafter(nn.Module):
    """For hidden states of `width`; `heads` of attention, `inner` width of the MLP (default: 4 times)."""

    def __init__(self, width: int, *, heads: int = 4, inner: int | None = None) -> None:
        super().__init__()
        self.join = nn.Linear(2 * width, width)
        self.layer = nn.TransformerEncoderLayer(
            width,
            heads,
            inner or 4 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        nn.init.zeros_(self.join.weight)  # a slot has the state of the one before it, for a start
        nn.init.zeros_(self.join.bias)
        with torch.no_grad():
            self.join.weight[:, width:] = torch.eye(width)

    def forward(self, inputs: Tensor, before: Tensor) -> Tensor:
        """What slots are fed [R, n, D] and the hidden states of the slots before them [R, n, D] -> theirs."""
        mask = nn.Transformer.generate_square_subsequent_mask(inputs.shape[1], device=inputs.device)
        x = self.join(torch.cat([inputs.float(), before.float()], dim=-1))
        found: Tensor = self.layer(x, src_mask=mask, is_causal=True)
        return found


@dataclass(frozen=True, kw_only=True)
class FeatureDraft:
    """Draft of images by a trained `drafter`; of text it guesses nothing."""

    drafter: FeatureDrafter = field(compare=False)

    def text(self, session: Session, drafted: Sequence[Sequence[int]]) -> None:
        """It guesses no text."""

    @torch.no_grad()
    def image(
        self, session: Session, chunk: Chunk, rows: slice, plan: Plan, step: int
    ) -> list[Tensor] | None:
        """`Draft.image`; None for steps of several codes, or slots that are read out elsewhere."""
        if not isinstance(chunk, DraftChunk) or chunk.embeds.shape[1] != 1 or plan.heads != 1 or not plan.own:
            return None
        session.stats.draft_passes += 1
        found = torch.zeros_like(chunk.embeds)
        for numbers, inputs, states in chunk.history():
            own = chunk.embeds[list(numbers)]
            fed = torch.cat([inputs[:, 1:], own], dim=1)
            found[list(numbers)] = self.drafter(fed, states)[:, -1:].to(found.dtype)
        return [found]

    def text_tree(self, session: Session, level: Level) -> None:
        """It guesses no text."""

    @torch.no_grad()
    def image_tree(
        self, session: Session, chunk: NodeChunk, rows: slice, plan: Plan, step: int
    ) -> list[Tensor]:
        """`TreeDraft.image_tree`: of every node by what went before it."""
        session.stats.draft_passes += 1
        found = torch.zeros_like(chunk.embeds)
        for numbers, column, inputs, states in chunk.history():
            fed = torch.cat([inputs[:, 1:], chunk.embeds[numbers, column][:, None]], dim=1)
            found[numbers, column] = self.drafter(fed, states)[:, -1].to(found.dtype)
        return [found]


# Training ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FeatureLoss:
    """Of hidden states (`features`) and of distributions (`tokens`)."""

    features: Tensor
    tokens: Tensor
    token_weight: float = 0.1

    @property
    def total(self) -> Tensor:
        return self.features + self.token_weight * self.tokens


def feature_loss(
    output: Tensor,
    target: Tensor,
    logits: Tensor,
    wanted: Tensor,
    mask: Tensor,
    token_mask: Tensor | None = None,
) -> FeatureLoss:
    """Smooth L1 of predicted and true hidden states [B, T, D], and cross-entropy of `logits` with the
    distributions of the logits `wanted` [B', T, V], averaged by `mask` [B, T] and `token_mask` [B', T]
    (default: the same)."""
    token_mask = mask if token_mask is None else token_mask
    smooth = F.smooth_l1_loss(output, target, reduction="none").mean(dim=-1)
    entropy = -(wanted.softmax(dim=-1) * logits.log_softmax(dim=-1)).sum(dim=-1)
    return FeatureLoss(
        (smooth * mask).sum() / (mask.sum() + EPS), (entropy * token_mask).sum() / (token_mask.sum() + EPS)
    )


def images_of(model: Any, ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Of rows of ids [B, T] with written images: for every sort of image, what its slots are fed and their
    first hidden states, each [N, slots, D], by one pass of the model."""
    layout = Layout.of(ids, model.vocabulary)
    embeds = model.embed(ids, layout)
    hidden = model.decode(embeds, layout)[0]
    for group in layout.writes:
        places = group.rows[:, None], group.slots()
        yield embeds[places], hidden[places]


def drafter_loss(drafter: FeatureDrafter, model: Any, ids: Tensor) -> FeatureLoss:
    """The training loss of a drafter on rows of ids [B, T]. Its gradient reaches the model's head too, which
    is to stay as it is: give the optimiser the drafter's parameters alone. ValueError without a written
    image."""
    with torch.no_grad():
        found = list(images_of(model, ids))
    if not found:
        raise ValueError("a drafter learns from written images: the rows have none")
    losses = []
    for inputs, states in found:
        output = drafter(inputs[:, 1:], states[:, :-1])
        target = states[:, 1:]
        logits, wanted = (model.head.logits(x).flatten(1, 2) for x in (output, target))
        losses.append(feature_loss(output, target, logits, wanted, torch.ones_like(output[..., 0])))
    features, tokens = ([getattr(loss, name) for loss in losses] for name in ("features", "tokens"))
    return FeatureLoss(torch.stack(features).mean(), torch.stack(tokens).mean())
