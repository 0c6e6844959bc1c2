"""Generation by Orthus: ids by the language head until an image begins, then its patches one by one by the
diffusion head, each read softly before the next.

Guidance by rows that are told less and less, all of which read the same patches. Source: Kou et al., arXiv
2412.00127. Noise is a function of the row and the number of the patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unified.checkpoints.orthus.network import LATENT_SCALE, Orthus, kept_shares
from unified.decoding.branch_guidance import branch_guided
from unified.decoding.noise import Noise
from unified.finite import check_count
from unified.heads.denoiser import Denoiser
from unified.heads.diffusion_solvers import ddim, trailing


@dataclass(frozen=True, kw_only=True)
class PatchDecoding:
    """`patches` of an image; `steps` of the solver; `scales` of guidance, one less than there are branches:
    (5,) for a prompt and an empty one, (text, image) for image with text, the image alone, nothing.
    Released: 1024, 100."""

    patches: int = 1024
    steps: int = 100
    scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_count("patches", self.patches, 1)
        check_count("steps", self.steps, 1)

    @property
    def branches(self) -> int:
        return 1 + len(self.scales)


def draw_patches(
    head: Denoiser,
    hidden: Tensor,
    start: Tensor,
    settings: PatchDecoding,
    watch: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Latents [B, C] from noise [B, C], given hidden states [G, B, D] of G branches. `watch` is given each
    state."""

    def velocity(x: Tensor, step: int) -> Tensor:
        if watch is not None:
            watch(x)
        steps = torch.full((1,), step, device=x.device)
        found = head(x.float().repeat(len(hidden), 1), steps, hidden.flatten(0, 1))
        return branch_guided(found.unflatten(0, hidden.shape[:2]), settings.scales)

    path = trailing(kept_shares(), settings.steps)
    return (ddim(velocity, start, path, velocity=True) / LATENT_SCALE).float()


@torch.no_grad()
def image(
    model: Orthus,
    ids: Tensor,
    mask: Tensor,
    noise: Noise,
    settings: PatchDecoding | None = None,
    watch: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Latents [B, L, C] of images after prompts: ids and mask [G B, n], padded on the left, the rows of a
    branch together. `watch` is given the input embedding of the last position of every pass. ValueError for
    a number of rows that the branches do not divide."""
    settings = settings or PatchDecoding()
    branches = settings.branches
    if len(ids) % branches:
        raise ValueError(f"{len(ids)} rows are not shared out among {branches} branches")
    rows, marks = len(ids) // branches, model.config.ids
    stores = model.stores(ids.shape[1] + settings.patches)
    begin = torch.full_like(ids[:, :1], marks.begin)
    model_reads, found = [model.embeds(ids), model.embeds(begin)], list[Tensor]()
    for number in range(settings.patches + 1):
        embeds = model_reads[number]
        if number:
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        read = model.read(embeds, mask, stores)
        if watch is not None:
            watch(embeds[:, -1])
        if not number:
            continue
        hidden = read.hidden[:, -1].unflatten(0, (branches, rows))
        places = torch.full((rows, 1), number - 1, device=ids.device)
        start = noise.normal(places, model.config.channels, device=ids.device)[:, 0]
        found.append(draw_patches(model.mlp_head, hidden, start, settings))
        patch = found[-1].repeat(branches, 1)[:, None]
        model_reads.append(model.embeds(torch.full_like(begin, marks.image), patch))
    return torch.stack(found, dim=1)
