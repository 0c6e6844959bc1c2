"""Drawing by Harmon: MAR's decoding, with the language model between encoder and decoder in every step.

The prompt's keys and values are computed once; the image span is computed anew in every step, since it
grows, and is cut off the cache again. Source: Wu et al., arXiv 2503.21979. Steps that write nothing (more
steps than tokens) are passed over, where the published sampler fails; noise is a function of row and place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unified.checkpoints.harmon.network import Harmon, Prompts, positions
from unified.checkpoints.mar.sampling import MaskedDecoding, drawn
from unified.decoding.noise import Noise
from unified.orders.masked_schedule import masked_rounds
from unified.orders.shapes import Shape


class PromptCache:
    """Keys and values of prompts, which image spans are read after and leave no trace in."""

    def __init__(self, model: Harmon, prompts: Prompts) -> None:
        from transformers import DynamicCache

        self.model, self.prompts = model, prompts
        self.length = prompts.ids.shape[1]
        self.cache: Any = DynamicCache()
        places = torch.arange(self.length, device=prompts.ids.device).expand(len(prompts.ids), -1)
        model.llm.model(
            inputs_embeds=model.embeds(prompts),
            position_ids=places,  # padding is on the right: what comes before it does not see it
            past_key_values=self.cache,
            use_cache=True,
        )

    def after(self, span: Tensor) -> Tensor:
        """Final hidden states [R, s, T] of an image span [R, s, T]; the cache is as before."""
        mask = torch.cat([self.prompts.mask, self.prompts.mask.new_ones(span.shape[:2])], dim=1)
        states: Tensor = self.model.llm.model(
            inputs_embeds=span,
            attention_mask=mask.long(),
            position_ids=positions(mask)[:, self.length :],
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        self.cache.crop(-span.shape[1])  # a negative count removes so many
        if self.cache.get_seq_length() != self.length:
            raise ValueError(f"the cache holds {self.cache.get_seq_length()} positions, not {self.length}")
        return states


class Entered(NamedTuple):
    """What a step began with: `mask` [B, n] bool, encoder rows `encoded` [R, R' + v, D] with the language
    model's part, conditions `hidden` [R, n, D], and the guidance `scale`; then the `values` [B, w, C] it
    wrote."""

    mask: Tensor
    encoded: Tensor
    hidden: Tensor
    scale: float
    values: Tensor


Watch = Callable[[Entered], None]


@torch.no_grad()
def sample(
    model: Harmon,
    prompts: Prompts,
    orders: Tensor,
    grid: Shape,
    noise: Noise,
    settings: MaskedDecoding | None = None,
    watch: Watch | None = None,
    source: Tensor | None = None,
) -> Tensor:
    """Tokens [B, n, C] of new images. `prompts`: of B rows, and with guidance of B null prompts after them;
    orders [B, n]: permutations of which the last entries are written first. `source` [R, R' + n, D]:
    encoder rows of images to edit. ValueError for another number of prompts."""
    settings = settings or MaskedDecoding(scale=3.0, linear=False)
    rows, count = orders.shape
    repeats = 1 + (settings.scale != 1)
    if len(prompts.ids) != repeats * rows:
        raise ValueError(f"{rows} images with guidance scale {settings.scale} need {repeats * rows} prompts")
    cache = PromptCache(model, prompts)
    tokens = model.mar.z_proj.weight.new_zeros(rows, count, model.mar.config.channels)
    for now in masked_rounds(orders, settings.steps):
        if not now.step.written:
            continue
        both = now.mask.repeat(repeats, 1)
        encoded = model.encode(tokens.repeat(repeats, 1, 1), both, grid)
        encoded = model.merged(encoded, cache.after(model.span(encoded)))
        hidden = model.decode(encoded, both, grid, source)
        scale = settings.scale_at(now.step, count)
        values = drawn(model.mar.diffloss, hidden, now.chosen, noise, settings, scale)
        if watch is not None:
            watch(Entered(now.mask, encoded, hidden, scale, values))
        tokens = now.filled(tokens, values)
    return tokens
