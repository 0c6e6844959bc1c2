"""A small frozen network whose features say what a picture shows: the in-project stand-in for a vision
encoder that others downloaded.

It is taught the nine words of captions from pixels in seconds. Its features [B, C, 8, 8] therefore know the
labels that experiments score by; `unlabelled` is the other teacher, latents of the ground's KL-VAE, which was
never told any.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unified.eval.lab.experiment import Trial
from unified.eval.lab.ground.ground import Ground
from unified.eval.lab.ground.latents import CHANNELS
from unified.eval.lab.ground.scenes import CAPTION, SIDE, WORDS
from unified.eval.lab.ground.tokenizers import STRIDE, as_images
from unified.eval.lab.ground.training import Course, train

FEATURES = 48
SHARE = 0.6  # of the base models' steps
CELLS = SIDE // STRIDE


class Teacher(nn.Module):
    """Pictures [B, 3, 32, 32] in [-1, 1] -> features [B, 48, 8, 8]; `said`: logits of captions."""

    def __init__(self, width: int = FEATURES) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, STRIDE, stride=STRIDE),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.words = nn.Sequential(
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(width * CELLS**2, 128),
            nn.GELU(),
            nn.Linear(128, CAPTION * len(WORDS)),
        )

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.layers(images)
        return found

    def said(self, images: Tensor) -> Tensor:
        """[B, 9, words]."""
        found: Tensor = self.words(self(images))
        return found.unflatten(1, (CAPTION, len(WORDS)))


def taught(trial: Trial, work: Path) -> Teacher:
    """Trained on the ground's scenes, frozen."""
    sizes, captions, pictures = trial.ground.sizes, trial.ground.captions(), trial.ground.pictures()
    torch.manual_seed(trial.seed)
    model = Teacher()

    def loss(step: int) -> Tensor:
        chosen = np.random.default_rng([23, trial.seed, step]).integers(len(captions), size=2 * sizes.batch)
        logits = model.said(as_images(pictures[chosen]))
        return F.cross_entropy(logits.flatten(0, 1), captions[torch.from_numpy(chosen)].flatten())

    train(model, loss, Course(steps=sizes.steps(SHARE), rate=2e-3, what="teacher"), work)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def words_read(model: Teacher, pictures: np.ndarray, captions: Tensor) -> float:
    """The share of words of captions [N, 9] that it reads from pictures."""
    said = torch.cat([model.said(part).argmax(dim=-1) for part in as_images(pictures).split(256)])
    return float((said == captions).float().mean())


def unlabelled(ground: Ground) -> tuple[Callable[[Tensor], Tensor], int]:
    """Pictures -> latents of the KL-VAE, and their channels."""
    coder = ground.tokenizer("kl_vae")
    return coder.latent, CHANNELS
