"""LPIPS's networks by their published weights, and the distance between images in them, with gradient.

Zhang et al. 2018, arXiv 1801.03924, version 0.1: activations after five ReLUs of torchvision's AlexNet or
VGG16 are brought to length 1 at every place, squared differences weighted by channel, averaged over the
places and added up. `unified.eval.metrics.lpips` measures by it; tokenizers are trained by it. Test:
tests/eval/test_lpips.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.state_dict import check_fit, read_weights, unwrap

MEAN = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]  # of pixels in [-1, 1], as LPIPS scales them
SCALE = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
TINY = 1e-10
LEAST_SIDE = 32  # pixels
POOL = 0  # in the lists of layers below


@dataclass(frozen=True)
class Architecture:
    """`layers`: of each convolution its (channels, side, stride, padding), POOL for a pooling of `pool`
    (side, stride). `taken`: the convolutions after whose ReLU activations are compared."""

    name: str
    layers: tuple[tuple[int, int, int, int] | int, ...]
    pool: tuple[int, int]
    taken: tuple[int, ...]


def _three(channels: int, count: int) -> tuple[tuple[int, int, int, int], ...]:
    return ((channels, 3, 1, 1),) * count


ALEXNET = Architecture(
    "alexnet",
    ((64, 11, 4, 2), POOL, (192, 5, 1, 2), POOL, *_three(384, 1), *_three(256, 2)),
    (3, 2),
    (0, 1, 2, 3, 4),
)
VGG16 = Architecture(
    "vgg16",
    (
        *_three(64, 2),
        POOL,
        *_three(128, 2),
        POOL,
        *_three(256, 3),
        POOL,
        *_three(512, 3),
        POOL,
        *_three(512, 3),
    ),
    (2, 2),
    (1, 3, 6, 9, 12),
)


class Activations(nn.Module):
    """Images [N, 3, H, W], scaled -> the five activations. Names are those of torchvision's `features`."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        self.after: list[int] = []  # the numbers of the ReLUs whose outputs are taken
        before = count = 0
        for layer in architecture.layers:
            if isinstance(layer, int):
                modules.append(nn.MaxPool2d(*architecture.pool))
                continue
            channels, side, stride, padding = layer
            modules += [nn.Conv2d(before or 3, channels, side, stride, padding), nn.ReLU()]
            if count in architecture.taken:
                self.after.append(len(modules) - 1)
            before, count = channels, count + 1
        self.features = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for number, module in enumerate(self.features):
            x = module(x)
            if number in self.after:
                found.append(x)
        return found


class Distance:
    """Of images float [N, 3, H, W] in [-1, 1]. `backbone`: torchvision's state dict of AlexNet or VGG16, with
    or without its classifier; `linear`: LPIPS's weights for it. ValueError, in one line, if they do not
    fit."""

    least_side = LEAST_SIDE

    def __init__(self, backbone: Mapping[str, Tensor], linear: Mapping[str, Tensor]) -> None:
        found = {name: x for name, x in backbone.items() if not name.startswith("classifier.")}
        architecture = ALEXNET if _side(found) == 11 else VGG16
        with torch.device("meta"):
            self.network = Activations(architecture)
        check_fit(self.network.state_dict(), found)
        self.network.load_state_dict({name: x.float() for name, x in found.items()}, assign=True)
        self.network.requires_grad_(False)
        convolutions = [x for x in self.network.features if isinstance(x, nn.Conv2d)]
        widths = [convolutions[number].out_channels for number in architecture.taken]
        names = [f"lin{number}.model.1.weight" for number in range(len(widths))]
        shapes = [torch.empty(1, width, 1, 1) for width in widths]
        check_fit(dict(zip(names, shapes, strict=True)), linear)
        self.weights = [linear[name].float() for name in names]
        self.name = f"lpips-{architecture.name}"

    def to(self, device: torch.device | str) -> Distance:
        """In place."""
        self.network.to(device)
        self.weights = [weight.to(device) for weight in self.weights]
        return self

    def each(self, images: Tensor, truths: Tensor) -> Tensor:
        """The distance of each pair [N]. ValueError for images too small for the network."""
        if min(images.shape[2:]) < LEAST_SIDE:
            raise ValueError(
                f"LPIPS needs sides of at least {LEAST_SIDE} pixels, got {list(images.shape[2:])}"
            )
        total = images.new_zeros(len(images))
        pairs = zip(self.network(_scaled(images)), self.network(_scaled(truths)), strict=True)
        for weight, (one, other) in zip(self.weights, pairs, strict=True):
            difference = (_unit(one) - _unit(other)).square()  # [N, C, h, w]
            total = total + F.conv2d(difference, weight).mean(dim=(1, 2, 3))
        return total

    def __call__(self, images: Tensor, truths: Tensor) -> Tensor:
        """The mean over all pairs: a loss."""
        return self.each(images, truths).mean()


def load(backbone: Path, linear: Path) -> Distance:
    """From files that torch or safetensors wrote. ValueError, in one line, for what cannot be read or does
    not fit."""
    return Distance(unwrap(read_weights(backbone)), unwrap(read_weights(linear)))


def _side(backbone: Mapping[str, Tensor]) -> int:
    first = backbone.get("features.0.weight")
    if first is None or first.ndim != 4:
        raise ValueError("no AlexNet or VGG16 of torchvision: features.0.weight is missing or no convolution")
    return first.shape[-1]


def _scaled(images: Tensor) -> Tensor:
    return (images - MEAN.to(images)) / SCALE.to(images)


def _unit(x: Tensor) -> Tensor:
    """The small number inside the root keeps the gradient finite where all channels are 0."""
    return x / ((x.square().sum(dim=1, keepdim=True) + TINY**2).sqrt() + TINY)
