"""What a reconstruction is compared by beside pixels: features of convolutions, and a discriminator.

Networks pretrained on photographs (LPIPS) need weights that this project does not ship; `RandomPyramid` needs
none. Random convolutions keep local structure, so the distance of their features punishes blur, though less
like the eye does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Perceptual = Callable[[Tensor, Tensor], Tensor]


class RandomPyramid(nn.Module):
    """Distance of two batches of images [B, 3, H, W] in the features of frozen random convolutions at
    `levels` scales.

    Features are normalised per place, as LPIPS does. The seed is the module's own: the global one is not
    touched.
    """

    def __init__(self, *, levels: int = 3, width: int = 16, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for level in range(levels):
            inputs = 3 if level == 0 else width
            kernel = torch.randn(width, inputs, 3, 3, generator=generator) / (9 * inputs) ** 0.5
            self.register_buffer(f"kernel_{level}", kernel)
        self.levels = levels

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        pairs = zip(self.features(images), self.features(targets), strict=True)
        return torch.stack([F.mse_loss(got, want) for got, want in pairs]).sum()

    def features(self, images: Tensor) -> list[Tensor]:
        """Unit-length features per level, [B, width, H / 2^level, W / 2^level]."""
        x, found = images, []
        for level in range(self.levels):
            if level and min(x.shape[2:]) > 1:
                x = F.avg_pool2d(x, 2)
            x = F.leaky_relu(F.conv2d(x, getattr(self, f"kernel_{level}").to(x.dtype), padding=1), 0.2)
            found.append(F.normalize(x, dim=1))
        return found


def lpips(weights: Path) -> Perceptual:
    """The learned perceptual distance of Zhang et al. 2018 with local weights (the package's own state dict).

    ImportError without the package `lpips`, ValueError without the file: nothing is downloaded.
    """
    try:
        from lpips import LPIPS
    except ImportError:
        raise ImportError("the LPIPS loss needs the package lpips; RandomPyramid needs none") from None
    if not Path(weights).is_file():
        raise ValueError(f"{weights}: no such file; LPIPS weights must lie on this machine")
    network = LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    network.eval().requires_grad_(False)
    return lambda images, targets: network(images, targets).mean()


class PatchDiscriminator(nn.Module):
    """Real or not, for each patch: [B, 3, H, W] -> scores [B, 1, about H / 2^layers, W / 2^layers] (PatchGAN,
    Isola et al. 2017).

    Normalised per sample, so that the verdict on an image does not depend on the batch.
    """

    def __init__(self, *, width: int = 32, layers: int = 2) -> None:
        super().__init__()
        widths = [3, *(width * 2**i for i in range(layers))]
        blocks: list[nn.Module] = []
        for i in range(layers):
            blocks += [nn.Conv2d(widths[i], widths[i + 1], 4, stride=2, padding=1)]
            blocks += [nn.GroupNorm(1, widths[i + 1])] if i else []
            blocks += [nn.LeakyReLU(0.2)]
        self.network = nn.Sequential(*blocks, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the scores of real and reconstructed images."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def generator_loss(fake: Tensor) -> Tensor:
    """Hinge loss of the tokenizer: be scored as real."""
    return -fake.mean()
