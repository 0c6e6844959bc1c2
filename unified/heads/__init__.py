"""Heads: from a hidden state to a distribution over codes. To add one, write a module with the methods of
`Head` and give it a line in `HEADS`."""

from unified.heads.bitwise import BitwiseHead
from unified.heads.categorical import CategoricalHead
from unified.heads.symbols import Head, log_prob

HEADS: dict[str, type] = {"categorical": CategoricalHead, "bitwise": BitwiseHead}

__all__ = ["HEADS", "Head", "log_prob"]
