"""Preference tuning of heads without a likelihood: the difference of denoising losses at the same times and
noise stands for the log-ratio of a reply.

    D(y) = loss_reference(y; t, e) - loss(y; t, e), with one (t, e) for the n-th vector of both replies of a
    pair, and for policy and reference

Wallace et al., Diffusion Model Alignment Using Direct Preference Optimization, arXiv 2311.12908. Losses are
means over channels, so `beta` is larger than theirs by the number of channels; text and actions keep their
exact log-probabilities. Test: tests/train/preference/test_paired.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from unified.bound import BoundNoise, is_exact, paired

SEEDS = 2**31


def pair_noise(model: Any, inputs: Mapping[str, Any], *, fresh: bool) -> BoundNoise | None:
    """Times and noise for a batch of chosen replies and, behind them, the rejected ones; None for a model
    whose head has log-probabilities. `fresh`: of a seed of torch's own generator, else always the same."""
    if is_exact(model.head):
        return None
    layout, half = inputs["layout"], len(inputs["input_ids"]) // 2
    seed = int(torch.randint(SEEDS, (1,))) if fresh else 0
    return paired(layout, torch.arange(len(layout.step)) % half, seed)


def check_preference(options: Any, head: str) -> None:
    """ValueError for options of a preference stage that need log-probabilities, with a head that has none."""
    if options.reference == "precomputed":
        raise ValueError(
            f"the head {head!r} has no log-probabilities, and a precomputed reference would be scored at "
            "other times and noise than the policy: set reference='copy', or train adapters alone"
        )


def check_arguments(model: Any, args: Any) -> None:
    """The same for a trainer's arguments."""
    if is_exact(model.head):
        return
    if args.precompute_ref_log_probs:
        raise ValueError(
            "a head without log-probabilities is scored at drawn times and noise, and a precomputed "
            "reference would have others than the policy: set precompute_ref_log_probs=False"
        )
    if args.use_weighting:
        raise ValueError("use_weighting (WPO) needs exact log-probabilities, and this head has none")
