"""What follows from the ids alone: the attention rule, positions, targets, packing, patch merging. Imports
`stream` and `orders`."""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:  # names of the module that this package was

    def __getattr__(name: str) -> object:
        from unified.moved import former

        return former(__name__, name)
