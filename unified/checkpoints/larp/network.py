"""LARP's video tokenizer: holistic queries read a whole clip, a stochastic quantiser draws their codes, and a
small autoregressive prior that is trained with it shapes the codes so that they can be predicted in their
order.

The prior predicts the next code vector from straight-through vectors; its cross-entropy reaches the encoder
through them and never the codebook. Scheduled sampling: from the second round on some inputs are drawn from
the first round's prediction. Wang et al., arXiv 2410.21264 (hywang66/LARP); parameter names are the published
ones. Simplified: no dropout in the prior (which the published code leaves on in evaluation). Tests:
tests/unified/checkpoints/test_larp.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.vision_blocks import Block, attend, causal, sinusoid, sinusoid_grid

Patch = tuple[int, int]  # frames, pixels a side


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    layers: int = 2
    heads: int = 2
    width: int = 24
    longest: int = 16


@dataclass(frozen=True, kw_only=True)
class LARPConfig:
    """`clip`: frames and pixels a side; `patch` likewise; `tokens`: queries; `codebook`: codes and their
    width."""

    clip: Patch = (8, 16)
    patch: Patch = (4, 8)
    tokens: int = 10
    width: int = 32
    heads: int = 2
    depths: tuple[int, int] = (2, 2)  # encoder, decoder
    codebook: tuple[int, int] = (40, 6)
    prior: PriorConfig = field(default_factory=PriorConfig)

    def __post_init__(self) -> None:
        if any(length % part for length, part in zip(self.clip, self.patch, strict=True)):
            raise ValueError(f"a clip of {self.clip} cannot be cut into patches of {self.patch}")
        if self.tokens > self.prior.longest + 1:
            raise ValueError(f"the prior is for {self.prior.longest} codes, the clip has {self.tokens}")

    @property
    def grid(self) -> Patch:
        return self.clip[0] // self.patch[0], self.clip[1] // self.patch[1]


def clip_places(grid: Patch, width: int) -> Tensor:
    """Fixed positions [1, t * y * x, width]: one table of the place in a frame plus one of the time."""
    frames, side = grid
    times = sinusoid(torch.arange(frames), width)
    return (times[:, None] + sinusoid_grid(side, side, width)[None]).flatten(0, 1)[None]


class ClipPatches(nn.Module):
    """Video [B, 3, T, S, S] -> [B, t * y * x, width]."""

    def __init__(self, patch: Patch, width: int) -> None:
        super().__init__()
        size = (patch[0], patch[1], patch[1])
        self.proj = nn.Conv3d(3, width, size, stride=size)

    def forward(self, video: Tensor) -> Tensor:
        tokens: Tensor = self.proj(video).flatten(2).transpose(1, 2)
        return tokens


class Stack(nn.Module):
    def __init__(self, depth: int, width: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Codes(nn.Module):
    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, dim)

    def rows(self) -> Tensor:
        """Of unit length."""
        return F.normalize(self.embedding.weight, dim=-1)


@dataclass(frozen=True, eq=False)
class StochasticQuantised:
    """`ids` [B, N] drawn from `probabilities` [B, N, V]; `output` [B, N, d] with the gradient of the vectors;
    losses without their weights."""

    ids: Tensor
    probabilities: Tensor
    output: Tensor
    commit_loss: Tensor
    codebook_loss: Tensor


class Bottleneck(nn.Module):
    def __init__(self, width: int, codes: int, dim: int) -> None:
        super().__init__()
        self.in_linear, self.out_linear = nn.Linear(width, dim), nn.Linear(dim, width)
        self.regularizer = Codes(codes, dim)

    def quantise(
        self, projected: Tensor, temperature: float, ids: Tensor | None = None
    ) -> StochasticQuantised:
        """projected [B, N, d]; `ids`: a draw that was made; else the likeliest codes."""
        vectors, rows = F.normalize(projected, dim=-1), self.regularizer.rows()
        probabilities = (vectors @ rows.T / temperature).softmax(dim=-1)
        ids = probabilities.argmax(dim=-1) if ids is None else ids
        codes = F.embedding(ids, rows)
        return StochasticQuantised(
            ids,
            probabilities,
            vectors + (codes - vectors).detach(),
            (codes.detach() - vectors).square().mean(),
            (codes - vectors.detach()).square().mean(),
        )


def draw(probabilities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Ids [B, N] of probabilities [B, N, V]."""
    flat = probabilities.flatten(0, 1)
    return torch.multinomial(flat, 1, generator=generator).view(probabilities.shape[:2])


class End(nn.Module):
    def __init__(self, width: int, values: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, eps=1e-6)
        self.linear = nn.Linear(width, values)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.norm_final(x))
        return out


# The prior --------------------------------------------------------------------------------------------------


class PriorAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key, self.query, self.value, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        mask = causal(x.shape[1]).to(x.device)
        out: Tensor = self.proj(attend(self.query(x), self.key(x), self.value(x), self.heads, mask))
        return out


class PriorBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = PriorAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        out: Tensor = x + self.mlp(self.ln2(x))
        return out


class Prior(nn.Module):
    """Code vectors [B, N, d] -> predictions of unit length [B, N, d]; the first is the first input itself."""

    def __init__(self, config: PriorConfig, dim: int) -> None:
        super().__init__()
        self.input_proj = nn.Linear(dim, config.width)
        self.pos_emb = nn.Parameter(torch.randn(1, config.longest, config.width) * 0.02)
        self.blocks = nn.ModuleList(PriorBlock(config.width, config.heads) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, dim)

    def forward(self, vectors: Tensor) -> Tensor:
        given = vectors[:, :-1]
        x = self.input_proj(given) + self.pos_emb[:, : given.shape[1]]
        for block in self.blocks:
            x = block(x)
        found = torch.cat([vectors[:, :1], self.head(self.ln_f(x))], dim=1)
        return F.normalize(found, dim=-1)


# The tokenizer ----------------------------------------------------------------------------------------------


class LARP(nn.Module):
    """Video [B, 3, T, S, S] in [0, 1] <-> ids [B, N]."""

    encoder_patch_pe: Tensor
    decoder_latent_pe: Tensor
    decoder_patch_query_embed: Tensor

    def __init__(self, config: LARPConfig) -> None:
        super().__init__()
        self.config = config
        width, heads, (codes, dim) = config.width, config.heads, config.codebook
        places = clip_places(config.grid, width)
        self.x_embedder = ClipPatches(config.patch, width)
        self.register_buffer("encoder_patch_pe", places)
        self.register_buffer("decoder_patch_query_embed", places.clone())
        self.register_buffer("decoder_latent_pe", sinusoid(torch.arange(config.tokens), width)[None])
        self.encoder_latent_query_embed = nn.Parameter(torch.randn(config.tokens, width) * 0.02)
        kind = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.decoder_patch_query_token_type_embed: nn.Parameter | None = kind  # None in models without one
        self.encoder, self.decoder = (Stack(depth, width, heads) for depth in config.depths)
        self.bottleneck = Bottleneck(width, codes, dim)
        self.final_layer = End(width, config.patch[0] * config.patch[1] ** 2 * 3)
        self.prior_model = Prior(config.prior, dim)

    def encoded(self, video: Tensor) -> Tensor:
        """[B, N, width]. ValueError for another size of clips."""
        clip = (video.shape[2], video.shape[3])
        if clip != self.config.clip or video.shape[3] != video.shape[4]:
            raise ValueError(f"clips must be {self.config.clip} (frames, side), got {list(video.shape[2:])}")
        patches = self.x_embedder(video) + self.encoder_patch_pe
        queries = self.encoder_latent_query_embed.expand(len(video), -1, -1)
        return self.encoder(torch.cat([patches, queries], dim=1))[:, patches.shape[1] :]  # type: ignore[no-any-return]

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """Code vectors [B, N, d] -> video."""
        context = self.bottleneck.out_linear(vectors) + self.decoder_latent_pe
        queries = self.decoder_patch_query_embed
        if self.decoder_patch_query_token_type_embed is not None:
            queries = queries + self.decoder_patch_query_token_type_embed
        queries = queries.expand(len(vectors), -1, -1)
        x = self.decoder(torch.cat([context, queries], dim=1))[:, context.shape[1] :]
        return self._video(self.final_layer(x))

    def _video(self, patches: Tensor) -> Tensor:
        """Patches as (frame, row, column, colour) put together."""
        (frames, side), (deep, high) = self.config.grid, self.config.patch
        cells = patches.view(len(patches), frames, side, side, deep, high, high, 3)
        return cells.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(
            len(patches), 3, *self.config.clip, self.config.clip[1]
        )

    def encode(self, video: Tensor, temperature: float, generator: torch.Generator | None = None) -> Tensor:
        """Ids: the likeliest, or with a generator drawn."""
        projected = self.bottleneck.in_linear(self.encoded(video))
        found: StochasticQuantised = self.bottleneck.quantise(projected, temperature)
        return found.ids if generator is None else draw(found.probabilities, generator)

    def decode(self, ids: Tensor) -> Tensor:
        return self.decode_vectors(F.embedding(ids, self.bottleneck.regularizer.rows()))


def initialise(tokenizer: LARP) -> None:
    """The published start: linear layers Xavier-uniform without bias, those of the prior too, the last layer
    zero."""
    for module in tokenizer.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.zeros_(tokenizer.final_layer.linear.weight)
