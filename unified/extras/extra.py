"""What an extra is, and those that a model has, applied one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, cast

from torch import Tensor, nn

from unified.extras.references import References


class Extra(Protocol):
    """A module that adds to what a written slot reads, or to what its state says. Members write the methods
    that they need; the others return what they are given. All go through sub-modules only, so that sharded
    parameters are gathered, and each is called once in a training step, whatever the batch holds.

    `reads_reference`: whether reference images are of use to it. `reads_words`: whether what the turn says
    since the reference image is. `needs`: names of extras of which the model
    must have at least one too."""

    reads_reference: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def reads_words(self) -> bool:
        return False

    def references(self, given: Sequence[References]) -> Sequence[References]:
        """Reference images in the form that the slots are given them."""
        return given

    def slot_inputs(self, inputs: Tensor, reference: Tensor) -> Tensor:
        """Inputs of written slots, and the reference image at their places (zero without one), each
        [..., D] -> inputs [..., D]."""
        return inputs

    def slot_states(self, states: Tensor, inputs: Tensor, reference: Tensor) -> Tensor:
        """Hidden states of written slots, their inputs and the reference image at their places, each
        [..., D] -> states [..., D] that the heads read."""
        return states

    def position_inputs(self, inputs: Tensor, positions: Tensor) -> Tensor:
        """Inputs [B, P, D] of all positions of the backbone at `positions` [3, B, P] (time, row, column)
        -> [B, P, D]."""
        return inputs


class Extras(nn.ModuleDict):
    """The extras of a model by name. Each is given what the one before it returned."""

    def members(self) -> list[Extra]:
        return cast("list[Extra]", list(self.values()))

    @property
    def reads_reference(self) -> bool:
        """Whether reference images are of use to any."""
        return any(extra.reads_reference for extra in self.members())

    @property
    def reads_words(self) -> bool:
        """Whether what is said since reference images is of use to any."""
        return any(extra.reads_words for extra in self.members())

    def references(self, given: Sequence[References]) -> Sequence[References]:
        for extra in self.members():
            given = extra.references(given)
        return given

    def slot_inputs(self, inputs: Tensor, reference: Tensor) -> Tensor:
        for extra in self.members():
            inputs = extra.slot_inputs(inputs, reference)
        return inputs

    def slot_states(self, states: Tensor, inputs: Tensor, reference: Tensor) -> Tensor:
        for extra in self.members():
            states = extra.slot_states(states, inputs, reference)
        return states

    def position_inputs(self, inputs: Tensor, positions: Tensor) -> Tensor:
        for extra in self.members():
            inputs = extra.position_inputs(inputs, positions)
        return inputs
