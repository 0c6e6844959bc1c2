"""Convolutional encoder and decoder of VQ-GAN image tokenizers (taming-transformers; LlamaGen, VAR, FlexVAR,
Janus): attention at the lowest resolution only, padding right and bottom before a strided convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unified.tokenizers.vqgan_blocks import GROUPS, GroupNorm, Level, Middle, silu

MOST_VALUES = 2**23  # in a map of the finest level, for images decoded together
MOST_BLOCKS = 1024
LATENT_SCALE = 4.0  # brings the lowest frequencies of a patch to a size near 1


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """An encoder or decoder of stride patch * 2^(levels - 1); level i has width `width * multipliers[i]`,
    level 0 the pixels, or squares of `patch` x `patch` of them folded into channels (most of a network's time
    goes into its finest level: at equal time folding buys several times the weights).

    `latent` is the width of the map between the network and the quantiser. The decoder has one residual block
    more per level than `blocks`. `attention` is the one at the lowest level, `middle_attention` the one
    between the two halves. `groups` of normalisation: with one channel each (width 32, 32 groups) flat
    colours are normalised away, so narrow networks do better with 8.
    """

    latent: int = 32
    width: int = 32
    multipliers: tuple[int, ...] = (1, 1, 2, 2)
    blocks: int = 1
    attention: bool = True
    middle_attention: bool = True
    dropout: float = 0.0
    channels: int = 3
    groups: int = GROUPS
    patch: int = 1
    shortcut: bool = False

    def __post_init__(self) -> None:
        widths = [self.width * multiplier for multiplier in self.multipliers]
        wrong = next((width for width in (self.width, *widths) if width < 1 or width % GROUPS), None)
        if not self.multipliers:
            raise ValueError("multipliers must name at least one level")
        if wrong is not None:
            raise ValueError(
                f"every width must be a multiple of {GROUPS} (normalisation groups), got {wrong}"
            )
        if self.groups < 1 or GROUPS % self.groups:
            raise ValueError(f"groups must divide {GROUPS}, got {self.groups}")
        if self.shortcut and (len(self.multipliers) > 1 or self.latent > self.channels * self.patch**2):
            raise ValueError("a shortcut needs one level, and a latent no wider than a folded patch")
        if self.blocks < 0 or min(self.latent, self.channels, self.patch) < 1:
            raise ValueError("blocks must be at least 0, latent, channels and patch at least 1")
        if max(self.blocks, len(self.multipliers)) > MOST_BLOCKS:
            raise ValueError(f"a network has at most {MOST_BLOCKS} levels, and blocks in each of them")
        if self.blocks == 0 and set(self.multipliers) != {1}:
            raise ValueError("without residual blocks widths cannot change: set every multiplier to 1")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


class Encoder(nn.Module):
    """Images [B, channels, H, W] -> maps [B, latent, H / stride, W / stride], in the dtype of the weights."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.patch = config.patch
        widths = [config.width * multiplier for multiplier in config.multipliers]
        self.conv_in = nn.Conv2d(config.channels * config.patch**2, config.width, 3, padding=1)
        self.down = nn.ModuleList()
        last, before = len(widths) - 1, config.width
        for number, width in enumerate(widths):
            resize = None if number == last else "downsample"
            self.down.append(Level((before, width), config.blocks, config.dropout, number == last, resize))
            before = width
        self.mid = Middle(before, config.dropout)
        self.norm_out = GroupNorm(before)
        self.conv_out = nn.Conv2d(before, config.latent, 3, padding=1)
        _adapt(self, self.down[-1], config)
        self.shortcut = _shortcut(self, config, "encoder") if config.shortcut else None

    def forward(self, images: Tensor) -> Tensor:
        folded = F.pixel_unshuffle(images.to(self.conv_in.weight.dtype), self.patch)
        x = self.conv_in(folded)
        for level in self.down:
            for stage in level.stages():  # type: ignore[operator]
                x = stage(x)
        x = self.conv_out(silu(self.norm_out(self.mid(x))))
        return x if self.shortcut is None else x + self.shortcut(folded)


