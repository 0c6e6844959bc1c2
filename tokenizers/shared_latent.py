"""One codebook for what will be seen and for what to do: frames and chunks of actions as the same codes.

VITA (arXiv 2511.19859): a pair of frames becomes motion codes that, with the first frame, give the second; a
chunk of actions becomes, by a discrete cosine transform along time and an MLP, codes of the same codebook.
The two autoencoders are trained on data of their own and share nothing but the codebook; a policy that writes
such codes says what it will do (and what it would see) at once. No code was published. Simplified:
convolutions in place of DINOv2 features and transformers, no memory over frames; sizes and weights of losses
are not given in what was read. Reconstruction alone does not make the two share codes: `overlap` says whether
they do. Tests: tests/tokenizers/test_shared_latent.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class SharedLatentConfig:
    """`codes` of `dim` channels, of which a chunk takes `tokens`. A chunk is `steps` actions of `channels`
    numbers, about [-1, 1]; frames are `side` pixels high and wide, a multiple of 8."""

    codes: int = 64
    dim: int = 16
    tokens: int = 4
    steps: int = 6
    channels: int = 2
    side: int = 32
    width: int = 32
    commitment: float = 0.25

    def __post_init__(self) -> None:
        counts = (self.codes, self.dim, self.tokens, self.steps, self.channels, self.side, self.width)
        if any(type(n) is not int or n < 1 for n in counts) or self.codes < 2 or self.side % 8:
            raise ValueError(f"counts must be at least 1, codes 2, and side a multiple of 8, got {self}")
        if not self.commitment >= 0:
            raise ValueError(f"commitment must be at least 0, got {self.commitment}")


class SharedLatent(nn.Module):
    """Two encoders, two decoders, one codebook."""

    cosines: Tensor

    def __init__(self, config: SharedLatentConfig) -> None:
        super().__init__()
        self.config = config
        width, grid = config.width, config.side // 8
        latent, chunk = config.tokens * config.dim, config.steps * config.channels
        self.see = nn.Sequential(*_down(6, width), nn.Flatten(), nn.Linear(2 * width * grid**2, latent))
        self.before = nn.Sequential(*_down(3, width))
        self.motion = nn.Linear(latent, 2 * width * grid**2)
        self.show = nn.Sequential(*_up(4 * width, width))
        self.act = nn.Sequential(nn.Linear(chunk, 4 * width), nn.GELU(), nn.Linear(4 * width, latent))
        self.do = nn.Sequential(nn.Linear(latent, 4 * width), nn.GELU(), nn.Linear(4 * width, chunk))
        self.norm = nn.LayerNorm(config.dim, elementwise_affine=False)  # both sorts of latents have one scale
        self.codebook = nn.Parameter(torch.randn(config.codes, config.dim))
        self.register_buffer("cosines", cosine_transform(config.steps), persistent=False)

    # Latents ------------------------------------------------------------------------------------------------

    def latent_of_frames(self, before: Tensor, after: Tensor) -> Tensor:
        """Frames [B, 3, S, S] in [-1, 1] -> [B, L, d]."""
        return self._latent(self.see(torch.cat([before, after - before], dim=1)))

    def latent_of_actions(self, actions: Tensor) -> Tensor:
        """Chunks [B, H, A] -> [B, L, d]."""
        return self._latent(self.act((self.cosines @ actions).flatten(1)))

    def _latent(self, flat: Tensor) -> Tensor:
        found: Tensor = self.norm(flat.unflatten(1, (self.config.tokens, self.config.dim)))
        return found

    def table(self) -> Tensor:
        """[K, d]: the codes, of the scale of latents."""
        found: Tensor = self.norm(self.codebook)
        return found

    def nearest(self, latent: Tensor) -> Tensor:
        """Ids [B, L] of latents [B, L, d]."""
        return torch.cdist(latent.flatten(0, 1), self.table()).argmin(dim=1).view(latent.shape[:2])

    def vectors(self, ids: Tensor) -> Tensor:
        """[B, L, d] of ids [B, L]."""
        return F.embedding(ids, self.table())

    def quantise(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Ids [B, L]; codes [B, L, d] with the gradient of the latent; the loss that draws both together."""
        ids = self.nearest(latent.detach())
        rows = self.vectors(ids)
        loss = F.mse_loss(rows, latent.detach()) + self.config.commitment * F.mse_loss(latent, rows.detach())
        return ids, latent + (rows - latent).detach(), loss

    # Decoding -----------------------------------------------------------------------------------------------

    def frames(self, before: Tensor, vectors: Tensor) -> Tensor:
        """The frame after `before` [B, 3, S, S] that codes [B, L, d] stand for, as a change of it."""
        grid = self.config.side // 8
        motion = self.motion(vectors.flatten(1)).unflatten(1, (-1, grid, grid))
        change: Tensor = self.show(torch.cat([self.before(before), motion], dim=1))
        return before + change

    def actions(self, vectors: Tensor) -> Tensor:
        """[B, H, A] of codes [B, L, d]."""
        config = self.config
        found = self.do(vectors.flatten(1)).unflatten(1, (config.steps, config.channels))
        return self.cosines.T @ found  # the transform is orthogonal

    # Training -----------------------------------------------------------------------------------------------

    def frame_loss(self, before: Tensor, after: Tensor) -> Tensor:
        """Mean absolute error of frames through the codebook, and the codebook's own loss."""
        _, codes, loss = self.quantise(self.latent_of_frames(before, after))
        return F.l1_loss(self.frames(before, codes), after) + loss

    def action_loss(self, actions: Tensor) -> Tensor:
        """Mean squared error of chunks through the codebook, and the codebook's own loss."""
        _, codes, loss = self.quantise(self.latent_of_actions(actions))
        return F.mse_loss(self.actions(codes), actions) + loss

    @torch.no_grad()
    def restart(self, latents: Tensor, used: Tensor, generator: torch.Generator) -> int:
        """Codes that were not `used` [K] bool are put at random latents [N, d]; how many."""
        dead = (~used).nonzero()[:, 0]
        chosen = torch.randint(len(latents), (len(dead),), generator=generator)
        self.codebook[dead] = latents[chosen]
        return len(dead)


