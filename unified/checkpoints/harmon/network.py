"""Harmon: MAR's encoder reads images for a language model, whose hidden states go back into MAR's decoder.

All of an image is visible for understanding; for generation the same encoder reads what is known of it.
Source: Wu et al., Harmonizing Visual Representations for Unified Multimodal Understanding and Generation,
arXiv 2503.21979 (wusize/Harmon, non-commercial: written from its mathematics). Parameter names are the
published ones; the language model is `transformers`' Qwen2. Test:
tests/unified/checkpoints/harmon/test_harmon.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.backbone.gradient_scale import scaled_gradient
from unified.checkpoints.mar.head import denoiser_for, inside, matrix, our_name
from unified.checkpoints.mar.network import MAR, Places, config_of, to_images, to_tokens
from unified.checkpoints.state_dict import load_strict
from unified.orders.shapes import Shape

LATENT_SCALE = 0.2325  # of the KL autoencoder's latents
GRADIENT = 0.1  # share of the text loss's gradient that reaches the image encoder
IMAGE = -200  # the id at whose positions image rows stand
HEAD = "mar.diffloss.net."


@dataclass(frozen=True, eq=False)
class Prompts:
    """`ids` [B, P] of prompts, padded on the right, and their `mask` [B, P] bool. Image rows [B, n, T], if
    there are any, take the places of the ids `image`."""

    ids: Tensor
    mask: Tensor
    rows: Tensor | None = None
    image: int = IMAGE


class Harmon(nn.Module):
    """`llm`: a causal language model of `transformers`; `semantic`: width of the features of a second
    vision tower that understanding is projected from (UniPic; 0: none)."""

    def __init__(self, llm: Any, mar: MAR, semantic: int = 0) -> None:
        super().__init__()
        self.llm, self.mar = llm, mar
        width, inner = mar.config.width, llm.config.hidden_size
        self.proj_in = projector(width, inner, inner)
        self.proj_out = projector(inner, inner, width)
        if semantic:
            self.siglip2_proj = projector(semantic, inner, inner)

    # Image rows -------------------------------------------------------------------------------------------

    def places(self, grid: Shape) -> Places:
        """MAR's positions, resized to a grid of tokens (rows, columns)."""
        own, buffer = self.mar.places(), self.mar.config.buffer
        encoder, decoder = (
            torch.cat([table[:, :buffer], resized(table[:, buffer:], grid)], dim=1)
            for table in (own.encoder, own.decoder)
        )
        return Places(encoder, decoder, resized(own.output, grid))

    def encode(self, tokens: Tensor, mask: Tensor, grid: Shape) -> Tensor:
        """tokens [B, n, C], mask [B, n] bool (true: hidden) -> buffer rows and visible rows [B, R + v, D]."""
        return self.mar.encode(tokens, mask, self.mar.classes(None, len(tokens)), self.places(grid))

    def span(self, encoded: Tensor) -> Tensor:
        """Rows of `encode` as the language model reads them [B, R + v, T]: the buffer at the end, so that
        it sees all patches."""
        return self.proj_in(encoded).roll(-self.mar.config.buffer, dims=1)

    def merged(self, encoded: Tensor, states: Tensor) -> Tensor:
        """Rows of `encode` plus what the language model's hidden states of their span [B, R + v, T] say."""
        found: Tensor = encoded + self.proj_out(states.roll(self.mar.config.buffer, dims=1))
        return found

    def decode(self, encoded: Tensor, mask: Tensor, grid: Shape, source: Tensor | None = None) -> Tensor:
        """Conditions [B, n, D] of all tokens. `source` [B, R + n, D]: encoder rows of an image to edit."""
        return self.mar.decode(encoded, mask, source, self.places(grid))

    # Language model ---------------------------------------------------------------------------------------

    def embeds(self, prompts: Prompts) -> Tensor:
        """Input embeddings [B, P, T] of prompts."""
        image = prompts.ids == prompts.image
        found: Tensor = self.llm.get_input_embeddings()(prompts.ids.masked_fill(image, 0))
        if prompts.rows is None:
            return found
        if int(image.sum()) != prompts.rows.shape[:2].numel():
            rows = prompts.rows.shape[:2].numel()
            raise ValueError(f"{int(image.sum())} image positions for {rows} image rows")
        return found.masked_scatter(image[..., None], prompts.rows.to(found.dtype))

    def after(self, prompts: Prompts, span: Tensor) -> Tensor:
        """Final hidden states [B, s, T] of an image span [B, s, T] after its prompts, in one pass."""
        mask = torch.cat([prompts.mask, prompts.mask.new_ones(span.shape[:2])], dim=1)
        whole = torch.cat([self.embeds(prompts), span], dim=1)
        states: Tensor = self.llm.model(
            inputs_embeds=whole, attention_mask=mask.long(), position_ids=positions(mask), use_cache=False
        ).last_hidden_state
        return states[:, prompts.ids.shape[1] :]

    def forward(
        self, prompts: Prompts, tokens: Tensor, mask: Tensor, grid: Shape, source: Tensor | None = None
    ) -> Tensor:
        """Conditions [B, n, D] of the tokens [B, n, C] of images, of which those in `mask` [B, n] are
        unknown."""
        encoded = self.encode(tokens, mask, grid)
        return self.decode(self.merged(encoded, self.after(prompts, self.span(encoded))), mask, grid, source)

    def understood(self, tokens: Tensor, grid: Shape) -> Tensor:
        """Image rows [B, R + n, T] for the prompts of understanding, through which little gradient flows
        back."""
        none = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return scaled_gradient(self.span(self.encode(tokens, none, grid)), GRADIENT)

    def logits(self, prompts: Prompts) -> Tensor:
        """Logits [B, P, V] of the next ids, at positions counted from the first one."""
        found: Tensor = self.llm(
            inputs_embeds=self.embeds(prompts), attention_mask=prompts.mask.long(), use_cache=False
        ).logits
        return found


