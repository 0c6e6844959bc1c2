"""How the weights of a new model begin."""

from __future__ import annotations

from torch import nn


def initialise(module: nn.Module, std: float) -> bool:
    """Draw the weights of a module with standard deviation `std`; False for one that is the library's own.
    Modules with a method `initialise` know how they begin; children come before their parents."""
    own = getattr(module, "initialise", None)
    if own is not None:
        own(std)
        return True
    if not isinstance(module, (nn.Linear, nn.Embedding)):
        return False
    nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    return True
