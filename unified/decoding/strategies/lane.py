"""One row's image in speculative decoding: rows stand at steps of their own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unified.decoding.drawing import WriterState
from unified.decoding.image import ImageRun


class Lane:
    """The image of one row, at a step of its own. Of the round: what its steps from `step` on were fed
    (`inputs`, each [branches, n, D]), and of those drafted the distributions `laws` [1, n, S, V] and the
    `drafted` symbols [1, n, S], of whose steps the first `agreed` were accepted."""

    def __init__(self, run: ImageRun, row: int) -> None:
        self.run, self.row, self.step = run, row, 0
        self.writer = run.open_writer(slice(row, row + 1))
        self.rows = list(range(row, run.count, len(run.session.rows)))  # of its branches
        self.steps = len(run.steps)
        self.past: list[tuple[Tensor, Tensor]] = []  # inputs and first states of decided steps
        self.begin()

    @property
    def history(self) -> tuple[list[int], Tensor, Tensor]:
        """Rows, and of the steps so far, with those of the round as drafted, inputs and states [b, m, D]."""
        pairs = [*self.past, *self.guessed]
        return self.rows, *(torch.cat(list(part), dim=1) for part in zip(*pairs, strict=True))  # type: ignore[return-value]

    def begin(self) -> None:
        """A round: drafts are written in a copy."""
        self.draft: WriterState = self.writer.fork()
        self.inputs: list[Tensor] = []
        self.laws: list[Tensor] = []
        self.drafted: list[Tensor] = []
        self.guessed: list[tuple[Tensor, Tensor]] = []  # the same of drafted ones
        self.agreed = 0

    @property
    def open(self) -> bool:
        return self.step < self.steps

    def feed(self) -> None:
        """What the next step of the round is fed, from what is drafted."""
        self.inputs.append(self.draft.inputs(self.step + len(self.inputs)))

    def propose(self, law: Tensor, symbols: Tensor) -> None:
        number = self.step + len(self.drafted)
        self.laws.append(law)
        self.drafted.append(symbols)
        self.draft.commit(number, self.run.session.model.head.to_codes(symbols))

    def slots(self, steps: int) -> Tensor:
        """[n]: positions of the image that the first so many steps of the round run."""
        return torch.cat([self.run.steps[self.step + n].slots for n in range(steps)])

    def states(self, hidden: Sequence[Tensor], number: int) -> list[Tensor]:
        """Of hidden states [R, n, D] of the round's positions, those of its step of this number."""
        start, count = len(self.slots(number)) if number else 0, self.inputs[number].shape[1]
        return [states[self.rows, start : start + count] for states in hidden]
