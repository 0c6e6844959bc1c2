"""Editing by UniPic: the source image is read by the language model and also stands in MAR's decoder, at
every place of the target that is not known yet.

The null branch of guidance reads the same source with the prompt "Repeat this image.", so that guidance
leads away from copying. Source: Wang et al., Skywork UniPic, arXiv 2508.03320 (SkyworkAI/UniPic, MIT; parts
derive from Harmon: written from its mathematics). The network is `unified/checkpoints/harmon`, with
`siglip2_proj` for features of another vision tower. Test: tests/unified/checkpoints/unipic/test_unipic.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from unified.backbone.gradient_scale import scaled_gradient
from unified.checkpoints.harmon.network import GRADIENT, Harmon, Prompts
from unified.checkpoints.harmon.sampling import Watch
from unified.checkpoints.harmon.sampling import sample as draw
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.decoding.noise import Noise
from unified.orders.shapes import Shape

SETTINGS = MaskedDecoding(steps=32, scale=3.0, linear=False, temperature=0.85)


class SourceImage(NamedTuple):
    """An image to edit: encoder rows [B, R + n, D] for MAR's decoder, and rows [B, R + n, T] for the language
    model. Little gradient flows back through either."""

    encoded: Tensor
    rows: Tensor


def source_image(model: Harmon, tokens: Tensor, grid: Shape) -> SourceImage:
    """Of tokens [B, n, C], all visible."""
    none = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    encoded = model.encode(tokens, none, grid)
    return SourceImage(scaled_gradient(encoded, GRADIENT), scaled_gradient(model.span(encoded), GRADIENT))


def with_source(prompts: Prompts, source: SourceImage, image: int) -> Prompts:
    """Prompts [B, P] that hold an image position `image` for every row of their source."""
    return Prompts(prompts.ids, prompts.mask, source.rows, image)


def conditions(
    model: Harmon, prompts: Prompts, source: SourceImage, tokens: Tensor, mask: Tensor, grid: Shape
) -> Tensor:
    """Conditions [B, n, D] of the tokens [B, n, C] of the edited images, of which those in `mask` are
    unknown; the prompts have their source."""
    return model(prompts, tokens, mask, grid, source.encoded)


@torch.no_grad()
def sample(
    model: Harmon,
    prompts: Prompts,
    source: SourceImage,
    orders: Tensor,
    grid: Shape,
    noise: Noise,
    settings: MaskedDecoding = SETTINGS,
    watch: Watch | None = None,
) -> Tensor:
    """Tokens [B, n, C] of edited images. `prompts`: instructions of B rows with image positions and, with
    guidance, null prompts with the same after them; `source` of B images; orders [B, n]. ValueError for
    grids of different sizes."""
    places = model.mar.config.buffer + grid[0] * grid[1]
    if source.encoded.shape[1] != places:
        raise ValueError(f"source and target differ: {source.encoded.shape[1]} and {places} encoder rows")
    repeats = 1 + (settings.scale != 1)
    both = SourceImage(*(part.repeat(repeats, 1, 1) for part in source))
    told = with_source(prompts, both, prompts.image)
    return draw(model, told, orders, grid, noise, settings, watch, both.encoded)