def projector(width: int, inner: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, inner), nn.SiLU(), nn.Linear(inner, outputs))


def positions(mask: Tensor) -> Tensor:
    """[B, P]: how many real positions stand before each one, 0 at the first and at padding before it."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def resized(table: Tensor, grid: Shape) -> Tensor:
    """Learned positions [1, side * side, D] of a square grid for another one (rows, columns), bilinearly."""
    side = math.isqrt(table.shape[1])
    if (side, side) == tuple(grid):
        return table
    square = table.transpose(1, 2).unflatten(2, (side, side))
    return F.interpolate(square, size=tuple(grid), mode="bilinear").flatten(2).transpose(1, 2)


def text_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the labels [B, P] that are not negative, each predicted at the position before
    it."""
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten().clamp(min=-1), ignore_index=-1
    )


def latents(images: Tensor, patch: int) -> Tensor:
    """The autoencoder's latents [B, c, H, W] -> tokens [B, n, C]."""
    return to_tokens(images * LATENT_SCALE, patch)


def images(tokens: Tensor, grid: Shape, patch: int) -> Tensor:
    """The inverse of `latents`."""
    return to_images(tokens, grid[0], patch) / LATENT_SCALE


def language_model(options: Mapping[str, Any]) -> Any:
    """An untrained Qwen2 with tied embeddings, of the options of its published configuration."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**{"tie_word_embeddings": True, **options}))


def load(state: Mapping[str, Tensor], heads: int, llm: Mapping[str, Any]) -> Harmon:
    """The published model. `heads` of MAR; `llm`: options of the language model. ValueError with a short
    reason if weights do not fit."""
    of_mar = inside(state, "mar.")
    mar = MAR(config_of(of_mar, heads), denoiser_for(inside(state, HEAD)))
    name = "siglip2_proj.0.weight"
    model = Harmon(language_model(llm), mar, matrix(state, name)[1] if name in state else 0)
    load_strict(model, state, our_names)
    return model.eval()


def our_names(name: str) -> str:
    """The name of a published weight in `Harmon`."""
    return f"mar.diffloss.{our_name(name.removeprefix(HEAD))}" if name.startswith(HEAD) else name
