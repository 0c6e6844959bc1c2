"""Direct preference optimisation: the policy is to raise the odds of a preferred reply over another one,
measured from a frozen reference.

    loss = -log sigmoid(beta * (D(chosen) - D(rejected))),   D(y) = log p(y | x) - log p_reference(y | x)
 Rafailov et al., arXiv 2305.18290, equation 7. Text, actions and images are scored alike: one teacher-forced
pass gives the exact likelihood of them all. Label smoothing and the other losses of later papers are left
out. `tests/unified/objectives/test_dpo.py` holds it to the formula and lets it learn a preference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from unified.bound import paired
from unified.finite import check_tree
from unified.objectives.objective import Objective, ObjectiveOutput, Progress, log_ratios
from unified.objectives.scores import Scores


@dataclass(frozen=True, kw_only=True)
class DPOConfig:
    """`beta`: inverse temperature, in 1/nat: small values let the policy move far from the reference.
    `length_normalised`: D is a mean over the targets of a reply, not a sum; beta must then be larger by about
    their number."""

    beta: float = 0.1
    length_normalised: bool = False

    def __post_init__(self) -> None:
        check_tree(self)
        if self.beta <= 0:
            raise ValueError(f"beta must be positive, got {self.beta}")


class DPO(Objective):
    """Row 2i holds the chosen, row 2i + 1 the rejected replies to the same prompts: sample n of one row is
    paired with sample n of the other. The mean is over the pairs of the micro-batch that have targets."""

    config_class = DPOConfig
    needs_reference = True
    needs_pairs = True
    needs_likelihood = False

    def __init__(self, config: DPOConfig | None = None) -> None:
        self.config = config or DPOConfig()

    def prepare(self, batch: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """A head without a likelihood scores both replies, for the policy and for the reference, at the same
        times and noise (Diffusion-DPO, arXiv 2311.12908); others take no notice, and batches of systems that
        have no layout are left as they are."""
        if "layout" not in batch:
            return batch
        rows = torch.arange(len(batch["input_ids"]))
        noise = paired(batch["layout"], rows // 2, progress.seed + 2**16 * progress.step)
        return {**batch, "options": {**batch.get("options", {}), "bound_noise": noise}}

    def loss(self, policy: Scores, reference: Scores | None, batch: Mapping[str, Any]) -> ObjectiveOutput:
        rewards = self.config.beta * self._scaled(log_ratios("DPO", policy, reference), policy)  # [B, N]
        counts = policy.targets_per_sample()
        real = ((counts[0::2] > 0) & (counts[1::2] > 0)).float()  # [B / 2, N]
        chosen, rejected = rewards[0::2], rewards[1::2]

        def mean(values: Tensor) -> Tensor:
            return (values * real).sum() / real.sum().clamp(min=1)

        logs = {
            "reward_chosen": mean(chosen),
            "reward_rejected": mean(rejected),
            "reward_margin": mean(chosen - rejected),
            "reward_accuracy": mean((chosen > rejected).float()),
        }
        logs = {name: value.detach() for name, value in logs.items()}
        return ObjectiveOutput(loss=mean(-logsigmoid(chosen - rejected)), logs=logs)

    def _scaled(self, ratios: Tensor, policy: Scores) -> Tensor:
        """D of every sample, [B, N]."""
        return ratios / policy.targets_per_sample().clamp(min=1) if self.config.length_normalised else ratios
