"""Hita's tokenizer: holistic tokens that a transformer queries from a whole image, then local tokens of its
grid.

The sequence [holistic, local] is causal in the tokenizer too: a holistic token sees no patch in the second
encoder transformer, and a cell of the decoder's grid reads the row `shift` places earlier, so that it sees
the holistic tokens and strictly earlier patches. Consequence: the last `shift` local tokens change nothing in
the image. Features of a frozen vision model, given here as numbers, stand beside the patches in the first
transformer. Parameter names are the published ones (Zheng et al., arXiv 2507.02358, CVMI-Lab/Hita).
Simplified: no vision model, discriminator or perceptual loss. Tests: tests/unified/checkpoints/test_hita.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.image_networks import ImageConfig, ImageDecoder, ImageEncoder
from unified.checkpoints.unit_codebook import UnitCodebook, UnitQuantised
from unified.checkpoints.vision_blocks import attend, causal

NUDGE = 0.1  # added to the sides of a grid before the scale is taken
VISION_SIDE = 16  # of the grid on which vision features are reconstructed


@dataclass(frozen=True, kw_only=True)
class HitaConfig:
    """`image.latent` is the width of the transformers. `holistic`: tokens; `grid`: side of the position
    tables; `vision`: width of vision features, `reconstructed` if they are given back; `losses`: weights of
    commitment and entropy."""

    image: ImageConfig = field(default_factory=lambda: ImageConfig(latent=24))
    codebooks: tuple[tuple[int, int], tuple[int, int]] = ((64, 6), (64, 5))  # (codes, width): local, holistic
    holistic: int = 6
    layers: tuple[int, int, int] = (2, 2, 2)  # of both encoder transformers and of the decoder's
    sizes: tuple[int, int, int] = (2, 12, 32)  # heads, width of a head in the first transformer, hidden width
    shift: int = 2
    grid: int = 4
    vision: tuple[int, bool, float, float] = (20, False, 0.25, 0.0)

    @property
    def width(self) -> int:
        return self.image.latent

    def __post_init__(self) -> None:
        if not 1 <= self.shift <= self.holistic:
            raise ValueError(
                f"shift must lie between 1 and {self.holistic} holistic tokens, got {self.shift}"
            )
        if self.width % self.sizes[0]:
            raise ValueError(f"width {self.width} is not a multiple of {self.sizes[0]} heads")


class OpenAttention(nn.Module):
    """Heads of a width of their own, queries, keys and values without bias."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, inner = heads, heads * head_width
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(inner, width), nn.Dropout(0.0))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        out: Tensor = self.to_out(attend(self.to_q(x), self.to_k(x), self.to_v(x), self.heads, mask))
        return out


class ClosedAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (layer(x) for layer in (self.q_proj, self.k_proj, self.v_proj))
        out: Tensor = self.out_proj(attend(q, k, v, self.heads, mask))
        return out