def cosine_transform(steps: int) -> Tensor:
    """[H, H]: the orthogonal discrete cosine transform (type II); row k is the k-th frequency."""
    place = torch.arange(steps, dtype=torch.float64)
    found = torch.cos(math.pi / steps * (place + 0.5) * place[:, None]) * math.sqrt(2 / steps)
    found[0] /= math.sqrt(2)
    return found.float()


def overlap(frames: Tensor, actions: Tensor, codes: int) -> dict[str, float]:
    """Whether two sorts of data use the same codes, of ids [N, L] each that belong together. `perplexity` of
    each; `shared`: 1 less the total variation between how often each uses each code; `information`: nats that
    the code of one tells about that of the other at the same place."""
    uses = [torch.bincount(ids.flatten(), minlength=codes).double() for ids in (frames, actions)]
    one, other = (use / use.sum() for use in uses)
    joint = torch.zeros(codes, codes, dtype=torch.float64)
    joint.index_put_(
        (frames.flatten(), actions.flatten()),
        torch.ones(frames.numel(), dtype=torch.float64),
        accumulate=True,
    )
    joint /= joint.sum()
    independent = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    there = joint > 0
    return {
        "perplexity_frames": float(torch.special.entr(one).sum().exp()),
        "perplexity_actions": float(torch.special.entr(other).sum().exp()),
        "shared": float(1 - (one - other).abs().sum() / 2),
        "information": float((joint[there] * (joint[there] / independent[there]).log()).sum()),
    }


def _down(channels: int, width: int) -> list[nn.Module]:
    """[B, C, S, S] -> [B, 2 W, S / 8, S / 8]."""
    return [
        nn.Conv2d(channels, width, 4, stride=4),
        nn.GELU(),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.GELU(),
    ]


def _up(channels: int, width: int) -> list[nn.Module]:
    """The inverse, to three channels of changes."""
    return [
        nn.Conv2d(channels, 2 * width, 3, padding=1),
        nn.GELU(),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
        nn.GELU(),
        nn.ConvTranspose2d(width, 3, 4, stride=4),
    ]
