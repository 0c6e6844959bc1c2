"""Hi-MAR: one masked autoencoder in two phases: first low-resolution pivots, then the dense grid, which is
given the network's own hidden states of the pivots instead of their sampled values.

Each phase has positions and mask tokens of its own, and scales and gates the shared blocks. Source: Zheng
et al., Hi-MAR: Hierarchical Masked Autoregressive Modeling with Low-Resolution Token Pivots, arXiv
2505.20288 (HiDream-ai/himar, without a licence: written from its mathematics). Parameter names are the
published ones. Test: tests/unified/checkpoints/himar/test_himar.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unified.checkpoints.himar.grid_head import GridDenoiser, grid_head_for
from unified.checkpoints.mar.head import denoiser_for, inside, matrix, our_name
from unified.checkpoints.mar.network import put_back, visible
from unified.checkpoints.state_dict import load_strict
from unified.heads.denoiser import Denoiser
from unified.heads.transformer_layers import (
    Block,
    Modulation,
    count_blocks,
    layer_norm,
    modulation_layer,
)

PIVOTS, DENSE = 0, 1  # phases
HEAD, GRID_HEAD = "diffloss.net.", "cond_diffloss.net."


@dataclass(frozen=True, kw_only=True)
class HiMARConfig:
    """`pivots` and `tokens` of the two grids; `buffer`: rows of the class; `depth`: blocks of encoder and
    decoder. Released: 64 pivots, 256 tokens of 16 channels, 64 buffer rows; depths 12, 16, 20 twice."""

    channels: int = 4
    pivots: int = 4
    tokens: int = 16
    classes: int = 10
    width: int = 24
    buffer: int = 3
    depth: tuple[int, int] = (1, 1)
    heads: int = 2
    hidden: int = 48


class HiMAR(nn.Module):
    """`head`: of the pivots, `grid_head`: of the dense grid."""

    def __init__(self, config: HiMARConfig, head: Denoiser, grid_head: GridDenoiser) -> None:
        super().__init__()
        self.config, width = config, config.width
        places = config.pivots + config.tokens
        rows = config.buffer + places
        self.class_emb = nn.Embedding(config.classes, width)
        self.fake_latent = nn.Parameter(torch.zeros(1, width))
        self.z_proj = nn.Linear(config.channels, width)
        self.cond_proj = nn.Linear(config.channels, width)
        self.cond_z_proj = nn.Linear(width, width)
        self.cond_tokens = nn.Parameter(torch.zeros(1, config.pivots, config.channels))
        self.z_proj_ln = layer_norm(width)
        self.encoder_pos_embed_learned = nn.Parameter(torch.zeros(1, 2 * rows, width))
        self.encoder_task_emb = nn.Embedding(2, width)
        self.encoder_blocks_ada = modulation_layer(width, 4)
        self.encoder_blocks = self._blocks(config.depth[0])
        self.encoder_norm = layer_norm(width)
        self.decoder_embed = nn.Linear(width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 2 * places, width))
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, 2 * rows, width))
        self.decoder_task_emb = nn.Embedding(2, width)
        self.decoder_blocks_ada = modulation_layer(width, 4)
        self.decoder_blocks = self._blocks(config.depth[1])
        self.decoder_norm = layer_norm(width)
        self.diffusion_pos_embed_learned = nn.Parameter(torch.zeros(1, places, width))
        self.diffloss, self.cond_diffloss = head, grid_head

    def _blocks(self, depth: int) -> nn.ModuleList:
        """Blocks with what each phase does to the phase's vector: first nothing but gates of 1."""
        config, blocks = self.config, nn.ModuleList()
        first = torch.tensor([0.0, 1.0, 0.0, 1.0]).repeat_interleave(config.width).expand(2, 1, 1, -1)
        for _ in range(depth):
            block = Block(config.width, config.heads, config.hidden)
            block.register_parameter("adaLN_scale", nn.Parameter(torch.zeros_like(first)))
            block.register_parameter("adaLN_shift", nn.Parameter(first.clone()))
            blocks.append(block)
        return blocks

    def classes(self, labels: Tensor | None, rows: int, dropped: Tensor | None = None) -> Tensor:
        """Embeddings [B, D] of class labels [B]; the null embedding where `dropped` [B] is true, and for all
        `rows` where there are no labels."""
        null = self.fake_latent.expand(rows, -1)
        if labels is None:
            return null
        found: Tensor = self.class_emb(labels)
        return found if dropped is None else torch.where(dropped[:, None], null, found)

    def pivots_of_tokens(self, pivots: Tensor) -> Tensor:
        """Input rows [B, m, D] of the first phase for pivots [B, m, C]."""
        found: Tensor = self.cond_proj(pivots)
        return found

    def pivots_of_states(self, states: Tensor, placeholder: Tensor | None = None) -> Tensor:
        """Input rows of the second phase for hidden states of the first one [B, m, D], and learned
        placeholders where `placeholder` [B, m] is true."""
        rows: Tensor = self.cond_z_proj(states)
        if placeholder is None:
            return rows
        return torch.where(placeholder[..., None], self.cond_proj(self.cond_tokens), rows)

    def forward(self, phase: int, pivots: Tensor, tokens: Tensor, mask: Tensor, told: Tensor) -> Tensor:
        """Input rows of the pivots [B, m, D], tokens [B, N, C], mask [B, m + N] (true: unknown), told [B,
        D] -> conditions of all places [B, m + N, D]."""
        return self.decode(phase, self.encode(phase, pivots, tokens, mask, told), mask)

    def encode(self, phase: int, pivots: Tensor, tokens: Tensor, mask: Tensor, told: Tensor) -> Tensor:
        """-> buffer rows and known rows [B, R + n, D]."""
        start = told[:, None].expand(-1, self.config.buffer, -1)
        rows = torch.cat([start, pivots, self.z_proj(tokens)], dim=1)
        rows = self.z_proj_ln(rows + self.encoder_pos_embed_learned.chunk(2, dim=1)[phase])
        rows = visible(rows, self._whole(mask))
        vector = self.encoder_blocks_ada(self.encoder_task_emb.weight[phase])
        found: Tensor = self.encoder_norm(_through(self.encoder_blocks, rows, phase, vector))
        return found

    def decode(self, phase: int, encoded: Tensor, mask: Tensor) -> Tensor:
        buffer = self.config.buffer
        empty = self.mask_token.chunk(2, dim=1)[phase]
        empty = torch.cat([empty.new_zeros(1, buffer, empty.shape[2]), empty], dim=1)
        rows = put_back(self.decoder_embed(encoded), self._whole(mask), empty)
        rows = rows + self.decoder_pos_embed_learned.chunk(2, dim=1)[phase]
        vector = self.decoder_blocks_ada(self.decoder_task_emb.weight[phase])
        rows = self.decoder_norm(_through(self.decoder_blocks, rows, phase, vector))
        return rows[:, buffer:] + self.diffusion_pos_embed_learned

    def _whole(self, mask: Tensor) -> Tensor:
        return torch.cat([mask.new_zeros(len(mask), self.config.buffer), mask], dim=1)


