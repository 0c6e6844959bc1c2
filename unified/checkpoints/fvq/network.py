"""FVQ's networks that make the codebook [codes, width] of a raw table of the same shape.

The table is read as a square grid, cut into patches, passed through a transformer and unfolded again; there
is no skip connection. `Bridge` is the form that the paper describes, `ModulatedBridge` the one of the
published training scripts: with positions, and every norm modulated by one learned vector. `LinearMap` and
`ReLUMap` are the stand-ins that mix channels only. Chang et al., arXiv 2509.10140 (yfChang-cv/FVQ); parameter
names are the published ones. `tokenizers/codebook.py` has the bridge as a codebook that can be trained by
name. Tests: tests/unified/checkpoints/test_fvq.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.vision_blocks import Attention, FeedForward, modulated, plain_norm, sinusoid_grid
from unified.tokenizers.quantise import nearest


@dataclass(frozen=True, kw_only=True)
class BridgeConfig:
    """`codes`: a square number whose root `patch` divides; `dim`: width of a code; `heads` of
    `head_width`."""

    codes: int = 64
    dim: int = 8
    patch: int = 4
    head_width: int = 8
    heads: int = 2
    blocks: int = 2
    mlp_ratio: float = 2.0

    def __post_init__(self) -> None:
        side = math.isqrt(self.codes)
        if side * side != self.codes or self.patch < 1 or side % self.patch:
            raise ValueError(
                f"a bridge needs a square number of codes whose root {self.patch} divides, got {self.codes}"
            )

    @property
    def width(self) -> int:
        return self.heads * self.head_width

    @property
    def side(self) -> int:
        return math.isqrt(self.codes)


class Compress(nn.Module):
    """The grid [1, dim, side, side] -> tokens of patches [1, patches, width]."""

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.dim, config.width, config.patch, stride=config.patch)

    def forward(self, grid: Tensor) -> Tensor:
        tokens: Tensor = self.proj(grid).flatten(2).transpose(1, 2)
        return tokens


def to_grid(table: Tensor) -> Tensor:
    """[codes, dim] -> [1, dim, side, side], row by row."""
    side = math.isqrt(len(table))
    return table.T.unflatten(1, (side, side))[None]


def from_patches(patches: Tensor, config: BridgeConfig) -> Tensor:
    """[1, patches, patch * patch * dim], channels last -> [1, dim, side, side]."""
    across, patch = config.side // config.patch, config.patch
    cells = patches.view(across, across, patch, patch, config.dim)  # row, column, inner row, inner column
    grid = cells.permute(4, 0, 2, 1, 3).reshape(1, config.dim, config.side, config.side)
    return grid


class BridgeBlock(nn.Module):
    """Norms without weights, full attention."""

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.attn = Attention(config.width, config.heads)
        self.mlp = FeedForward(config.width, int(config.width * config.mlp_ratio), "tanh")

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(plain_norm(x))
        out: Tensor = x + self.mlp(plain_norm(x))
        return out


class BridgeEnd(nn.Module):
    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.width, config.patch**2 * config.dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(plain_norm(x))
        return out


@dataclass(frozen=True, eq=False)
class Generated:
    """`codebook` [codes, dim], and what led to it: `grid`, `tokens`, the outputs of `blocks`, `final`
    (patches), `grid_out`."""

    codebook: Tensor
    grid: Tensor
    tokens: Tensor
    blocks: list[Tensor]
    final: Tensor
    grid_out: Tensor


class Bridge(nn.Module):
    """The paper's form. `generate` keeps every intermediate; `forward` gives the codebook alone."""

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.config = config
        self.x_embedder = Compress(config)
        self.blocks = nn.ModuleList(BridgeBlock(config) for _ in range(config.blocks))
        self.final_layer = BridgeEnd(config)

    def generate(self, table: Tensor) -> Generated:
        grid = to_grid(table)
        x = tokens = self.x_embedder(grid)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        final = self.final_layer(x)
        out = from_patches(final, self.config)
        return Generated(out[0].flatten(1).T, grid, tokens, outputs, final, out)

    def forward(self, table: Tensor) -> Tensor:
        return self.generate(table).codebook


class ModulatedBlock(BridgeBlock):
    def __init__(self, config: BridgeConfig) -> None:
        super().__init__(config)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 6 * config.width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:  # type: ignore[override]
        """condition [1, width]."""
        chunks = self.adaLN_modulation(condition)[:, None].chunk(6, dim=-1)
        shift1, scale1, gate1, shift2, scale2, gate2 = chunks
        x = x + gate1 * self.attn(modulated(x, shift1, scale1))
        out: Tensor = x + gate2 * self.mlp(modulated(x, shift2, scale2))
        return out


class ModulatedEnd(BridgeEnd):
    def __init__(self, config: BridgeConfig) -> None:
        super().__init__(config)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 2 * config.width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:  # type: ignore[override]
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=-1)
        out: Tensor = self.linear(modulated(x, shift, scale))
        return out


