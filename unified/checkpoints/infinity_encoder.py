"""The encoder of Infinity's tokenizer: residual blocks, halved sizes, no attention.

Source: FoundationVision/Infinity (MIT), infinity/models/bsq_vae/conv_vae of arXiv 2412.04431. Parameter names
are the published ones without the wrappers `conv` and `norm` around every layer.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.infinity_decoder import DecoderConfig, ResidualBlock, conv3, norm


class Downsample(nn.Module):
    """Half the size: a row and a column of zeros below and on the right, then every second place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return halved


class Level(nn.Module):
    """Residual blocks, then, if `halves`, half the size."""

    def __init__(self, source: int, target: int, blocks: int, halves: bool) -> None:
        super().__init__()
        widths = [source, *[target] * blocks]
        self.block = nn.ModuleList(ResidualBlock(*pair) for pair in pairwise(widths))
        self.downsample = Downsample(target) if halves else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        out: Tensor = self.downsample(x)
        return out


class InfinityEncoder(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] -> latents [B, d, H / patch, W / patch]. `config`: sizes as the decoder
    has them, but for `blocks` residual blocks a level."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        widths = [config.width * multiplier for multiplier in config.multipliers]
        self.conv_in = conv3(3, config.width)
        self.down = nn.ModuleList(
            Level(source, target, config.blocks, number < config.doublings)
            for number, (source, target) in enumerate(pairwise([config.width, *widths]))
        )
        blocks = {name: ResidualBlock(widths[-1], widths[-1]) for name in ("block_1", "block_2")}
        self.mid = nn.ModuleDict(blocks)
        self.norm_out, self.conv_out = norm(widths[-1]), conv3(widths[-1], config.latent)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv_in(images)
        for level in self.down:
            x = level(x)
        x = self.mid["block_2"](self.mid["block_1"](x))
        latent: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return latent
