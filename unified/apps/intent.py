"""What a message asks for, measured by the model itself: what it says with the message and without it.

An answer that is as likely after an empty message does not answer this one. The difference of the
log-probabilities is the pointwise mutual information of message and answer, in nats (Church and Hanks,
"Word association norms, mutual information, and lexicography", 1990).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

ASKED_FOR = 2.0  # nats that a message must tell of the words before an image; thanks tell 0, edits 5 to 25


@torch.no_grad()
def log_prob(model: Any, prompt: Sequence[int], ids: Sequence[int]) -> float:
    """Log-probability, in nats, of ids after a prompt."""
    scores = model(torch.tensor([[*prompt, *ids]], device=model.device), return_logits=False).log_probs
    return float(scores[0, len(prompt) :].sum())


def information(model: Any, asked: Sequence[int], null: Sequence[int], ids: Sequence[int]) -> float:
    """How much likelier ids are after the prompt `asked` than after `null`, in nats."""
    return log_prob(model, asked, ids) - log_prob(model, null, ids)
