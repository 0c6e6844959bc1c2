"""One action generated in every row of a session, id by id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unified.decoding.context import Chunk
from unified.decoding.sampling import Sampler, kept_share
from unified.finite import check_logits
from unified.layout.layout import Layout

if TYPE_CHECKING:
    from unified.decoding.session import Session


def generate_action(
    session: Session,
    sampler: Sampler,
    last: Tensor,
    choices: Callable[[int], Sequence[int]] | None = None,
) -> tuple[Tensor, Tensor]:
    """Ids counted from 0 [B, slots] and their log-probabilities [B, slots] (`Session.log_probs`; zeros if not
    recorded), read as they come after the states `last` [B, D]. `choices(slot)`: the ids that a slot may
    take; without it any action id."""
    words, context, model = session.vocabulary, session.context, session.model
    rows, device = context.rows(), model.device
    blank = torch.tensor([[words.action_start] * words.action_slots] * len(session.rows))
    layout = Layout.of(blank, words, context.cursors[rows])
    taken: list[Tensor] = []
    scores = torch.zeros(len(session.rows), words.action_slots)
    for slot in range(words.action_slots):
        places = torch.tensor([[row.place + slot] for row in session.rows])
        options = torch.tensor(list(choices(slot)) if choices else range(words.action), device=device)
        every = model.text_logits(last)
        logits = every[:, words.visual_start + options]
        check_logits(logits)
        drawn = sampler.draw(logits[:, None, None, :], session.noise, places)
        taken.append(options[drawn.symbols.flatten()])
        if session.recorded:
            scores[:, slot] = drawn.log_probs[:, 0] + kept_share(logits, every)
        part = layout.part(slice(slot, slot + 1))
        embeds = model.read((words.action_start + taken[-1])[:, None], part.to(device))
        if embeds is not None:
            chunk = Chunk.of(embeds, part.index, part.positions)
            hidden = context.run(model, chunk, rows, parts=session.parts)
            context.note(chunk, hidden, chunk.counts)
            last = hidden[0][:, -1]
    context.cursors[rows] = list(layout.cursors)
    return torch.stack(taken, dim=1), scores
