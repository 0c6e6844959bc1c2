"""Condition contrastive alignment: after it, plain sampling has the quality of guided sampling, at half its
cost. The model is to raise the odds of images under their own condition and to lower them under another one.

    loss = mean( -log sigmoid(beta r) - w log sigmoid(s beta r') ) / max(lambda, 1)
 Chen et al., arXiv 2410.09347. r and r' are log p(x | c) - log p_reference(x | c) under the matched and under
the mismatched condition; s = -1, w = lambda, but s = w = 1 where both conditions are the same: of no words
(the null branch then stays what it was, for mild guidance), or equal by chance. Pairs of rows come from
`unified.train.mismatched`. Different from the release: where no condition is dropped the formula stays what
it is. There VAR's trainer takes equal conditions for mismatched ones and does not divide (`masked=False`);
LlamaGen's, by default, minimises what is called unlearning elsewhere (`terms="linear"` too).
`tests/unified/checkpoints/test_cca.py` compares losses and gradients with the published trainers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from unified.objectives.objective import Objective, ObjectiveOutput, log_ratios
from unified.objectives.scores import Scores

TERMS = ("logistic", "linear")


@dataclass(frozen=True, kw_only=True)
class CCAConfig:
    """`beta`: inverse temperature, in 1/nat (published: 0.02). `lambda_`: weight of mismatched pairs, which
    sets the strength (published: 50 to 1000; 1 for images that are guided mildly afterwards). `terms`:
    "logistic", or "linear" for the baseline called unlearning, -r - w s r' without beta. `masked`: pairs of
    equal conditions have s = w = 1, and the sum is divided by max(lambda, 1); without it neither, as in the
    release where no condition is dropped."""

    beta: float = 0.02
    lambda_: float = 50.0
    terms: Literal["logistic", "linear"] = "logistic"
    masked: bool = True

    def __post_init__(self) -> None:
        if self.beta <= 0 or self.lambda_ < 0:
            raise ValueError(
                f"beta must be positive and lambda_ not negative, got {self.beta}, {self.lambda_}"
            )
        if self.terms not in TERMS:
            raise ValueError(f"terms must be one of {', '.join(TERMS)}, got {self.terms!r}")


class CCA(Objective):
    """Row 2i holds replies to their own prompts, row 2i + 1 the same replies to others: sample n of one row
    is paired with sample n of the other. The mean is over the pairs of the micro-batch that have targets.
    Logs the means of r and r', of r - r' (`margin`) and of r > r' (`accuracy`, at most the share of pairs
    that differ), and the share of pairs that are equal (`equal`)."""

    config_class = CCAConfig
    needs_reference = True
    needs_pairs = True

    def __init__(self, config: CCAConfig | None = None) -> None:
        self.config = config or CCAConfig()

    def loss(self, policy: Scores, reference: Scores | None, batch: Mapping[str, Any]) -> ObjectiveOutput:
        ratios = log_ratios("CCA", policy, reference)  # [B, N]
        counts = policy.targets_per_sample()
        real = ((counts[0::2] > 0) & (counts[1::2] > 0)).float()  # [B / 2, N]
        matched, mismatched = ratios[0::2], ratios[1::2]
        equal = equal_samples(batch["input_ids"], policy.sample, ratios.shape[1])

        def mean(values: Tensor) -> Tensor:
            return (values * real).sum() / real.sum().clamp(min=1)

        logs = {
            "ratio_matched": mean(matched),
            "ratio_mismatched": mean(mismatched),
            "margin": mean(matched - mismatched),
            "accuracy": mean((matched > mismatched).float()),
            "equal": mean(equal.float()),
        }
        logs = {name: value.detach() for name, value in logs.items()}
        return ObjectiveOutput(loss=mean(self._terms(matched, mismatched, equal)), logs=logs)

    def _terms(self, matched: Tensor, mismatched: Tensor, equal: Tensor) -> Tensor:
        """Loss of every pair, from its log-ratios and whether both conditions are the same."""
        config = self.config
        equal = equal & config.masked
        weight = torch.where(equal, 1.0, config.lambda_)
        sign = torch.where(equal, 1.0, -1.0)
        if config.terms == "logistic":
            found = -logsigmoid(config.beta * matched) - weight * logsigmoid(sign * config.beta * mismatched)
        else:
            found = -matched - weight * sign * mismatched
        return found / max(config.lambda_, 1.0) if config.masked else found


def equal_samples(ids: Tensor, sample: Tensor, count: int) -> Tensor:
    """[B / 2, count] bool: whether sample n of row 2i has the same ids as sample n of row 2i + 1. `ids` and
    `sample` [B, T]."""
    found = torch.zeros(len(ids) // 2, count, dtype=torch.bool)
    for pair in range(len(ids) // 2):
        for number in range(count):
            one, other = (ids[row][sample[row] == number] for row in (2 * pair, 2 * pair + 1))
            found[pair, number] = torch.equal(one, other)
    return found.to(ids.device)
