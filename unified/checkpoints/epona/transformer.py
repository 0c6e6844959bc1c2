"""The context transformer of Epona: every token position attends over time, causally, and then all tokens
of a frame to one another.

Source: Zhang et al., arXiv 2506.24113 (Kevin-thu/Epona, MIT). Parameter names are the published ones. As
published, the rotary coordinates of image tokens are (i mod rows, i div rows), which on grids that are not
square is not where a token stands.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.epona.geometry import MotionScales
from unified.checkpoints.rotary_grid import angles, frequencies, rotate_neighbours
from unified.heads.transformer_layers import Map, stores_for
from unified.heads.vision_head_layers import RowStore, by_head
from unified.orders.shapes import Shape

BASE = 1000.0
WAVES = 100.0  # the fastest wave of an embedded place, against the slowest
MOTION = 3  # tokens of a frame before the image: yaw, forward, side


class FullNormAttention(nn.Module):
    """Queries and keys are normalised over the whole width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key, self.query, self.value, self.proj = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.q_norm, self.k_norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, turn: Map | None = None, store: RowStore | None = None
    ) -> Tensor:
        """x [N, n, D]; `mask` [n, m]; `turn` of queries and keys; new keys and values are added to the
        `store`."""
        q, k, v = (
            by_head(part, self.heads)
            for part in (self.q_norm(self.query(x)), self.k_norm(self.key(x)), self.value(x))
        )
        if turn is not None:
            q, k = turn(q), turn(k)
        if store is not None:
            k, v = store.append((k, v))
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out: Tensor = self.proj(found.transpose(1, 2).flatten(2))
        return out


class ContextBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = FullNormAttention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False)
        )

    def forward(
        self, x: Tensor, mask: Tensor | None = None, turn: Map | None = None, store: RowStore | None = None
    ) -> Tensor:
        x = x + self.attn(self.ln1(x), mask, turn, store)
        x = x + self.mlp(self.ln2(x))
        return x


class TimeSpaceBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.causal_time_block = ContextBlock(width, heads)
        self.space_block = ContextBlock(width, heads)

    def forward(self, x: Tensor, mask: Tensor, turn: Map, store: RowStore | None = None) -> Tensor:
        """x [B, f, T, D], mask [f, m] over the frames of the store and these."""
        rows, frames = x.shape[:2]
        over_time = x.transpose(1, 2).flatten(0, 1)
        x = self.causal_time_block(over_time, mask, store=store).unflatten(0, (rows, -1)).transpose(1, 2)
        found: Tensor = self.space_block(x.flatten(0, 1), turn=turn).unflatten(0, (rows, frames))
        return found


class ContextTransformer(nn.Module):
    """`waves`: width of the embedded places of motion; `frames`: rows of the table of frame positions;
    `grid`: rows and columns of image tokens."""

    def __init__(
        self,
        channels: int,
        width: int,
        depth: int,
        heads: int,
        waves: int,
        grid: Shape,
        frames: int = 50,
        scales: MotionScales | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.grid, self.waves = heads, grid, waves
        self.scales = scales or MotionScales()
        self.img_projector = projector(channels, width // 2, width)
        self.yaw_projector, self.pose_x_projector, self.pose_y_projector = (
            projector(waves, width, width) for _ in range(3)
        )
        self.time_emb = nn.Parameter(torch.zeros(frames, width))
        self.causal_time_space_blocks = nn.ModuleList(TimeSpaceBlock(width, heads) for _ in range(depth))

    def motion(self, motion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Motions [..., 3] -> embeddings of forward, side and yaw, each [..., D]."""
        shares = self.scales.places(motion) / motion.new_tensor(self.scales.steps)
        layers = self.pose_x_projector, self.pose_y_projector, self.yaw_projector
        forward, side, yaw = (
            layer(embedded(share, self.waves))
            for layer, share in zip(layers, shares.unbind(dim=-1), strict=True)
        )
        return forward, side, yaw

    def modulation(self, motion: Tensor) -> Tensor:
        """Motions [..., 3] -> what the frame head is told [..., 3 D]: forward, side, yaw."""
        return torch.cat(self.motion(motion), dim=-1)

    def stores(self) -> list[RowStore]:
        """Empty keys and values over time of every block."""
        return stores_for(len(self.causal_time_space_blocks), len(self.time_emb))

    def forward(self, latents: Tensor, motion: Tensor, stores: list[RowStore] | None = None) -> Tensor:
        """Latents [B, f, N, C] of frames, and the motion [B, f, 3] that led to each -> features [B, f, 3 +
        N, D]. With `stores` these frames come after those of the stores, and are added. ValueError for more
        frames than there are positions."""
        first = stores[0].count if stores else 0
        count, frames = latents.shape[1], len(self.time_emb)
        if first + count > frames:
            raise ValueError(f"there are positions of {frames} frames, got {first + count}")
        forward, side, yaw = self.motion(motion)
        told = torch.stack([yaw, forward, side], dim=2)
        x = torch.cat([told, self.img_projector(latents)], dim=2)
        x = x + self.time_emb[first : first + count, None]
        mask = causal_frames(first, count).to(x.device)
        for number, block in enumerate(self.causal_time_space_blocks):
            x = block(x, mask, self._turn(x.device), stores[number] if stores else None)
        return x

    def _turn(self, device: torch.device) -> Map:
        cos, sin = (table.to(device) for table in self.rotation())
        return partial(_turn_images, cos=cos, sin=sin)

    def rotation(self) -> tuple[Tensor, Tensor]:
        """cos and sin [N, c / 2] of image tokens."""
        rows, columns = self.grid
        numbers = torch.arange(rows * columns)
        positions = torch.stack([numbers % rows, numbers // rows], dim=-1)
        rates = frequencies(self.time_emb.shape[1] // self.heads // 2, BASE)
        table = angles(positions, [rates, rates])
        return table.cos().float(), table.sin().float()


def _turn_images(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """[N, H, 3 + n, c] with all but the tokens of motion turned."""
    return torch.cat([x[:, :, :MOTION], rotate_neighbours(x[:, :, MOTION:], cos, sin)], dim=2)


def causal_frames(first: int, count: int) -> Tensor:
    """[count, first + count] bool: frames see themselves and earlier ones."""
    return torch.arange(first + count) <= first + torch.arange(count)[:, None]


def embedded(shares: Tensor, width: int) -> Tensor:
    """Shares of a scale [...] -> sines and cosines [..., width]."""
    half = width // 2
    waves = shares[..., None] * WAVES ** (torch.arange(half, device=shares.device) / half)
    return torch.cat([waves.sin(), waves.cos()], dim=-1)


def projector(width: int, inner: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, inner, bias=False),
        nn.GELU(),
        nn.Linear(inner, outputs, bias=False),
        nn.LayerNorm(outputs),
    )
