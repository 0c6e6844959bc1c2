"""The convolutional encoder and decoder of LlamaGen's family under the published names, with the changes that
its descendants made: without attention, upsampling by depth-to-space, norms modulated by the latent map.

`unified/checkpoints/llamagen_tokenizer.py` loads LlamaGen's own weights into the project's `VQTokenizer`;
this is for descendants whose modules that one does not have. Source of the structure: LlamaGen (arXiv
2406.06525).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS, EPS = 32, 1e-6


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """Level i has width `width * multipliers[i]`; `attention`: at the lowest level and in the middle;
    `modulated`: the decoder's levels begin with `AdaptiveNorm`, and it upsamples by depth-to-space."""

    latent: int = 32
    width: int = 32
    multipliers: tuple[int, ...] = (1, 1, 1)
    blocks: int = 1
    attention: bool = True
    modulated: bool = False

    def __post_init__(self) -> None:
        if not self.multipliers or any(
            (self.width * times) % GROUPS or times < 1 for times in self.multipliers
        ):
            raise ValueError(
                f"every width must be a multiple of {GROUPS}, got {self.width} x {self.multipliers}"
            )


def norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, width, eps=EPS)


class Residual(nn.Module):
    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(source), nn.Conv2d(source, target, 3, padding=1)
        self.norm2, self.conv2 = norm(target), nn.Conv2d(target, target, 3, padding=1)
        if source != target:
            self.nin_shortcut = nn.Conv2d(source, target, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        out: Tensor = h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)
        return out


class MapAttention(nn.Module):
    """One head over all places of a map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = norm(width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))
        seen = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = x + self.proj_out(seen.transpose(1, 2).view_as(x))
        return out


class Downsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class DepthToSpace(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, 4 * width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return depth_to_space(self.conv1(x))


def depth_to_space(x: Tensor) -> Tensor:
    """[B, 4 C, H, W] -> [B, C, 2 H, 2 W]: channel (2 a + b) C + c goes to c at (2 y + a, 2 x + b). Not the
    order of `pixel_shuffle`."""
    batch, channels, height, width = x.shape
    cells = x.view(batch, 2, 2, channels // 4, height, width).permute(0, 3, 4, 1, 5, 2)
    return cells.reshape(batch, channels // 4, 2 * height, 2 * width)


class AdaptiveNorm(nn.Module):
    """A group norm without weights, scaled and shifted by linear maps of the latent's spread and mean."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Linear(latent, width), nn.Linear(latent, width)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        flat = latent.flatten(2)
        scale = self.gamma((flat.var(dim=2) + EPS).sqrt())[..., None, None]  # the unbiased variance
        shift = self.beta(flat.mean(dim=2))[..., None, None]
        return F.group_norm(x, GROUPS, eps=EPS) * scale + shift


class Level(nn.Module):
    """Residual blocks, each followed by attention if there is any, and a change of resolution under
    `resize`."""

    def __init__(
        self, widths: tuple[int, int], blocks: int, attention: bool, resize: str, modulated: bool
    ) -> None:
        super().__init__()
        source, target = widths
        self.res = nn.ModuleList(Residual(source if n == 0 else target, target) for n in range(blocks))
        self.attn = nn.ModuleList(MapAttention(target) for _ in range(blocks if attention else 0))
        if resize == "downsample":
            self.downsample = Downsample(target)
        elif resize == "upsample":
            self.upsample = DepthToSpace(target) if modulated else Upsample(target)
        self.resize = resize

    def forward(self, x: Tensor) -> Tensor:
        for number, block in enumerate(self.res):
            x = block(x)
            if self.attn:
                x = self.attn[number](x)
        return self.get_submodule(self.resize)(x) if self.resize else x  # type: ignore[no-any-return]


def middle(width: int, attention: bool) -> nn.ModuleList:
    parts: list[nn.Module] = [Residual(width, width), Residual(width, width)]
    return nn.ModuleList([parts[0], MapAttention(width), parts[1]] if attention else parts)


class ImageEncoder(nn.Module):
    """Images [B, 3, H, W] -> [B, latent, H / 2^(levels - 1), W / 2^(levels - 1)]."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        widths = [config.width * times for times in (1, *config.multipliers)]
        last = len(config.multipliers) - 1
        self.conv_in = nn.Conv2d(3, config.width, 3, padding=1)
        self.conv_blocks = nn.ModuleList(
            Level(
                (widths[n], widths[n + 1]),
                config.blocks,
                config.attention and n == last,
                "downsample" if n < last else "",
                modulated=False,
            )
            for n in range(last + 1)
        )
        self.mid = middle(widths[-1], config.attention)
        self.norm_out = norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.latent, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv_in(images)
        for part in (*self.conv_blocks, *self.mid):
            x = part(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out


class ImageDecoder(nn.Module):
    """The way back; levels lie in the order in which they run."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        widths = [config.width * times for times in (config.multipliers[-1], *config.multipliers[::-1])]
        last = len(config.multipliers) - 1
        self.conv_in = nn.Conv2d(config.latent, widths[0], 3, padding=1)
        self.mid = middle(widths[0], config.attention)
        self.conv_blocks = nn.ModuleList(
            Level(
                (widths[n], widths[n + 1]),
                config.blocks + 1,
                config.attention and n == 0,
                "upsample" if n < last else "",
                config.modulated,
            )
            for n in range(last + 1)
        )
        adaptive = [AdaptiveNorm(config.latent, widths[n]) for n in range(last + 1) if config.modulated]
        self.adaptive = nn.ModuleList(adaptive)
        self.norm_out = norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.conv_in(latent)
        for part in self.mid:
            x = part(x)
        for number, level in enumerate(self.conv_blocks):
            x = level(self.adaptive[number](x, latent) if self.adaptive else x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out


@torch.no_grad()
def levels_of(names: set[str], prefix: str) -> int:
    """How many numbered parts a state dict has under a prefix, such as "encoder.conv_blocks."."""
    found = {name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)}
    return len(found)
