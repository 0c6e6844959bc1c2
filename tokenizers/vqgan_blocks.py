"""Blocks of VQ-GAN image tokenizers (Esser et al., "Taming transformers", arXiv 2012.09841), under the names
that published weights have (LlamaGen, VAR, FlexVAR, Janus).

Written for memory and start-up: SiLU works in place on fresh outputs where no gradient is recorded, no map
outlives its use, and a map of a single value is normalised where `nn.GroupNorm` refuses it. The layers of
`transformers` (Janus) compute the same (`tests/tokenizers/test_vqgan_blocks.py`); importing them takes longer
than importing torch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32  # of every normalisation in published tokenizers
EPSILON = 1e-6


class GroupNorm(nn.GroupNorm):
    """Also of a batch of one 1x1 map in which a group has a single channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(GROUPS, channels, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class ResidualBlock(nn.Module):
    """Twice normalisation, SiLU and a 3x3 convolution, added to the input, whose channels a 1x1 convolution
    brings to `out_channels` if they differ."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = GroupNorm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = GroupNorm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.resized = in_channels != out_channels
        if self.resized:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = silu(self.norm1(x))
        h = self.conv1(h)
        h = silu(self.norm2(h))  # one name throughout: a map is freed as soon as the next is there
        h = self.conv2(self.dropout(h))
        return h.add_(self.nin_shortcut(x) if self.resized else x)


class Attention(nn.Module):
    """Self-attention of one head among the cells of a map, added to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        query, key, value = (layer(normed).flatten(2) for layer in (self.q, self.k, self.v))  # [B, C, cells]
        scores = torch.bmm(query.transpose(1, 2), key) * x.shape[1] ** -0.5
        found = torch.bmm(value, scores.softmax(dim=2).transpose(1, 2))
        return x + self.proj_out(found.view_as(x))


class Middle(nn.Module):
    """Two residual blocks at the lowest resolution with attention between them."""

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, dropout)
        self.attn_1: nn.Module = Attention(channels)
        self.block_2 = ResidualBlock(channels, channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return found


class Downsample(nn.Module):
    """Half the resolution: a 3x3 convolution of stride 2, padded on the right and below."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return found


class Upsample(nn.Module):
    """Every pixel doubled both ways, then a 3x3 convolution. Without gradient the doubled map is not made:
    of three rows under the kernel two are the same, so an output pixel takes 2x2 products in place of 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            doubled: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
            return doubled
        batch, channels, height, width = x.shape
        last = x.is_contiguous(memory_format=torch.channels_last)
        out = torch.empty(
            (batch, channels, 2 * height, 2 * width),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )
        padded = F.pad(x, (1, 1, 1, 1))
        for row in (0, 1):
            rows = _doubled(self.conv.weight, 2, row)
            for column in (0, 1):
                part = padded[:, :, row : row + height + 1, column : column + width + 1]
                found = F.conv2d(part, _doubled(rows, 3, column), self.conv.bias)
                out[:, :, row::2, column::2] = found
        return out


def _doubled(weight: Tensor, axis: int, odd: int) -> Tensor:
    """A kernel's three taps along an axis -> two, on rows that are repeated: of an even row the last two fall
    together, of an odd one the first two."""
    first, second, third = weight.unbind(axis)
    taps = (first + second, third) if odd else (first, second + third)
    return torch.stack(taps, axis)


def silu(x: Tensor) -> Tensor:
    """In place where no gradient is recorded: `x` is always a fresh normalisation output."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class Level(nn.Module):
    """The blocks of one resolution and, at the lowest, an attention behind each of them. `resize`: the name
    of the module that leads to the next level; None at the last one."""

    def __init__(
        self, widths: tuple[int, int], count: int, dropout: float, attends: bool, resize: str | None
    ) -> None:
        super().__init__()
        self.block, self.attn = nn.ModuleList(), nn.ModuleList()
        before, after = widths
        for _ in range(count):
            self.block.append(ResidualBlock(before, after, dropout))
            before = after
            if attends:
                self.attn.append(Attention(after))
        self.resize = resize
        if resize:
            self.add_module(resize, Downsample(before) if resize == "downsample" else Upsample(before))

    def stages(self) -> list[nn.Module]:
        """Its modules in the order they run."""
        found: list[nn.Module] = []
        for number, block in enumerate(self.block):
            found.append(block)
            if len(self.attn):
                found.append(self.attn[number])
        return [*found, getattr(self, self.resize)] if self.resize else found
