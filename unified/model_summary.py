"""One line about a model."""

from __future__ import annotations

from torch import nn


def summary(model: nn.Module) -> str:
    """ "23.1M parameters, bfloat16 on cpu"."""
    weights = list(model.parameters())
    if not weights:
        return "no parameters"
    dtype = str(weights[0].dtype).removeprefix("torch.")
    return f"{short(sum(weight.numel() for weight in weights))} parameters, {dtype} on {weights[0].device}"


def short(count: int) -> str:
    """ "950", "23.1M": three digits at most, and a letter."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)
