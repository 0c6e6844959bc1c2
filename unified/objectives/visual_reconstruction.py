"""Semantic reconstruction of what is seen: where a model reads an image, it also says the image's own codes.

ASVR: Autoregressive Semantic Visual Reconstruction, arXiv 2506.09040. Training on answers supervises language
alone; here the states at an image's positions must tell the codes that a frozen semantic tokenizer gives the
same patches, while the input stays what it was. The head is dropped after training. A term beside another
objective: it needs states, which `Scores` do not hold, so a recipe adds it to the loss that it has. Test:
tests/unified/objectives/test_visual_reconstruction.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.finite import check_number

Head = Callable[[Tensor, Tensor], Tensor]  # states [P, D], codes [P, K] -> logits [P, K, V]


@dataclass(frozen=True, kw_only=True)
class VisualReconstructionConfig:
    """`weight` of the loss (published: 1). `shift`: 0, the released code, lets a position say its own code, 1
    the next one, so that it is a prediction. `share` of an image's positions that are scored, drawn anew each
    time: the head is the larger part of what memory this takes."""

    weight: float = 1.0
    shift: int = 0
    share: float = 1.0

    def __post_init__(self) -> None:
        check_number("weight", self.weight, 0)
        check_number("share", self.share, 1e-6, 1)
        if self.shift not in (0, 1):
            raise ValueError(f"shift must be 0 (own codes) or 1 (the next ones), got {self.shift}")


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """`loss`, weighted; `by_depth` [K]: the mean cross-entropy of each depth in nats, and `accuracy` [K];
    both without gradient."""

    loss: Tensor
    by_depth: Tensor
    accuracy: Tensor


class VisualReconstruction:
    """`head` is `unified.heads.depth.DepthHead` or another of its form."""

    def __init__(self, head: Head, config: VisualReconstructionConfig | None = None) -> None:
        self.head, self.config = head, config or VisualReconstructionConfig()

    def __call__(
        self, states: Tensor, places: Tensor, codes: Tensor, rng: torch.Generator | None = None
    ) -> Reconstruction:
        """states [B, T, D]; `places` [B, T] bool: positions of images that are read; `codes` [N, K] of these,
        row by row. Images end where `places` do: with `shift` 1 the last position of a run says nothing. A
        batch without images has loss 0. ValueError for another number of codes."""
        if places.shape != states.shape[:2] or len(codes) != int(places.sum()):
            raise ValueError(
                f"{int(places.sum())} places of images need as many codes, got {len(codes)} for places "
                f"{tuple(places.shape)} of states {tuple(states.shape)}"
            )
        said, targets = states[places], codes
        if self.config.shift:
            follows = F.pad(places[:, 1:], (0, 1)) & places  # the next position is of the same run
            said, targets = states[follows], codes[F.pad(follows[:, :-1], (1, 0))[places]]
        chosen = self._drawn(len(said), rng)
        said, targets = said[chosen.to(said.device)], targets[chosen.to(targets.device)]
        if not len(said):
            none = torch.zeros(codes.shape[1], device=states.device)
            return Reconstruction(states.sum() * 0, none, none)
        logits = self.head(said, targets)
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        by_depth = losses.view(targets.shape).mean(dim=0)
        accuracy = (logits.argmax(dim=-1) == targets).float().mean(dim=0)
        return Reconstruction(self.config.weight * by_depth.mean(), by_depth.detach(), accuracy)

    def _drawn(self, count: int, rng: torch.Generator | None) -> Tensor:
        """The numbers of the positions that are scored, at least one of any."""
        if self.config.share == 1:
            return torch.arange(count)
        kept = max(round(count * self.config.share), min(count, 1))
        return torch.randperm(count, generator=rng)[:kept]