def _through(blocks: nn.ModuleList, rows: Tensor, phase: int, vector: Tensor) -> Tensor:
    """`vector` [4D]: what the phase says to all blocks."""
    zero = rows.new_zeros(1, 1, 1)
    for block in blocks:
        own: Any = block
        told = vector * own.adaLN_scale[phase] + own.adaLN_shift[phase]  # [1, 1, 4D]
        scale1, gate1, scale2, gate2 = told.chunk(4, dim=-1)
        rows = block(rows, Modulation(zero, scale1, gate1, zero, scale2, gate2))
    return rows


def load(state: Mapping[str, Tensor], heads: int, dense_heads: int) -> HiMAR:
    """The published model. ValueError with a short reason if weights do not fit."""
    state = {
        name: _matrix(value) if name.endswith("embedder.proj.weight") else value
        for name, value in state.items()
    }
    width, channels = matrix(state, "z_proj.weight")
    pivots, places = state["cond_tokens"].shape[1], state["diffusion_pos_embed_learned"].shape[1]
    config = HiMARConfig(
        channels=channels,
        pivots=pivots,
        tokens=places - pivots,
        classes=matrix(state, "class_emb.weight")[0],
        width=width,
        buffer=state["encoder_pos_embed_learned"].shape[1] // 2 - places,
        depth=(count_blocks(state, "encoder_blocks"), count_blocks(state, "decoder_blocks")),
        heads=heads,
        hidden=matrix(state, "encoder_blocks.0.mlp.fc1.weight")[0],
    )
    head, grid_head = denoiser_for(inside(state, HEAD)), grid_head_for(inside(state, GRID_HEAD), dense_heads)
    model = HiMAR(config, head, grid_head)
    load_strict(model, state, our_names)
    return model.eval()


def _matrix(kernel: Tensor) -> Tensor:
    """The matrix of a convolution of one pixel."""
    return kernel.flatten(1) if kernel.dim() == 4 and kernel.shape[2:] == (1, 1) else kernel


def our_names(name: str) -> str:
    """The name of a published weight in `HiMAR`."""
    if name.startswith(HEAD):
        return f"diffloss.{our_name(name.removeprefix(HEAD))}"
    return name.replace(GRID_HEAD, "cond_diffloss.")
