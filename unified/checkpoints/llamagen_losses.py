"""What LlamaGen's tokenizers are trained with beside their own terms: a discriminator of patches, its losses,
the weight that balances them, and the usage of the codebook.

Source: FoundationVision/LlamaGen (MIT), tokenizer/tokenizer_image/vq_loss.py and discriminator_patchgan.py
(Isola et al. 2017; Esser et al. 2021, arXiv 2012.09841). Tests:
tests/unified/checkpoints/test_llamagen_tokenizer.py.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RECENT = 65536  # ids that usage is computed from


class PatchGAN(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] -> scores [B, 1, h, w], one for each patch. Normalised over the batch in
    training mode. Parameter names are the published ones."""

    def __init__(self, *, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        widths = [width * min(2**layer, 8) for layer in range(layers + 1)]
        parts: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for layer, (source, target) in enumerate(pairwise(widths), start=1):
            stride = 2 if layer < layers else 1
            parts += [
                nn.Conv2d(source, target, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(target),
                nn.LeakyReLU(0.2),
            ]
        self.main = nn.Sequential(*parts, nn.Conv2d(widths[-1], 1, 4, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.main(images)
        return scores


# Scores of real and of reconstructed images, of any shape -> scalars.


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def hinge_generator(fake: Tensor) -> Tensor:
    return -fake.mean()


def vanilla_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2


def non_saturating_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """As published: scores and targets have changed places, so scores of `fake` do not matter."""
    return (_entropy(torch.ones_like(real), real) + _entropy(torch.zeros_like(fake), fake)) / 2


def non_saturating_generator(fake: Tensor) -> Tensor:
    """As published, see `non_saturating_discriminator`."""
    return _entropy(torch.ones_like(fake), fake)


def _entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Binary cross entropy, for targets outside [0, 1] too."""
    return (F.softplus(scores) - targets * scores).mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last: Tensor) -> Tensor:
    """How much the adversarial loss counts: the ratio of the two losses' gradients in the weights `last` of
    the last layer, at most 10,000, without gradient. The graphs of both losses are kept."""
    (of_reconstruction,) = torch.autograd.grad(reconstruction, last, retain_graph=True)
    (of_adversarial,) = torch.autograd.grad(adversarial, last, retain_graph=True)
    return (of_reconstruction.norm() / (of_adversarial.norm() + 1e-4)).clamp(0, 1e4).detach()


def record_ids(recent: Tensor, ids: Tensor) -> Tensor:
    """Recent ids [n], the newest last, with those of a batch put behind and as many dropped in front. At the
    start of training they are `RECENT` zeros."""
    return torch.cat([recent, ids.flatten().to(recent)])[-len(recent) :]


def usage(recent: Tensor, codes: int) -> float:
    """The share of `codes` that occur in recent ids."""
    return len(recent.unique()) / codes
