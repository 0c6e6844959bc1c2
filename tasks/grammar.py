"""Phrases from patterns: "[please |]draw [me |]{what}" is one of four phrases, its slot filled in last.

Alternatives stand in brackets, apart by bars, and may be nested; an empty one leaves the part out. A pattern
is a context-free grammar without recursion, written where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

_CHOICE = re.compile(r"\[([^\[\]]*)\]")

# Ways to ask for something that is said as a command: "draw a star".
COMMANDS = (
    "{}", "{}", "{}", "{}", "please {}", "{} please", "{}, please",
    "can you {}?", "could you {}?", "could you please {}?", "would you {}[, please|]?", "can you please {}?",
    "[now|ok|okay|so|alright], {}", "now {}", "then {}", "I [want|need] you to {}",
    "I [would|'d] like you to {}", "[hey|hi], {}", "{} for me", "just {}",
    "{}[, thanks| thanks| thank you|, will you?]", "go ahead and {}", "[next|first], {}", "let's {}",
)  # fmt: skip


def expand(rng: np.random.Generator, pattern: str, *given: str, **slots: str) -> str:
    """One phrase of the pattern. Slots are filled in after the choices, so what they hold is kept as it
    is."""
    while found := _CHOICE.search(pattern):
        options = found[1].split("|")
        chosen = options[int(rng.integers(len(options)))]
        pattern = pattern[: found.start()] + chosen + pattern[found.end() :]
    words = " ".join(pattern.format(*given, **slots).split())
    return re.sub(r" ('d|'s|'m|,|\.|!)", r"\1", words)


def one_of(rng: np.random.Generator, patterns: Sequence[str], *given: str, **slots: str) -> str:
    """A phrase of one of the patterns, all equally likely."""
    return expand(rng, patterns[int(rng.integers(len(patterns)))], *given, **slots)


def commanded(rng: np.random.Generator, command: str) -> str:
    """A command such as "draw a star", said in one of many ways."""
    return one_of(rng, COMMANDS, command)
