"""How the weights of a new model begin."""

from __future__ import annotations

import torch
from torch import nn

WITH_BIAS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def initialise(module: nn.Module, std: float) -> bool:
    """Draw the weights of a module with standard deviation `std`; False for one that is the library's own.
    Modules with a method `initialise` know how they begin; children come before their parents."""
    own = getattr(module, "initialise", None)
    if own is not None:
        own(std)
        return True
    if not isinstance(module, (*WITH_BIAS, nn.Embedding)):
        return False
    nn.init.normal_(module.weight, std=std)
    if isinstance(module, WITH_BIAS) and module.bias is not None:
        nn.init.zeros_(module.bias)
    return True


@torch.no_grad()
def initialise_fresh(module: nn.Module, std: float) -> None:
    """Draw the weights of a module and of all that it consists of, children before their parents, except
    where that was done before: `transformers` marks such modules, and we do."""
    for child in module.children():
        initialise_fresh(child, std)
    if not getattr(module, "_is_hf_initialized", False):
        initialise(module, std)
        module._is_hf_initialized = True  # type: ignore[assignment]
