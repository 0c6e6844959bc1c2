"""SemAIM's two-stream vision transformer: a content stream sees each patch and those before it in the image's
order, a query stream knows places alone and predicts each patch from what is before it.

Source: SemAIM, arXiv 2312.10457; skyoux/SemAIM (MIT). Parameter names are the published ones. Tests:
tests/unified/checkpoints/semaim/test_semaim.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.backbone.attention import sdpa
from unified.checkpoints.semaim.orders import masks
from unified.checkpoints.state_dict import check_fit
from unified.layout.attention import EVERYTHING, Seen
from unified.orders.shapes import Shape

EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class SemAIMConfig:
    """`grid` (h, w) of patches of `patch` x `patch` pixels; `queries`: blocks of the query stream, one after
    every depth // queries blocks of the content stream; `inner` widths of feed-forward networks and of the
    prediction head; `out`: channels predicted for a patch."""

    grid: Shape = (14, 14)
    patch: int = 16
    width: int = 768
    depth: int = 12
    queries: int = 12
    heads: int = 12
    inner: int = 3072
    out: int = 768

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads or self.width % 4:
            raise ValueError(f"width {self.width} must be a multiple of 4 and of {self.heads} heads")
        if not 1 <= self.queries <= self.depth:
            raise ValueError(
                f"of {self.depth} blocks, from 1 to {self.depth} can have queries, got {self.queries}"
            )


@dataclass(frozen=True, eq=False)
class TwoStreams:
    """`predicted` [B, 1 + L, C] of all tokens (that of the class token means nothing); `content` and `query`:
    the states [B, 1 + L, D] after every block of each stream."""

    predicted: Tensor
    content: list[Tensor] = field(default_factory=list)
    query: list[Tensor] = field(default_factory=list)


class SemAIM(nn.Module):
    """Images [B, 3, H, W] -> predictions of all patches (`forward`), or features (`encode`)."""

    def __init__(self, config: SemAIMConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, config.patch, stride=config.patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(places(config.grid, width)[None], requires_grad=False)
        self.blocks = nn.ModuleList(_Block(width, config.heads, config.inner) for _ in range(config.depth))
        self.query_blocks = nn.ModuleList(
            _QueryBlock(width, config.heads, config.inner) for _ in range(config.queries)
        )
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.prediction_head = _FeedForward(width, config.inner, config.out)

    def embedded(self, images: Tensor) -> Tensor:
        """[B, 1 + L, D], the class token first."""
        height, width = (side * self.config.patch for side in self.config.grid)
        if tuple(images.shape[1:]) != (3, height, width):
            raise ValueError(f"images must be [B, 3, {height}, {width}], got {tuple(images.shape)}")
        patches = self.patch_embed["proj"](images).flatten(2).mT + self.pos_embed[:, 1:]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(images), -1, -1)
        return torch.cat([first, patches], dim=1)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, 1 + L, D] of a pass without masks, and the attention [B, L] of the class token to the
        patches in the last block, the mean over heads."""
        hidden = self.embedded(images)
        for block in self.blocks[:-1]:
            hidden = block(hidden, EVERYTHING)
        last: Any = self.blocks[-1]
        looked = last.attn.weights(last.norm1(hidden))[:, :, 0, 1:].mean(dim=1)
        return self.norm(last(hidden, EVERYTHING)), looked

    def forward(self, images: Tensor, order: Tensor) -> TwoStreams:
        """Both streams under an order [B, L] of the patches, smaller numbers being earlier."""
        content_mask, query_mask = (Seen(mask[:, None]) for mask in masks(order))
        hidden, every = self.embedded(images), len(self.blocks) // len(self.query_blocks)
        query = self.pos_embed.expand(len(images), -1, -1)
        content_states, query_states = [], []
        for number, block in enumerate(self.blocks):
            hidden = block(hidden, content_mask)
            content_states.append(hidden)
            if (number + 1) % every == 0 and number // every < len(self.query_blocks):
                query = self.query_blocks[number // every](query, hidden, query_mask)
                query_states.append(query)
        return TwoStreams(self.prediction_head(self.norm(query)), content_states, query_states)


def places(grid: Shape, width: int) -> Tensor:
    """[1 + h * w, D]: zero for the class token, then sines and cosines of the column in the first half of the
    channels, of the row in the second."""
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing="ij")
    frequencies = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    parts = []
    for coordinates in (columns, rows):
        angles = coordinates.flatten()[:, None] * frequencies
        parts += [angles.sin(), angles.cos()]
    return F.pad(torch.cat(parts, dim=1).float(), (0, 0, 1, 0))


class _FeedForward(nn.Module):
    def __init__(self, width: int, inner: int, out: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, out)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return found


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        """[3, B, H, n, C]"""
        found: Tensor = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return found

    def weights(self, x: Tensor) -> Tensor:
        """[B, H, n, n], of a pass without masks."""
        query, key, _ = self._split(x)
        return (query @ key.mT * query.shape[-1] ** -0.5).softmax(dim=-1)

    def forward(self, x: Tensor, seen: Seen) -> Tensor:
        query, key, value = self._split(x)
        found: Tensor = self.proj(sdpa(query, key, value, seen, query.shape[-1] ** -0.5).flatten(2))
        return found


class _CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, content: Tensor, seen: Seen) -> Tensor:
        query, key, value = (
            layer(given).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, given in ((self.q, x), (self.k, content), (self.v, content))
        )
        found: Tensor = self.proj(sdpa(query, key, value, seen, query.shape[-1] ** -0.5).flatten(2))
        return found


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=EPS) for _ in range(2))
        self.attn, self.mlp = _SelfAttention(width, heads), _FeedForward(width, inner, width)

    def forward(self, x: Tensor, seen: Seen) -> Tensor:
        x = x + self.attn(self.norm1(x), seen)
        return x + self.mlp(self.norm2(x))


class _QueryBlock(nn.Module):
    """Queries and content go through the same first norm."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=EPS) for _ in range(2))
        self.attn, self.mlp = _CrossAttention(width, heads), _FeedForward(width, inner, width)

    def forward(self, x: Tensor, content: Tensor, seen: Seen) -> Tensor:
        x = x + self.attn(self.norm1(x), self.norm1(content), seen)
        return x + self.mlp(self.norm2(x))


# Published weights ------------------------------------------------------------------------------------------


def load(options: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> SemAIM:
    """A published network from its weights, which say all sizes but the number of heads. ValueError if they
    do not fit."""
    state = {name: value for name, value in state_dict.items() if not name.startswith("gaussian_blur.")}
    needed = ("patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight", "prediction_head.fc2.weight")
    missing = [name for name in needed if name not in state]
    if missing or "num_heads" not in options:
        raise ValueError(f"the network lacks {', '.join(missing) or 'the option num_heads'}")
    side = round((state["pos_embed"].shape[1] - 1) ** 0.5)
    config = SemAIMConfig(
        grid=(side, side),
        patch=state["patch_embed.proj.weight"].shape[-1],
        width=state["pos_embed"].shape[2],
        depth=_count(state, "blocks."),
        queries=_count(state, "query_blocks."),
        heads=options["num_heads"],
        inner=len(state["blocks.0.mlp.fc1.weight"]),
        out=len(state["prediction_head.fc2.weight"]),
    )
    model = SemAIM(config)
    check_fit(model.state_dict(), state)
    model.load_state_dict(state)
    return model.eval()


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    numbers = (name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix))
    return len(set(numbers))
