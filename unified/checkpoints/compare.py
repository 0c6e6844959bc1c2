"""Tensors of a golden folder against what was computed: one line for each, whatever it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check, close, exact, not_compared


@dataclass(frozen=True)
class Tolerance:
    atol: float
    rtol: float = 0.0


def compare(
    stored: Mapping[str, Tensor],
    computed: Mapping[str, Tensor],
    inputs: Callable[[str], bool],
    tolerance: Callable[[str], Tolerance],
) -> Iterator[Check]:
    """One check per stored tensor: integers and booleans exactly, floats within `tolerance(name)`."""
    for name, want in stored.items():
        if inputs(name):
            yield not_compared(name, "an input")
        elif name not in computed:
            yield not_compared(name, "unknown name")
        elif want.is_floating_point():
            limit = tolerance(name)
            yield close(name, computed[name], want, atol=limit.atol, rtol=limit.rtol)
        else:
            yield exact(name, computed[name], want)


def input_image(stored: Mapping[str, Tensor], name: str) -> Tensor:
    """The stored image `name`; ValueError if it is not there."""
    if name not in stored:
        raise ValueError(f"io.safetensors has no {name!r} to compute the other tensors from")
    return stored[name]


def weights_check(config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sums and first elements by which a folder lets one check its weight formula."""
    name = config.get("sorted_key3", "")
    found = {
        "weights_check.sum": _total(state_dict, torch.Tensor.sum),
        "weights_check.abs_sum": _total(state_dict, lambda value: value.abs().sum()),
    }
    if name in state_dict:
        found["weights_check.first8_of_sorted_key3"] = state_dict[name].flatten()[:8]
    return found


def _total(state_dict: Mapping[str, Tensor], of: Callable[[Tensor], Tensor]) -> Tensor:
    return sum((of(value.double()) for value in state_dict.values()), torch.zeros((), dtype=torch.float64))[
        None
    ]
