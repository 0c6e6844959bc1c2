"""The decoder of Infinity's tokenizer: residual blocks, doubled sizes, no attention.

Source: FoundationVision/Infinity (MIT), infinity/models/bsq_vae/conv_vae of arXiv 2412.04431. Parameter names
are the published ones without the wrappers `conv` and `norm` around every layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.state_dict import check_fit, unwrap


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """`latent` channels of a cell become `patch` x `patch` pixels. Level i has `width` * `multipliers[i]`
    channels, level 0 the pixels, and `blocks` + 1 residual blocks."""

    latent: int = 4
    patch: int = 4
    width: int = 32
    multipliers: tuple[int, ...] = (1, 1, 1)
    blocks: int = 1

    def __post_init__(self) -> None:
        if self.patch < 1 or self.patch & (self.patch - 1) or len(self.multipliers) <= self.doublings:
            raise ValueError(
                f"patch must be a power of two, and there must be more levels than doublings: got patch "
                f"{self.patch} and {len(self.multipliers)} levels"
            )
        for multiplier in self.multipliers:
            groups(self.width * multiplier)

    @property
    def doublings(self) -> int:
        return self.patch.bit_length() - 1


def groups(channels: int) -> int:
    """Of normalisation: 32, or 24 where that does not divide the channels. ValueError for neither."""
    for count in (32, 24):
        if channels % count == 0:
            return count
    raise ValueError(f"{channels} channels are a multiple of neither 32 nor 24, the groups of normalisation")


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups(channels), channels, eps=1e-6)


def conv3(source: int, target: int) -> nn.Conv2d:
    return nn.Conv2d(source, target, 3, padding=1)


class ResidualBlock(nn.Module):
    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(source), conv3(source, target)
        self.norm2, self.conv2 = norm(target), conv3(target, target)
        self.nin_shortcut = nn.Identity() if source == target else nn.Conv2d(source, target, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.nin_shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled


class Level(nn.Module):
    """Residual blocks, then, if `doubles`, twice the size."""

    def __init__(self, source: int, target: int, blocks: int, doubles: bool) -> None:
        super().__init__()
        widths = [source, *[target] * blocks]
        self.block = nn.ModuleList(ResidualBlock(*pair) for pair in pairwise(widths))
        self.upsample = Upsample(target) if doubles else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        out: Tensor = self.upsample(x)
        return out


class InfinityDecoder(nn.Module):
    """Latents [B, d, h, w] -> images [B, 3, H, W] in [-1, 1]."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        widths = [config.width * multiplier for multiplier in config.multipliers]
        above = [*widths[1:], widths[-1]]  # what level i is given
        self.conv_in = conv3(config.latent, widths[-1])
        blocks = {"block_1": ResidualBlock(widths[-1], widths[-1])}
        self.mid = nn.ModuleDict({**blocks, "block_2": ResidualBlock(widths[-1], widths[-1])})
        self.up = nn.ModuleList(
            Level(source, width, config.blocks + 1, 1 <= number <= config.doublings)
            for number, (source, width) in enumerate(zip(above, widths, strict=True))
        )
        self.norm_out, self.conv_out = norm(widths[0]), conv3(widths[0], 3)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.mid["block_2"](self.mid["block_1"](self.conv_in(latent)))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x))).clamp(-1, 1)


def load(config: DecoderConfig, state_dict: Mapping[str, Tensor]) -> InfinityDecoder:
    """A published decoder from the tokenizer's state dict, whose other parts are passed over, in eval mode.
    ValueError with a short reason if the weights do not fit."""
    prefix = "decoder."
    found = {
        re.sub(r"\.(conv|norm)\.(\w+)$", r".\2", name.removeprefix(prefix)): value
        for name, value in unwrap(state_dict, "tokenizer").items()
        if name.startswith(prefix)
    }
    with torch.device("meta"):
        decoder = InfinityDecoder(config)
    check_fit(decoder.state_dict(), found)
    copies = {name: value.to(torch.float32, copy=True) for name, value in found.items()}
    decoder.load_state_dict(copies, assign=True)
    return decoder.eval()


def to_bytes(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] in [-1, 1] -> uint8 [B, H, W, 3] with the channels blue, green, red, as the
    published pipeline returns them: truncated, not rounded."""
    return ((images + 1) / 2 * 255).to(torch.uint8).permute(0, 2, 3, 1).flip(3)
