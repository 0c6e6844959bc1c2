"""The stream: the vocabulary, the grammar of ids, messages <-> ids, pixels and actions <-> ids. Imports
`orders` and `tokenizers`."""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:  # names of the module that this package was

    def __getattr__(name: str) -> object:
        from unified.moved import former

        return former(__name__, name)
