"""The KV cache, its index, and the policies that decide which entries stay. Imports `layout`."""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:  # names of the module that this package was

    def __getattr__(name: str) -> object:
        from unified.moved import former

        return former(__name__, name)
