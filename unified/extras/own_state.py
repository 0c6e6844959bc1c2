"""A state of its own for every slot, made from the shared one and from the slot's input."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from unified.extras.extra import Extra


@dataclass(frozen=True, kw_only=True)
class OwnStateConfig:
    """No options."""


class OwnState(nn.Module, Extra):
    """Adds to a slot's state what a small network makes of it and of the slot's input (RMSNorm). With patch
    merging four slots share one position, whose state alone cannot tell their inputs apart."""

    def __init__(self, config: OwnStateConfig, width: int) -> None:
        super().__init__()
        self.shared = nn.Linear(width, width)
        self.fed = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def initialise(self, std: float) -> None:
        """First weights: it adds nothing."""
        nn.init.zeros_(self.out.weight)

    def slot_states(self, states: Tensor, inputs: Tensor, reference: Tensor) -> Tensor:
        normed = nn.functional.rms_norm(inputs.float(), inputs.shape[-1:]).to(states.dtype)
        made: Tensor = self.out(nn.functional.silu(self.shared(states) + self.fed(normed)))
        return states + made