class Gated(nn.Module):
    """w3(silu(a) b), with a and b of one matrix."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.w12(x).chunk(2, dim=-1)
        out: Tensor = self.w3(F.silu(a) * b)
        return out


class Layer(nn.Module):
    def __init__(self, width: int, hidden: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn1, self.ffnet = attention, Gated(width, hidden)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attn1(self.norm1(x), mask)
        out: Tensor = x + self.ffnet(self.norm2(x))
        return out


class Transformer(nn.Module):
    """`mask` [T, T], True: may be seen."""

    def __init__(self, layers: int, width: int, hidden: int, attention: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, hidden, attention()) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return x


def hidden_width(mlp: int) -> int:
    """Of gated layers: two thirds, rounded up to a multiple of 8."""
    return 8 * math.ceil(int(mlp * 2 / 3) / 8)


def resized(table: Tensor, shape: tuple[int, int]) -> Tensor:
    """A table of positions [1, g * g, D] for another grid, bicubic; the scale is that of sides larger by 0.1,
    and decides where it is read."""
    side = math.isqrt(table.shape[1])
    if shape == (side, side):
        return table
    grid = table.transpose(1, 2).unflatten(2, (side, side))
    scale = tuple((length + NUDGE) / side for length in shape)
    found = F.interpolate(grid, scale_factor=scale, mode="bicubic")  # type: ignore[arg-type]
    return found.flatten(2).transpose(1, 2)


class Projection(nn.Module):
    def __init__(self, source: int, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(source, width, bias=False),
            nn.LayerNorm(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.LayerNorm(width),
        )

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.mlp(features)
        return out


class Queries(nn.Module):
    """The published `encode_transformer`: a map and vision features -> holistic vectors and a map."""

    def __init__(self, config: HitaConfig) -> None:
        super().__init__()
        width, (heads, head_width, hidden) = config.width, config.sizes
        self.carrier_tokens = nn.Parameter(torch.randn(1, config.holistic, width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, config.grid**2, width) * 0.02)
        self.proj = Projection(config.vision[0], width)
        self.norm_pre1, self.norm_pre2 = nn.LayerNorm(width), nn.LayerNorm(width)
        first, second, _ = config.layers
        self.transformer1 = Transformer(first, width, hidden, lambda: OpenAttention(width, heads, head_width))
        self.transformer2 = Transformer(second, width, hidden, lambda: ClosedAttention(width, heads))

    def forward(self, grid: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """grid [B, D, h, w], features [B, M, vision] -> [B, n, D] and [B, D, h, w]."""
        shape, count = (grid.shape[2], grid.shape[3]), self.carrier_tokens.shape[1]
        patches = grid.flatten(2).transpose(1, 2) + resized(self.pos_embed, shape)
        carriers = self.carrier_tokens.expand(len(grid), -1, -1)
        x = self.transformer1(self.norm_pre1(torch.cat([carriers, self.proj(features), patches], dim=1)))
        x = torch.cat([x[:, :count], x[:, count + features.shape[1] :]], dim=1)
        x = self.transformer2(self.norm_pre2(x), causal(x.shape[1]).to(x.device))
        return x[:, :count], x[:, count:].transpose(1, 2).unflatten(2, shape)


class Fusion(nn.Module):
    """The published `decode_transformer`: [holistic, local] vectors -> a map, and vision features if they are
    reconstructed."""

    def __init__(self, config: HitaConfig) -> None:
        super().__init__()
        width, (heads, _, hidden) = config.width, config.sizes
        self.shift = config.shift
        self.slot_position_embedding = nn.Parameter(torch.randn(1, config.holistic, width) * 0.02)
        self.position_embedding = nn.Parameter(torch.randn(1, config.grid**2, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.transformer = Transformer(config.layers[2], width, hidden, lambda: ClosedAttention(width, heads))
        if config.vision[1]:
            self.mask_embedding = nn.Parameter(torch.randn(1, 1, width) * 0.02)
            self.norm_vfm = nn.LayerNorm(width)
            self.proj: nn.Module = nn.Linear(width, config.vision[0])

    def forward(self, slots: Tensor, patches: Tensor) -> Tensor:
        """slots [B, n, D], patches [B, D, h, w] -> [B, D, h, w]."""
        shape, count = (patches.shape[2], patches.shape[3]), slots.shape[1]
        local = patches.flatten(2).transpose(1, 2) + resized(self.position_embedding, shape)
        x = self.norm(torch.cat([slots + self.slot_position_embedding, local], dim=1))
        x = self.transformer(x, causal(x.shape[1]).to(x.device))
        start = count - self.shift
        return x[:, start : start + shape[0] * shape[1]].transpose(1, 2).unflatten(2, shape)

    def vision(self, slots: Tensor) -> Tensor:
        """The vision features [B, 256, vision] that holistic tokens alone stand for."""
        count = slots.shape[1]
        places = resized(self.position_embedding, (VISION_SIDE, VISION_SIDE))
        masks = (self.mask_embedding + places).expand(len(slots), -1, -1)
        x = self.norm_vfm(torch.cat([slots, masks], dim=1))
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
        mask[:count] = False
        mask[:count, :count] = causal(count)
        out: Tensor = self.proj(self.transformer(x, mask)[:, count:])
        return out


@dataclass(frozen=True, eq=False)
class HitaQuantised:
    """Of the local map and of the holistic tokens; each `output` is [B, N, d]."""

    local: UnitQuantised
    holistic: UnitQuantised
    shape: tuple[int, int]

    @property
    def loss(self) -> Tensor:
        return self.local.loss + self.holistic.loss


class Hita(nn.Module):
    """Images [B, 3, H, W] and vision features [B, M, C] <-> holistic ids [B, n] and local ids [B, h * w]."""

    def __init__(self, config: HitaConfig) -> None:
        super().__init__()
        width, (local, holistic) = config.width, config.codebooks
        _, _, beta, ratio = config.vision
        self.encoder, self.decoder = ImageEncoder(config.image), ImageDecoder(config.image)
        self.encode_transformer, self.decode_transformer = Queries(config), Fusion(config)
        self.quantize = UnitCodebook(*local, beta=beta, ratio=ratio)
        self.slot_quantize = UnitCodebook(*holistic, beta=beta, ratio=ratio)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(width, local[1], 1), nn.Conv2d(local[1], width, 1)
        self.pre_slots_quant = nn.Linear(width, holistic[1])
        self.post_slots_quant = nn.Linear(holistic[1], width)

    def latents(self, images: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """The local map [B, d, h, w] and the holistic vectors [B, n, d'] before their quantisers."""
        slots, patches = self.encode_transformer(self.encoder(images), features)
        return self.quant_conv(patches), self.pre_slots_quant(slots)

    def quantise(self, local: Tensor, holistic: Tensor) -> HitaQuantised:
        shape = (local.shape[2], local.shape[3])
        return HitaQuantised(
            self.quantize(local.flatten(2).transpose(1, 2)), self.slot_quantize(holistic), shape
        )

    def grid(self, local: Tensor, holistic: Tensor, shape: tuple[int, int]) -> Tensor:
        """The decoder's map of code vectors [B, N, d] and [B, n, d']."""
        patches = self.post_quant_conv(local.transpose(1, 2).unflatten(2, shape))
        out: Tensor = self.decode_transformer(self.post_slots_quant(holistic), patches)
        return out

    def decode_vectors(self, local: Tensor, holistic: Tensor, shape: tuple[int, int]) -> Tensor:
        out: Tensor = self.decoder(self.grid(local, holistic, shape))
        return out

    def decode(self, local: Tensor, holistic: Tensor, shape: tuple[int, int]) -> Tensor:
        """Images of ids."""
        return self.decode_vectors(self.quantize.entries(local), self.slot_quantize.entries(holistic), shape)


def vision_loss(reconstructed: Tensor, features: Tensor) -> Tensor:
    """1 - cosine to the vision features without their first, the class token; mean."""
    return (1 - F.cosine_similarity(features[:, 1:], reconstructed, dim=-1, eps=1e-6)).mean()
