"""A gated skip connection from the reference image to the states of slots."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from unified.extras.extra import Extra


@dataclass(frozen=True, kw_only=True)
class CopyGateConfig:
    """No options."""


class CopyGate(nn.Module, Extra):
    """Adds to a slot's state the reference image at its place (RMSNorm), times a number that is a linear
    function of the state: a code that stays the same need not pass through the decoder."""

    reads_reference = True

    def __init__(self, config: CopyGateConfig, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, 1)

    def initialise(self, std: float) -> None:
        """First weights: closed."""
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def slot_states(self, states: Tensor, inputs: Tensor, reference: Tensor) -> Tensor:
        normed = nn.functional.rms_norm(reference.float(), reference.shape[-1:])
        return states + (self.gate(states) * normed).to(states.dtype)