class Decoder(nn.Module):
    """Maps [B, latent, h, w] -> images [B, channels, h * stride, w * stride], not clamped; any h and w."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.patch = config.patch
        widths = [config.width * multiplier for multiplier in config.multipliers]
        before, last = widths[-1], len(widths) - 1
        self.conv_in = nn.Conv2d(config.latent, before, 3, padding=1)
        self.mid = Middle(before, config.dropout)
        self.up = nn.ModuleList()  # from the lowest resolution to the highest
        for number in range(last, -1, -1):
            resize = "upsample" if number else None
            width = widths[number]
            self.up.append(Level((before, width), config.blocks + 1, config.dropout, number == last, resize))
            before = width
        self.norm_out = GroupNorm(before)
        self.conv_out = nn.Conv2d(before, config.channels * config.patch**2, 3, padding=1)
        _adapt(self, self.up[0], config)
        self.shortcut = _shortcut(self, config, "decoder") if config.shortcut else None

    def forward(self, latent: Tensor) -> Tensor:
        """On a processor, without gradient, large images are decoded few at a time: their maps are then still
        in the cache when they are read again (4 images of 256 px in bf16: 2.3 s against 2.5), and take less
        memory."""
        if torch.is_grad_enabled() or latent.device.type != "cpu":
            return self._decoded(latent)
        cells = latent.shape[2] * latent.shape[3] * 4 ** (len(self.up) - 1)
        few = max(1, MOST_VALUES // (cells * self.conv_out.in_channels))
        return torch.cat([self._decoded(part) for part in latent.split(few)])

    def _decoded(self, latent: Tensor) -> Tensor:
        latent = latent.to(self.conv_in.weight.dtype)
        x = self.mid(self.conv_in(latent))
        for level in self.up:
            for stage in level.stages():  # type: ignore[operator]
                x = stage(x)
        x = self.conv_out(silu(self.norm_out(x)))
        return F.pixel_shuffle(x if self.shortcut is None else x + self.shortcut(latent), self.patch)


def _adapt(network: Encoder | Decoder, lowest: nn.Module, config: NetworkConfig) -> None:
    """Take out attention that the config does not want, and set the groups of normalisation."""
    if not config.attention:
        lowest.attn = nn.ModuleList()
    if not config.middle_attention:
        network.mid.attn_1 = nn.Identity()
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = config.groups


@torch.no_grad()
def _shortcut(network: Encoder | Decoder, config: NetworkConfig, side: str) -> nn.Conv2d:
    """A 1x1 convolution from folded pixels to the latent or back, and a network that adds nothing yet."""
    nn.init.zeros_(network.conv_out.weight)
    nn.init.zeros_(network.conv_out.bias)  # type: ignore[arg-type]
    with torch.device("cpu"):  # in any case: arithmetic on the meta device imports torch's compiler
        basis = lowest_frequencies(
            config.channels, config.patch, config.latent
        )  # [latent, channels * patch^2]
    weight = basis / LATENT_SCALE if side == "encoder" else basis.T * LATENT_SCALE
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    layer.weight.copy_(weight[..., None, None])
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def lowest_frequencies(channels: int, patch: int, count: int) -> Tensor:
    """[count, channels * patch^2], orthonormal rows: cosines over a patch (DCT-II), the lowest frequencies
    first, brightness (the mean of the channels) and then what differs from it; columns as `pixel_unshuffle`
    folds them."""
    places = (torch.arange(patch, dtype=torch.float64) + 0.5) * torch.pi / patch
    waves = torch.cos(torch.arange(patch, dtype=torch.float64)[:, None] * places)
    waves = F.normalize(waves, dim=1)  # [frequency, place]
    tones = torch.linalg.qr(
        torch.cat([torch.ones(channels, 1), torch.eye(channels)[:, 1:]], dim=1).double()
    ).Q.T
    table = torch.einsum("tc,ah,bw->tabchw", tones, waves, waves)
    tone, rows, columns = torch.meshgrid(
        torch.arange(channels), torch.arange(patch), torch.arange(patch), indexing="ij"
    )
    order = (
        (rows + columns + 2 * (tone > 0)).flatten().argsort(stable=True)
    )  # colour is coarser than brightness
    return table.reshape(channels * patch**2, -1)[order[:count]].float()
