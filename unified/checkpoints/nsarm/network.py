"""NSARM's transformation network: from the latent of a low-resolution image, the first residual maps of the
image to be written. Infinity goes on from their signs.

Source: Xiangtaokong/NSARM (Apache-2.0 by its README), arXiv 2510.00820. Parameter names are the published
ones. What the network gives as tokens [n, d] is read as a map [d, h, w] in the order of memory, without a
transposition, in training and inference alike: `as_map`. The shapes of its norms tie it to one size of
latent. Tests: tests/unified/checkpoints/nsarm/test_network.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.state_dict import check_fit
from unified.orders.shapes import Shape, Shapes


@dataclass(frozen=True, kw_only=True)
class TransformationConfig:
    """`channels` of the latent, whose size is `grid` (h, w); widths of the trunk's two inner stages. For each
    map given: its size in latent cells, width, layers and heads of its encoder. `mlp_ratio`: of the
    encoders. The defaults are the released sizes."""

    channels: int = 14
    grid: Shape = (32, 32)
    trunk: tuple[int, int] = (64, 128)
    shapes: Shapes = tuple((side, side) for side in (2, 4, 8, 12, 16, 24, 32))
    widths: tuple[int, ...] = (64, 128, 256, 384, 512, 768, 1024)
    layers: tuple[int, ...] = (4, 6, 8, 10, 12, 14, 16)
    heads: tuple[int, ...] = (4, 4, 8, 8, 8, 12, 16)
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        for name in ("widths", "layers", "heads"):
            if len(getattr(self, name)) != len(self.shapes):
                raise ValueError(f"{len(self.shapes)} maps need as many {name}, got {getattr(self, name)}")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if heads < 1 or width % heads or width % 2:
                raise ValueError(f"a width must be even and a multiple of its heads, got {width} and {heads}")


class Transformation(nn.Module):
    """Latents [B, C, h, w] -> for each map given tokens [B, n, C], real values whose signs are codes."""

    def __init__(self, config: TransformationConfig) -> None:
        super().__init__()
        self.config, channels = config, config.channels
        self.feature_extractor = _convolutions((channels, *config.trunk, channels), config.grid)
        self.feature_transforms = nn.ModuleList(
            _convolutions((channels, width // 2, width), config.grid) for width in config.widths
        )
        sizes = zip(config.widths, config.layers, config.heads, strict=True)
        self.transformers = nn.ModuleList(_encoder(*size, config.mlp_ratio) for size in sizes)
        self.output_projs = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, width // 2),
                nn.LayerNorm(width // 2),
                nn.GELU(),
                nn.Linear(width // 2, channels),
            )
            for width in config.widths
        )

    def forward(self, latent: Tensor) -> list[Tensor]:
        want = (self.config.channels, *self.config.grid)
        if tuple(latent.shape[1:]) != want:
            raise ValueError(f"the network takes latents of {want}, got {tuple(latent.shape[1:])}")
        shared, found = self.feature_extractor(latent), []
        branches = self.feature_transforms, self.transformers, self.output_projs
        for shape, transform, encoder, project in zip(self.config.shapes, *branches, strict=True):
            tokens = F.adaptive_avg_pool2d(transform(shared), shape).flatten(2).mT  # [B, n, width]
            found.append(project(encoder(tokens)))
        return found

    def maps(self, latent: Tensor) -> list[Tensor]:
        """The maps [B, C, h, w] that it gives, see `as_map`."""
        return [as_map(*pair) for pair in zip(self(latent), self.config.shapes, strict=True)]


def as_map(tokens: Tensor, shape: Shape) -> Tensor:
    """Tokens [B, h * w, C] read as a map [B, C, h, w] in the order in which they lie in memory, as
    published: the values of a token are not those of a place."""
    return tokens.reshape(len(tokens), tokens.shape[2], *shape)


def _convolutions(widths: tuple[int, ...], grid: Shape) -> nn.Sequential:
    """3 x 3 convolutions, each followed by a norm over channels and places, and GELU."""
    layers: list[nn.Module] = []
    for source, target in pairwise(widths):
        layers += [nn.Conv2d(source, target, 3, padding=1), nn.LayerNorm((target, *grid)), nn.GELU()]
    return nn.Sequential(*layers)


def _encoder(width: int, layers: int, heads: int, ratio: int) -> nn.TransformerEncoder:
    """Post-norm layers, without positions and without a last norm."""
    layer = nn.TransformerEncoderLayer(width, heads, ratio * width, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


# Published weights ------------------------------------------------------------------------------------------


def load(options: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Transformation:
    """The network of published weights, in eval mode. Sizes are those of the weights; `options` has what they
    do not say: `output_sizes` (sides of the maps) and `heads`. ValueError if they do not fit."""
    missing = [name for name in ("output_sizes", "heads") if not isinstance(options.get(name), list)]
    if missing:
        raise ValueError(f"the options of the transformation network lack {', '.join(missing)}")
    config = _config(options, state_dict)
    with torch.device("meta"):
        network = Transformation(config)
    check_fit(network.state_dict(), state_dict)
    network.load_state_dict({name: value.float() for name, value in state_dict.items()}, assign=True)
    return network.eval()


def _config(options: Mapping[str, Any], state: Mapping[str, Tensor]) -> TransformationConfig:
    def shape(name: str) -> torch.Size:
        if name not in state:
            raise ValueError(f"the weights of the transformation network lack {name}")
        return state[name].shape

    count = len(options["output_sizes"])
    first, second = shape("feature_extractor.1.weight"), shape("feature_extractor.4.weight")
    widths = tuple(shape(f"feature_transforms.{n}.4.weight")[0] for n in range(count))
    numbers = (re.match(r"transformers\.(\d+)\.layers\.(\d+)\.", name) for name in state)
    layers: dict[int, int] = {}
    for match in filter(None, numbers):
        layers[int(match[1])] = max(layers.get(int(match[1]), 0), int(match[2]) + 1)
    inner = shape("transformers.0.layers.0.linear1.weight")[0]
    return TransformationConfig(
        channels=shape("feature_extractor.0.weight")[1],
        grid=(first[1], first[2]),
        trunk=(first[0], second[0]),
        shapes=tuple((side, side) for side in options["output_sizes"]),
        widths=widths,
        layers=tuple(layers.get(n, 0) for n in range(count)),
        heads=tuple(options["heads"]),
        mlp_ratio=inner // widths[0],
    )
