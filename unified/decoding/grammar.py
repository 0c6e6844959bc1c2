"""Grammars for text: which ids may come next, given those said so far.

A grammar is a state machine over ids. Session.text masks every id that it does not allow before sampling, so
that whatever a model says can be parsed; where one id is allowed the model has no say. Constrained decoding
of programs as in inverse graphics (IG-LLM, arXiv 2404.15228) and of JSON; the probabilities are those of the
model, restricted and renormalised id by id, which is not its distribution over sentences of the grammar.
Test: tests/unified/decoding/test_grammar.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from unified.decoding.rows import Row


class Grammar(Protocol):
    """States are numbers; a text begins in `start`."""

    @property
    def start(self) -> int: ...

    def allowed(self, state: int) -> Collection[int]:
        """Ids that may come in a state; none where the text is over."""
        ...

    def after(self, state: int, token: int) -> int:
        """The state after an id that is allowed."""
        ...


@dataclass(frozen=True)
class Automaton:
    """A finite state machine: `moves[state][id]` is the next state. ValueError for a state that is reached
    and not listed."""

    moves: Sequence[Mapping[int, int]]
    start: int = 0

    def __post_init__(self) -> None:
        reached = {self.start, *(after for move in self.moves for after in move.values())}
        if bad := sorted(state for state in reached if not 0 <= state < len(self.moves)):
            raise ValueError(f"state {bad[0]} is reached, and there are {len(self.moves)}")

    def allowed(self, state: int) -> Collection[int]:
        return self.moves[state].keys()

    def after(self, state: int, token: int) -> int:
        return self.moves[state][token]


def in_turn(slots: Iterable[Collection[int]], end: int | None = None) -> Automaton:
    """One id of each slot after the other, then `end` if it is given."""
    wanted = [*slots, *([] if end is None else [[end]])]
    if any(not ids for ids in wanted):
        raise ValueError("every slot needs at least one id")
    return Automaton([*(dict.fromkeys(ids, n + 1) for n, ids in enumerate(wanted)), {}])


def repeated(slots: Sequence[Collection[int]], most: int, end: int) -> Automaton:
    """From 1 to `most` times one id of each slot after the other, then `end`. ValueError where `end` may also
    begin a repetition."""
    if not slots or most < 1:
        raise ValueError("a repetition needs at least one slot and at least one time")
    if end in slots[0]:
        raise ValueError(f"id {end} ends the repetitions and begins them")
    moves: list[dict[int, int]] = []
    over = most * len(slots) + 1
    for time in range(most):
        for ids in slots:
            moves.append(dict.fromkeys(ids, len(moves) + 1))
        if time:
            moves[time * len(slots)][end] = over
    return Automaton([*moves, {end: over}, {}])


class Guide:
    """A grammar beside the rows of a text that is being said; `begun`: ids in each row's stream before it."""

    def __init__(self, grammar: Grammar, rows: Sequence[Row]) -> None:
        self.grammar, self.rows = grammar, rows
        self.states = [grammar.start] * len(rows)
        self.read = [len(row.stream) for row in rows]

    def mask(self, count: int, size: int) -> Tensor:
        """[B, size] bool: what may come next of `size` ids; everything in rows that have stopped. ValueError
        for more than one position at a time, and where nothing may come."""
        if count != 1:
            raise ValueError("a grammar needs one pass for every id: use the strategy one_pass")
        found = torch.zeros(len(self.rows), size, dtype=torch.bool)
        for number, row in enumerate(self.rows):
            if row.stopped:
                found[number] = True
                continue
            for token in row.stream[self.read[number] :]:
                self.states[number] = self.grammar.after(self.states[number], token)
            self.read[number] = len(row.stream)
            ids = list(self.grammar.allowed(self.states[number]))
            if not ids:
                raise ValueError("the grammar's text is over: let it end, or allow fewer tokens")
            found[number, ids] = True
        return found
