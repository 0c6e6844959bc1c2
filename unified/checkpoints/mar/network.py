"""MAR: a masked autoencoder whose output at every place is the condition of a small diffusion model.

The encoder sees the tokens that are known, behind rows that carry the class; the decoder sees all places,
with a mask token where nothing is known. Source: Li et al., Autoregressive Image Generation without Vector
Quantization, arXiv 2406.11838; LTH14/mar (MIT), models/mar.py. Parameter names are the published ones,
except in the head (`head.our_name`). Test: tests/unified/checkpoints/mar/test_mar.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unified.checkpoints.mar.head import denoiser_for, inside, matrix, our_name
from unified.checkpoints.state_dict import load_strict
from unified.heads.denoiser import Denoiser
from unified.heads.diffusion import denoised
from unified.heads.transformer_layers import Block, count_blocks, layer_norm

HEAD = "diffloss.net."


@dataclass(frozen=True, kw_only=True)
class MARConfig:
    """`channels` of a token; `tokens` of an image; `buffer`: rows of the class; `depth`: blocks of encoder
    and decoder; `hidden`: width of their feed-forward. Released: widths 768, 1024, 1280 of depth 12, 16, 20
    twice, 64 buffer rows, 256 tokens of 16 channels."""

    channels: int = 4
    tokens: int = 16
    classes: int = 10
    width: int = 24
    buffer: int = 4
    depth: tuple[int, int] = (1, 1)
    heads: int = 2
    hidden: int = 48

    def __post_init__(self) -> None:
        sizes = (self.channels, self.tokens, self.classes, self.width, self.heads, self.hidden)
        if min(*sizes, *self.depth) < 1 or self.buffer < 0:
            raise ValueError(f"sizes must be at least 1, got {self}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")


@dataclass(frozen=True, eq=False)
class Places:
    """Learned positions for one image size: of the encoder [1, R + L, D], the decoder [1, R + L, D], and of
    the output [1, L, D]."""

    encoder: Tensor
    decoder: Tensor
    output: Tensor


class MAR(nn.Module):
    """`head`: the diffusion head of its outputs; None leaves it out."""

    def __init__(self, config: MARConfig, head: Denoiser | None = None) -> None:
        super().__init__()
        self.config = config
        width, rows = config.width, config.buffer + config.tokens
        self.class_emb = nn.Embedding(config.classes, width)
        self.fake_latent = nn.Parameter(torch.zeros(1, width))
        self.z_proj = nn.Linear(config.channels, width)
        self.z_proj_ln = layer_norm(width)
        self.encoder_pos_embed_learned = nn.Parameter(torch.zeros(1, rows, width))
        self.encoder_blocks = self._blocks(config.depth[0])
        self.encoder_norm = layer_norm(width)
        self.decoder_embed = nn.Linear(width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, rows, width))
        self.decoder_blocks = self._blocks(config.depth[1])
        self.decoder_norm = layer_norm(width)
        self.diffusion_pos_embed_learned = nn.Parameter(torch.zeros(1, config.tokens, width))
        if head is not None:
            self.diffloss = head

    def _blocks(self, depth: int) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(Block(config.width, config.heads, config.hidden) for _ in range(depth))

    def classes(self, labels: Tensor | None, rows: int, dropped: Tensor | None = None) -> Tensor:
        """Embeddings [B, D] of class labels [B]; the null embedding where `dropped` [B] is true, and for all
        `rows` where there are no labels."""
        null = self.fake_latent.expand(rows, -1)
        if labels is None:
            return null
        found: Tensor = self.class_emb(labels)
        return found if dropped is None else torch.where(dropped[:, None], null, found)

    def places(self) -> Places:
        return Places(
            self.encoder_pos_embed_learned, self.decoder_pos_embed_learned, self.diffusion_pos_embed_learned
        )

    def encode(self, tokens: Tensor, mask: Tensor, told: Tensor, places: Places | None = None) -> Tensor:
        """tokens [B, L, C], mask [B, L] bool (true: unknown, the same number in every row), told [B, D] ->
        the buffer rows and those of the known tokens in their order [B, R + n, D]."""
        places = places or self.places()
        start = told[:, None].expand(-1, self.config.buffer, -1)
        rows = self.z_proj_ln(torch.cat([start, self.z_proj(tokens)], dim=1) + places.encoder)
        rows = visible(rows, self.whole(mask))
        for block in self.encoder_blocks:
            rows = block(rows)
        found: Tensor = self.encoder_norm(rows)
        return found

    def decode(
        self, encoded: Tensor, mask: Tensor, fill: Tensor | None = None, places: Places | None = None
    ) -> Tensor:
        """Rows of `encode` -> the condition of every token [B, L, D]. `fill` [B, R + L, D]: encoder rows that
        stand at places where nothing is known, instead of the mask token."""
        places = places or self.places()
        buffer = self.config.buffer
        empty = self.mask_token if fill is None else self.decoder_embed(fill)
        rows = put_back(self.decoder_embed(encoded), self.whole(mask), empty) + places.decoder
        for block in self.decoder_blocks:
            rows = block(rows)
        return self.decoder_norm(rows)[:, buffer:] + places.output

    def forward(self, tokens: Tensor, mask: Tensor, told: Tensor) -> Tensor:
        """tokens [B, L, C], mask [B, L] bool, told [B, D] -> conditions [B, L, D]."""
        return self.decode(self.encode(tokens, mask, told), mask)

    def whole(self, mask: Tensor) -> Tensor:
        """The mask with the buffer rows, which are always known."""
        return torch.cat([mask.new_zeros(len(mask), self.config.buffer), mask], dim=1)


def visible(rows: Tensor, mask: Tensor) -> Tensor:
    """Of rows [B, T, D] those that are not masked [B, T], in their order. ValueError unless every batch row
    has equally many."""
    counts = (~mask).sum(dim=1)
    if (counts != counts[0]).any():
        raise ValueError(f"every row must mask equally many tokens, got {mask.sum(dim=1).tolist()}")
    return rows[~mask].unflatten(0, (len(rows), -1))


def put_back(rows: Tensor, mask: Tensor, empty: Tensor) -> Tensor:
    """Rows of `visible` at their places, `empty` (broadcast to [B, T, D]) at those that are masked [B, T]."""
    whole = empty.expand(*mask.shape, -1)
    return whole.masked_scatter(~mask[..., None], rows)


def masked_loss(
    head: Denoiser, hidden: Tensor, tokens: Tensor, mask: Tensor, steps: Tensor, noise: Tensor
) -> Tensor:
    """The diffusion loss of the masked tokens: hidden [B, L, D], tokens [B, L, C], mask [B, L]; steps [m B
    L] and noise [m B L, C] for m repetitions of the whole list."""
    hidden, tokens, weights = hidden.flatten(0, 1), tokens.flatten(0, 1), mask.flatten().float()
    repeats = len(steps) // len(hidden)
    if not repeats or len(steps) != repeats * len(hidden):
        raise ValueError(f"{len(steps)} steps are no multiple of {len(hidden)} tokens")
    weights = weights.repeat(repeats)
    found = denoised(head, hidden.repeat(repeats, 1), tokens.repeat(repeats, 1), steps, noise)
    return (found.loss * weights).sum() / weights.sum()


def to_tokens(images: Tensor, patch: int) -> Tensor:
    """Latents [B, C, H, W] -> tokens [B, (H / p) (W / p), C p p], row by row; within a token channel, row,
    column."""
    if images.shape[2] % patch or images.shape[3] % patch:
        raise ValueError(f"a latent of {tuple(images.shape[2:])} is not cut into patches of {patch}")
    cells = images.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # [B, C, h, p, w, p]
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def to_images(tokens: Tensor, rows: int, patch: int) -> Tensor:
    """The inverse of `to_tokens` for `rows` rows of tokens."""
    cells = tokens.unflatten(1, (rows, -1)).unflatten(3, (-1, patch, patch))  # [B, h, w, C, p, p]
    return cells.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def config_of(
    state: Mapping[str, Tensor], heads: int, output: str = "diffusion_pos_embed_learned"
) -> MARConfig:
    """The sizes of published weights; `output`: the name of the positions that are added last."""
    width, channels = matrix(state, "z_proj.weight")
    for name in (output, "encoder_pos_embed_learned"):
        if name not in state or state[name].dim() != 3:
            raise ValueError(f"weights do not fit: there is no table {name}")
    tokens = state[output].shape[1]
    return MARConfig(
        channels=channels,
        tokens=tokens,
        classes=matrix(state, "class_emb.weight")[0],
        width=width,
        buffer=state["encoder_pos_embed_learned"].shape[1] - tokens,
        depth=(count_blocks(state, "encoder_blocks"), count_blocks(state, "decoder_blocks")),
        heads=heads,
        hidden=matrix(state, "encoder_blocks.0.mlp.fc1.weight")[0],
    )


def load(state: Mapping[str, Tensor], heads: int) -> MAR:
    """The published model. ValueError with a short reason if weights do not fit."""
    model = MAR(config_of(state, heads), denoiser_for(inside(state, HEAD)))
    load_strict(model, state, official)
    return model.eval()


def official(name: str) -> str:
    """The name of a published weight in `MAR`."""
    return f"diffloss.{our_name(name.removeprefix(HEAD))}" if name.startswith(HEAD) else name
