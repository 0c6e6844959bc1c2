"""The frozen reference of preference tuning: what the policy was at the start of a stage.
 `FrozenCopy` holds all weights once more in every process: 4 bytes a parameter in float32, 2 where DeepSpeed
trains in bf16, without gradients or optimiser states, and whole even where ZeRO 3 shards the policy.
`AdaptersOff` needs no memory: where low-rank adapters alone are trained, the policy without them is the
reference.
"""

from __future__ import annotations

import copy
from typing import Any, Protocol

from torch import nn


class Reference(Protocol):
    """Scores of the frozen model."""

    def __call__(self, policy: nn.Module, arguments: dict[str, Any]) -> Any:
        """Output of `forward(**arguments)`, to be called without gradient. `policy`: the model in training,
        as the trainer has wrapped it."""
        ...


class FrozenCopy:
    """A copy of the model as it is now, in evaluation mode, without gradients."""

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    def __call__(self, policy: nn.Module, arguments: dict[str, Any]) -> Any:
        live = next(policy.parameters())  # DeepSpeed has its own dtype: likelihoods must be comparable
        return self.model.to(device=live.device, dtype=live.dtype)(**arguments)


class AdaptersOff:
    """The policy with its adapters switched off for the pass, in evaluation mode."""

    def __call__(self, policy: nn.Module, arguments: dict[str, Any]) -> Any:
        training = policy.training
        policy.eval()  # on a line of its own: DeepSpeed's engine returns nothing
        _switch(policy, on=False)
        try:
            return policy(**arguments)
        finally:
            policy.train(training)
            _switch(policy, on=True)


def reference_for(model: nn.Module) -> Reference:
    """The reference that costs least: adapters off if nothing else is trained, else a copy."""
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    adapters_alone = bool(trained) and all("lora_" in name for name in trained)
    return AdaptersOff() if adapters_alone else FrozenCopy(model)


def _switch(model: nn.Module, *, on: bool) -> None:
    from peft.tuners.lora import LoraLayer

    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.enable_adapters(on)
