"""A session out of rows of other sessions: what continuous batching is made of.

Conversations that are prefilled apart go on in one batch, and one that leaves it (it is done, or writes an
image while the others say text) is taken out of it; nothing is read again. Iteration-level scheduling of Orca
(Yu et al., OSDI 2022): requests join and leave between two passes. Since noise depends on a row's seed and
the id's index in the stream, a row gives the same ids whatever it is batched with.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch

from unified.cache.kv_cache import KVCache
from unified.decoding.session import Session

Member = tuple[Session, int]  # a session, and the number of one of its rows


def gathered(members: Sequence[Member], seeds: Sequence[int]) -> Session:
    """A new session whose rows are copies of these rows of sessions of one model; `seeds`: of their noise.
    Policy, depth, parts and strategy are those of the first. The null branch of guidance is not copied: it is
    read again where an image needs it. ValueError for no row, another number of seeds, a row that has read
    nothing, and models that are conditioned on something besides keys and values."""
    if not members:
        raise ValueError("a session needs at least one row")
    first = members[0][0]
    for session, number in members:
        if session.model is not first.model:
            raise ValueError("rows of one session have the same model")
        if session.last is None or not session.context.cache.lengths[number]:
            raise ValueError(f"row {number} has read nothing yet: feed a prompt first")
        if session.context.conditions[0] is not None:
            raise ValueError("rows of models with a condition of their own are not gathered")
    found = Session(first.model, rows=len(members), seed=seeds, policy=first.policy, depth=first.depth,
                    parts=first.parts, strategy=first.strategy)  # fmt: skip
    found.context.cache = _cache(members)
    found.context.cursors = [session.context.cursors[number] for session, number in members]
    heads = zip(*(_states(*member) for member in members), strict=True)
    found.context.last = [[torch.stack(states) for states in heads]]
    found.rows = [session.rows[number].copy() for session, number in members]
    return found


def _cache(members: Sequence[Member]) -> KVCache:
    """Copies of the rows' keys and values, in buffers that fit them."""
    parts = []
    for _, group in groupby(members, key=lambda member: id(member[0])):
        some = list(group)
        parts.append(some[0][0].context.cache.take([number for _, number in some]))
    for part in parts:
        part.release(range(len(part.stores)))
    return parts[0] if len(parts) == 1 else KVCache.joined(parts)


def _states(session: Session, number: int) -> list[torch.Tensor]:
    """For each head, the states [D] after what the row has read."""
    return [states[number] for states in session.context.last[0]]
