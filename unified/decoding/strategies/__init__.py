"""Decoding strategies: how the steps of images and the tokens of text become passes. A session takes one
(`Session(strategy=)`). To add one, write a class with the methods of `Strategy` and give it a line in
`STRATEGIES`."""

from __future__ import annotations

from collections.abc import Callable

from unified.decoding.stats import Stats
from unified.decoding.strategies.drafts import Draft, PromptLookup, Shallow
from unified.decoding.strategies.lantern import Lantern
from unified.decoding.strategies.one_pass import OnePass
from unified.decoding.strategies.speculative import Speculative
from unified.decoding.strategies.strategy import Strategy

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "one_pass": OnePass,
    "speculative": Speculative,
    "lantern": Lantern,
}

__all__ = [
    "STRATEGIES",
    "Draft",
    "Lantern",
    "OnePass",
    "PromptLookup",
    "Shallow",
    "Speculative",
    "Stats",
    "Strategy",
]
