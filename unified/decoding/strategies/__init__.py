"""Decoding strategies: how the steps of images and the tokens of text become passes. A session takes one
(`Session(strategy=)`). To add one, write a class with the methods of `Strategy` and give it a line in
`STRATEGIES`."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature

from torch import Tensor

from unified.decoding.stats import Stats
from unified.decoding.strategies.draft_tree import DraftTree
from unified.decoding.strategies.drafts import Draft, PromptLookup, Shallow
from unified.decoding.strategies.feature_draft import FeatureDraft, FeatureDrafter
from unified.decoding.strategies.lantern import Lantern
from unified.decoding.strategies.one_pass import OnePass
from unified.decoding.strategies.smaller_model import SmallerModel
from unified.decoding.strategies.speculative import Speculative
from unified.decoding.strategies.strategy import Strategy
from unified.decoding.strategies.tree_guesses import TreeDraft

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "one_pass": OnePass,
    "speculative": Speculative,
    "lantern": Lantern,
}


def build_strategy(name: str, codebook: Tensor | None = None) -> Strategy:
    """A registered strategy with its defaults. `codebook` [V, C] of the visual tokenizer: for those that
    compare codes. ValueError, in one line, for an unknown name, or without a codebook where one is needed."""
    if name not in STRATEGIES:
        raise ValueError(f"unknown strategy {name!r}: registered are {', '.join(STRATEGIES)}")
    kind = STRATEGIES[name]
    if "codebook" not in signature(kind).parameters:
        return kind()
    if codebook is None:
        raise ValueError(f"the strategy {name} compares codes: it needs the tokenizer's codebook")
    return kind(codebook=codebook)


__all__ = [
    "STRATEGIES",
    "Draft",
    "DraftTree",
    "FeatureDraft",
    "FeatureDrafter",
    "Lantern",
    "OnePass",
    "PromptLookup",
    "Shallow",
    "SmallerModel",
    "Speculative",
    "Stats",
    "Strategy",
    "TreeDraft",
    "build_strategy",
]
