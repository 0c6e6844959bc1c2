"""What a reconstruction is trained by: pixels, features of a network, a discriminator, and the tokenizer's
own terms. Clips are compared frame by frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unified.tokenizers.losses import (
    PatchDiscriminator,
    Perceptual,
    RandomPyramid,
    discriminator_loss,
    generator_loss,
)
from unified.tokenizers.resize import area
from unified.tokenizers.visual import TrainingPass
from unified.train.processes import ALONE, Processes


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms beside pixels (weight 1) and the tie between vectors and codes (weight
    `quantiser`)."""

    pixels: Literal["l1", "l2"] = "l2"
    quantiser: float = 1.0
    entropy: float = 0.0
    perceptual: float = 0.0
    adversarial: float = 0.0
    adversarial_start: int = 1000  # steps before the discriminator counts; it learns from the first

    def __post_init__(self) -> None:
        if self.pixels not in ("l1", "l2"):
            raise ValueError(f"pixels must be 'l1' or 'l2', got {self.pixels!r}")
        if min(self.quantiser, self.entropy, self.perceptual, self.adversarial, self.adversarial_start) < 0:
            raise ValueError("weights of losses must not be negative")


class Losses:
    """All terms of one step; trains the discriminator on the way."""

    def __init__(
        self,
        config: LossConfig,
        perceptual: Perceptual | None,
        rate: float,
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        self.config, self.processes = config, processes
        self.perceptual = (perceptual or RandomPyramid().to(device)) if config.perceptual else None
        self.discriminator = PatchDiscriminator().to(device) if config.adversarial else None
        if self.discriminator is not None:
            self.optimiser = torch.optim.Adam(self.discriminator.parameters(), lr=rate, betas=(0.5, 0.9))

    def __call__(
        self, result: TrainingPass, images: Tensor, step: int, rate: float
    ) -> tuple[Tensor, dict[str, float]]:
        """A pass and the images it was made of -> (loss, its terms as numbers). ValueError for terms that
        need images where the pass has none."""
        terms = {"quantiser": result.loss, **result.terms}
        total = self.config.quantiser * result.loss
        if result.images:
            total = total + self._compared([_frames(item.float()) for item in result.images],
                                           _frames(images), step, rate, terms)  # fmt: skip
        elif self.config.perceptual or self.config.adversarial:
            raise ValueError(
                "this tokenizer is not trained by comparing images: set perceptual and adversarial to 0"
            )
        terms["loss"] = total
        return total, {name: float(value.detach()) for name, value in terms.items()}

    def _compared(
        self, got: list[Tensor], images: Tensor, step: int, rate: float, terms: dict[str, Tensor]
    ) -> Tensor:
        """What reconstructions of any sizes cost; adds to the terms."""
        targets = [_resized(images, item) for item in got]
        distance = F.l1_loss if self.config.pixels == "l1" else F.mse_loss
        terms["pixels"] = _mean(distance(a, b) for a, b in zip(got, targets, strict=True))
        total = terms["pixels"]
        if self.perceptual is not None:
            terms["perceptual"] = _mean(
                self.perceptual(*pair) for pair in _large_enough(self.perceptual, got, targets)
            )
            total = total + self.config.perceptual * terms["perceptual"]
        if self.discriminator is not None:
            terms["discriminator"] = self._train_discriminator(
                self.discriminator, got[-1].detach(), targets[-1], rate
            )
            terms["adversarial"] = generator_loss(self.discriminator(got[-1]))
            active = step >= self.config.adversarial_start
            total = total + self.config.adversarial * terms["adversarial"] * active
        terms["psnr"] = -10 * torch.log10(F.mse_loss(got[-1].clamp(-1, 1), targets[-1]) / 4)
        return total

    def _train_discriminator(self, critic: nn.Module, fake: Tensor, real: Tensor, rate: float) -> Tensor:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss = discriminator_loss(critic(real), critic(fake))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.processes.average_gradients(critic.parameters())
        self.optimiser.step()
        return loss.detach()


def _frames(images: Tensor) -> Tensor:
    """Clips [B, 3, T, H, W] as images [B * T, 3, H, W]; images as they are."""
    return images.transpose(1, 2).flatten(0, 1) if images.ndim == 5 else images


def _resized(images: Tensor, like: Tensor) -> Tensor:
    shape = (like.shape[2], like.shape[3])
    return images if tuple(images.shape[2:]) == shape else area(images, shape)


def _large_enough(
    perceptual: Perceptual, got: list[Tensor], targets: list[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """The pairs that a perceptual distance can read: small maps are too small for LPIPS. The last one always
    counts, so that images that are too small are told."""
    least = getattr(perceptual, "least_side", 1)
    pairs = list(zip(got, targets, strict=True))
    return [pair for pair in pairs[:-1] if min(pair[0].shape[2:]) >= least] + pairs[-1:]


def _mean(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
