"""Direct discriminative optimisation: a likelihood model as its own discriminator sharpens itself, without
guidance and without a second network.

    loss = mean softplus(-beta D(real)) + alpha mean softplus(beta D(fake))
    D(x) = log p(x | c) - log p_reference(x | c)
 Zheng et al., arXiv 2503.01103. Fakes are samples of the reference itself: temperature 1, no top-k, no top-p,
no guidance, or what is learned is the truncation. With beta = alpha = 1 the optimum is the law of the data;
with beta < 1 it is reference^(1 - 1/beta) data^(1/beta), sharpened as by guidance. A round is a stage: it
makes its fakes with, and its reference of, the model at its start; the next round does so anew (self-play).
Left out: the bound for diffusion heads. `tests/unified/objectives/test_ddo.py` lets a toy distribution
improve over two rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import softplus

from unified.objectives.objective import Objective, ObjectiveOutput, log_ratios
from unified.objectives.scores import Scores

SATURATED = 8.0  # beyond it sigmoid(beta D) hardly has a gradient


@dataclass(frozen=True, kw_only=True)
class DDOConfig:
    """`beta`: inverse temperature of D, in 1/nat (published for VAR: 0.02). `alpha`: weight of the fakes
    (published for VAR: 10 to 100). `length`: number of targets that beta is meant for; D of a sample of
    another number is scaled by length / number, so that beta serves every resolution (0: never)."""

    beta: float = 0.02
    alpha: float = 10.0
    length: int = 0

    def __post_init__(self) -> None:
        if self.beta <= 0 or self.alpha < 0 or self.length < 0:
            raise ValueError(
                "beta must be positive, alpha and length not negative, got "
                f"{self.beta}, {self.alpha}, {self.length}"
            )


class DDO(Objective):
    """Rows 2i hold samples of the data, rows 2i + 1 samples of the reference; they need not answer the same
    prompts. Each mean is over the samples of its kind that have targets. Logs the means of D (0 at first),
    the share of `saturated` samples (|beta D| > 8) and the mean negative log-likelihood of the targets of the
    data (`nll_real`), which may rise where alpha is large."""

    config_class = DDOConfig
    needs_reference = True
    needs_pairs = True

    def __init__(self, config: DDOConfig | None = None) -> None:
        self.config = config or DDOConfig()

    def loss(self, policy: Scores, reference: Scores | None, batch: Mapping[str, Any]) -> ObjectiveOutput:
        counts = policy.targets_per_sample()
        ratios = log_ratios("DDO", policy, reference)  # [B, N]
        if self.config.length:
            ratios = ratios * self.config.length / counts.clamp(min=1)
        scaled, present = self.config.beta * ratios, (counts > 0).float()

        def mean(values: Tensor, rows: slice) -> Tensor:
            return (values * present)[rows].sum() / present[rows].sum().clamp(min=1)

        everything, real, fake = slice(None), slice(0, None, 2), slice(1, None, 2)
        loss = mean(softplus(-scaled), real) + self.config.alpha * mean(softplus(scaled), fake)
        nll = -policy.per_sample()[real].sum() / counts[real].sum().clamp(min=1)
        logs = {
            "ratio_real": mean(ratios, real),
            "ratio_fake": mean(ratios, fake),
            "saturated": mean((scaled.abs() > SATURATED).float(), everything),
            "nll_real": nll,
        }
        return ObjectiveOutput(loss=loss, logs={name: value.detach() for name, value in logs.items()})
