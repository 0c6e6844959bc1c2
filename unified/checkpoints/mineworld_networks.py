"""Encoder and decoder of the published MineWorld tokenizer: the convolutional VQ model of diffusers.

Source: diffusers 0.32 (Apache-2.0), `VQModel`, which microsoft/mineworld (MIT) wraps. Parameter names are the
published ones. Different from `unified.tokenizers.networks`: widths and normalisation groups are free, and
attention stands in the middle alone. Tests: tests/unified/checkpoints/test_mineworld_tokenizer.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class MineWorldVQConfig:
    """`widths`: channels of each level, the pixels' first; the stride is 2 to the number of levels but one.
    `blocks`: residual blocks a level (one more in the decoder). `latent`: channels between the networks and
    the quantiser, whose codes have `dim`. `groups`: of every normalisation."""

    codes: int = 64
    dim: int = 12
    latent: int = 12
    widths: tuple[int, ...] = (8, 8, 16)
    blocks: int = 1
    groups: int = 4
    attention: bool = False

    def __post_init__(self) -> None:
        if self.codes < 2 or min(self.dim, self.latent, self.blocks) < 1 or not self.widths:
            raise ValueError("codes must be at least 2; dim, latent, blocks and levels at least 1")
        if self.groups < 1 or any(width < 1 or width % self.groups for width in self.widths):
            raise ValueError(
                f"every width must be a multiple of {self.groups} normalisation groups: {self.widths}"
            )

    @property
    def stride(self) -> int:
        """Pixels per code."""
        return 2 ** (len(self.widths) - 1)


class ResidualBlock(nn.Module):
    """x [B, C, h, w] -> [B, D, h, w]."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, before, eps=EPS)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, after, eps=EPS)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(before, after, 1) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    """One head over all places of x [B, C, h, w]; x is added."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, eps=EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        places = self.group_norm(x).flatten(2).transpose(1, 2)  # [B, h * w, C]
        q, k, v = self.to_q(places), self.to_k(places), self.to_v(places)
        found = self.to_out[0](F.scaled_dot_product_attention(q, k, v))
        return x + found.transpose(1, 2).unflatten(2, x.shape[2:])


class Middle(nn.Module):
    def __init__(self, width: int, config: MineWorldVQConfig) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(width, width, config.groups) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(width, config.groups)] if config.attention else [])

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class Downsample(nn.Module):
    """Half the size: zeros at the right and at the bottom alone, then a convolution of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the size: every place repeated, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Level(nn.Module):
    """Residual blocks, then a change of size, under the name the published code gives it."""

    def __init__(self, widths: Sequence[int], groups: int, name: str, resize: nn.Module | None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(*pair, groups) for pair in pairwise(widths))
        self.resize = name
        if resize is not None:
            self.add_module(name, nn.ModuleList([resize]))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resnets:
            x = block(x)
        return getattr(self, self.resize)[0](x) if hasattr(self, self.resize) else x


class Encoder(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] -> [B, latent, H / stride, W / stride]."""

    def __init__(self, config: MineWorldVQConfig) -> None:
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Level(
                [widths[max(level - 1, 0)], *[width] * config.blocks],
                config.groups,
                "downsamplers",
                Downsample(width) if level < last else None,
            )
            for level, width in enumerate(widths)
        )
        self.mid_block = Middle(widths[-1], config)
        self.conv_norm_out = nn.GroupNorm(config.groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.latent, 3, padding=1)

    def features(self, images: Tensor) -> Tensor:
        """[B, C, H / stride, W / stride] that the last convolution reads."""
        x = self.conv_in(images)
        for level in self.down_blocks:
            x = level(x)
        return F.silu(self.conv_norm_out(self.mid_block(x)))

    def forward(self, images: Tensor) -> Tensor:
        return self.conv_out(self.features(images))


class Decoder(nn.Module):
    """[B, latent, h, w] -> images [B, 3, h * stride, w * stride], not clamped."""

    def __init__(self, config: MineWorldVQConfig) -> None:
        super().__init__()
        widths, last = config.widths[::-1], len(config.widths) - 1
        self.conv_in = nn.Conv2d(config.latent, widths[0], 3, padding=1)
        self.mid_block = Middle(widths[0], config)
        self.up_blocks = nn.ModuleList(
            Level(
                [widths[max(level - 1, 0)], *[width] * (config.blocks + 1)],
                config.groups,
                "upsamplers",
                Upsample(width) if level < last else None,
            )
            for level, width in enumerate(widths)
        )
        self.conv_norm_out = nn.GroupNorm(config.groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(latent))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))