class OneLabel(nn.Module):
    """The one condition: any label counts as the first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(1, width)

    def forward(self) -> Tensor:
        row: Tensor = self.embedding_table.weight[:1]
        return row


class ModulatedBridge(nn.Module):
    """The form of the published training scripts. Positions are fixed: a buffer."""

    pos_embed: Tensor

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.config = config
        across = config.side // config.patch
        self.register_buffer("pos_embed", sinusoid_grid(across, across, config.width)[None])
        self.x_embedder = Compress(config)
        self.y_embedder = OneLabel(config.width)
        self.blocks = nn.ModuleList(ModulatedBlock(config) for _ in range(config.blocks))
        self.final_layer = ModulatedEnd(config)

    def forward(self, table: Tensor) -> Tensor:
        x = self.x_embedder(to_grid(table)) + self.pos_embed
        condition = self.y_embedder()
        for block in self.blocks:
            x = block(x, condition)
        grid = from_patches(self.final_layer(x, condition), self.config)
        return grid[0].flatten(1).T


class LinearMap(nn.Module):
    """One linear layer on each code (as in SimVQ)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)

    def forward(self, table: Tensor) -> Tensor:
        out: Tensor = self.linear(table)
        return out


class ReLUMap(nn.Module):
    """Five linear layers on each code."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        layers = [part for _ in range(4) for part in (nn.Linear(dim, dim), nn.ReLU())]
        self.linear_5 = nn.Sequential(*layers, nn.Linear(dim, dim))

    def forward(self, table: Tensor) -> Tensor:
        out: Tensor = self.linear_5(table)
        return out


def initialise(table: nn.Embedding, bridge: Bridge) -> None:
    """The published start: codes uniform in +-1 / codes, linear layers Xavier-uniform, the last layer zero,
    so that all codes are zero. The codebook then spreads one cell of every patch a step."""
    nn.init.uniform_(table.weight, -1 / table.num_embeddings, 1 / table.num_embeddings)
    for module in bridge.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight.flatten(1))
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    nn.init.zeros_(bridge.final_layer.linear.weight)


@dataclass(frozen=True, eq=False)
class BridgeQuantised:
    """`ids` [B, h * w], `output` [B, dim, h, w] with the gradient of z, `vq_loss` and `commit_loss`."""

    ids: Tensor
    output: Tensor
    vq_loss: Tensor
    commit_loss: Tensor


def quantise(z: Tensor, codebook: Tensor, beta: float) -> BridgeQuantised:
    """Nearest rows of a generated codebook [codes, dim] to z [B, dim, h, w], un-normalised."""
    rows = z.permute(0, 2, 3, 1)  # [B, h, w, dim]
    ids = nearest(rows, codebook)
    codes = F.embedding(ids, codebook)
    output = (rows + (codes - rows).detach()).permute(0, 3, 1, 2)
    vq = (codes - rows.detach()).square().mean()
    commit = beta * (codes.detach() - rows).square().mean()
    return BridgeQuantised(ids.flatten(1), output, vq, commit)


def entries(ids: Tensor, codebook: Tensor, shape: tuple[int, int]) -> Tensor:
    """The codes of ids [B, h * w] as [B, dim, h, w]."""
    return F.embedding(ids, codebook).unflatten(1, shape).permute(0, 3, 1, 2)


def annealed(step: int, steps: int, warmup: int, *, form: str = "lin", hold: float = 0.3) -> float:
    """The published factor on the learning rate: linear from 0.005 over `warmup` steps, 1 for the share
    `hold` of the rest, then to 0.01 by a line ("lin") or half a cosine ("cos"); "const" stays at 1.
    ValueError for another form."""
    if form not in ("lin", "cos", "const"):
        raise ValueError(f"unknown form {form!r} of the learning rate: lin, cos or const")
    if step < warmup:
        return 0.005 + 0.995 * step / warmup
    done = (step - warmup) / max(steps - 1 - warmup, 1)
    if form == "const" or done < hold:
        return 1.0
    share = (done - hold) / (1 - hold)
    left = 1 - share if form == "lin" else 0.5 * (1 + math.cos(math.pi * share))
    return 0.01 + 0.99 * left


def config_of(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> BridgeConfig:
    """The sizes of a bridge: of its table's weights and of the published options. ValueError if the two say
    different ones."""
    codes, dim = state["embedding.weight"].shape
    found = BridgeConfig(
        codes=codes,
        dim=dim,
        patch=config["patch_size"],
        head_width=config["head_hidden_size"],
        heads=config["num_heads"],
        blocks=config["depth"],
        mlp_ratio=config["mlp_ratio"],
    )
    stated = (config["codebook_size"], config["codebook_embed_dim"])
    if stated != (codes, dim):
        raise ValueError(f"config.json says {stated[0]} codes of {stated[1]}, the table is {codes} x {dim}")
    return found
