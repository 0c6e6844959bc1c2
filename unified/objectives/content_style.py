"""Content and style learnt in turns from one image, each from the scales that carry it.

CSD-VAR: Content-Style Decomposition in Visual Autoregressive Models, arXiv 2507.13984. Coarse maps (and in
the paper the finest) carry mostly style, those between mostly content. Steps of training alternate, style
first: each minimises the mean loss over the codes of its own scales, the style's also, with a small weight,
that of the others. In the paper each trains an embedding of its own, in the release both are trained by
both. Tests: tests/unified/objectives/test_content_style.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unified.finite import check_number
from unified.objectives.objective import Objective, ObjectiveOutput, Progress
from unified.objectives.scores import Scores

STYLE, CONTENT = "style", "content"
EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class ContentStyleConfig:
    """`steps` of an image that belong to `kind` ("style" or "content"; negative: counted from the image's
    last), all others to the other one; without any, both are everything. `minor`: the weight of the content's
    scales where style is learnt. Released: the first three; in the paper (0, 1, 2, -1)."""

    steps: tuple[int, ...] = (0, 1, 2)
    kind: str = STYLE
    minor: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in (STYLE, CONTENT):
            raise ValueError(f"kind must be {STYLE!r} or {CONTENT!r}, got {self.kind!r}")
        check_number("minor", self.minor, 0)


class ContentStyle(Objective):
    """The loss of an image is a weighted sum over its codes, its weights adding up to 1 (1 + `minor` where
    style is learnt); the mean is over images. What is no code of an image is not learnt. Logs the mean losses
    of both groups."""

    config_class = ContentStyleConfig

    def __init__(self, config: ContentStyleConfig | None = None) -> None:
        self.config = config or ContentStyleConfig()

    def prepare(self, batch: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        return {**batch, "learnt": CONTENT if progress.step % 2 else STYLE}

    def loss(self, policy: Scores, reference: Scores | None, batch: Mapping[str, Any]) -> ObjectiveOutput:
        codes = policy.targets & (policy.step >= 0)
        style, content = self._groups(policy, codes)
        shares = {STYLE: _shares(style, policy), CONTENT: _shares(content, policy)}
        weights = shares[batch["learnt"]]
        if batch["learnt"] == STYLE:
            weights = weights + self.config.minor * shares[CONTENT] * ~style
        images = _images(codes, policy).sum().clamp(min=1)
        nll = -policy.log_probs
        logs = {f"loss_{name}": ((nll * share).sum() / images).detach() for name, share in shares.items()}
        return ObjectiveOutput(loss=(nll * weights).sum() / images, logs=logs)

    def _groups(self, policy: Scores, codes: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T] bool each: codes of the style's scales, and of the content's."""
        if not self.config.steps:
            return codes, codes
        count = _last_step(policy) + 1  # [B, T]
        wanted = [torch.full_like(count, step) if step >= 0 else count + step for step in self.config.steps]
        chosen = codes & torch.stack([policy.step == step for step in wanted]).any(dim=0)
        rest = codes & ~chosen
        return (chosen, rest) if self.config.kind == STYLE else (rest, chosen)


def _last_step(policy: Scores) -> Tensor:
    """[B, T]: the last step of the sample that each id belongs to."""
    sample = policy.sample.clamp(min=0)
    latest = torch.full((len(sample), int(sample.max()) + 1), -1, dtype=torch.long, device=sample.device)
    return latest.scatter_reduce(1, sample, policy.step, "amax").gather(1, sample)


def _shares(group: Tensor, policy: Scores) -> Tensor:
    """[B, T]: one by the number of a sample's codes in the group, 0 outside it."""
    sample = policy.sample.clamp(min=0)
    counts = torch.zeros(len(sample), int(sample.max()) + 1, device=sample.device)
    counts = counts.scatter_add(1, sample, group.float()).gather(1, sample)
    return group / counts.clamp(min=1)


def _images(codes: Tensor, policy: Scores) -> Tensor:
    """[B, N] bool: samples that have codes."""
    sample = policy.sample.clamp(min=0)
    counts = torch.zeros(len(sample), int(sample.max()) + 1, device=sample.device)
    return counts.scatter_add(1, sample, codes.float()) > 0


def overlap(style: Tensor, content: Tensor) -> Tensor:
    """The mean absolute cosine between all pairs of rows of two sets of embeddings [n, D] and [m, D]: a loss
    that keeps them apart."""
    unit_style, unit_content = (x / (x.norm(dim=-1, keepdim=True) + EPS) for x in (style, content))
    return (unit_content @ unit_style.mT).abs().mean()
