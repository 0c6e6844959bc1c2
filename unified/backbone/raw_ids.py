"""Refuses ids where the decoder takes embeddings.
 Ids of the stream are embedded by `UnifiedModel` (codes by the head, written codes by what their plan feeds
them) and scored by the head of their sort. The decoder has an `embed_tokens` of its own, so trainers that
call `base_model` with raw ids and multiply the result by the output embeddings, as TRL does, run without an
error and get wrong log-probabilities: -418.4 for a reply with an image whose true one is -215.6.
"""

from __future__ import annotations

from typing import Any

from torch import nn

MESSAGE = (
    "the decoder takes inputs_embeds, not input_ids: use log_probs of UnifiedModel.forward, which belong to "
    "the tokens themselves (no shift); for preference tuning see unified.objectives"
)


def refuse_raw_ids(decoder: nn.Module) -> None:
    """From now on `decoder(input_ids)` raises ValueError; calls with `inputs_embeds` and its layers stay as
    they are."""
    decoder.register_forward_pre_hook(_refuse, with_kwargs=True)


def _refuse(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    ids = arguments[0] if arguments else named.get("input_ids")  # the first argument of every text decoder
    if ids is not None:
        raise ValueError(MESSAGE)
