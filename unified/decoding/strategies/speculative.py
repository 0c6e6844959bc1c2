"""Speculative sampling: a draft guesses several tokens or steps, one pass of the model verifies them all.

Leviathan et al., "Fast inference from transformers via speculative decoding", arXiv 2211.17192; Chen et al.,
arXiv 2302.01318. In rounds:

1. draft: up to `length` tokens of every row are drawn from the draft's distributions q;
2. verify: one pass of the model over them gives its distributions p of each of them, and of one more;
3. accept: row by row, from the first on, by the rejection rule (`rejection.py`); the first that is rejected
   is drawn anew, and if none is, the one more is drawn from p;
4. roll back: every row's keys and cursor to what was accepted of it.

What is drawn follows the distributions of one pass a step exactly, whatever the draft; at temperature 0 the
ids are the same. For images a unit is a step of the plan: within a step slots (and the symbols of a code) are
independent given earlier steps, so each is accepted or drawn anew by itself, and a step with a rejected slot
is decided and ends the round. Rows stand at different tokens and at different steps; a row gets the same
values alone or in a batch. Tests: tests/unified/decoding/test_strategies.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from unified.decoding.drawing import Choice
from unified.decoding.image import ImageRun
from unified.decoding.strategies.drafts import Draft, Shallow
from unified.decoding.strategies.one_pass import OnePass
from unified.decoding.strategies.rejection import AcceptanceRule, exact
from unified.decoding.strategies.speculative_image import ImageRounds
from unified.decoding.strategies.speculative_text import TextRounds
from unified.decoding.text import TextRun


@dataclass(frozen=True, kw_only=True)
class Speculative:
    """`draft` guesses, `length` tokens or steps a round. An image is written by one pass a step where every
    step must be seen by itself and by all rows at once: under a hook, a depth policy of the session, or a
    cache policy or parts around layers that are asked by step. `rule`: which codes of an image are accepted;
    what is drawn follows the model's law under `exact` alone."""

    draft: Draft = field(default_factory=Shallow)
    length: int = 4
    rule: AcceptanceRule = exact

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"a round drafts at least one token, got length={self.length}: use OnePass")

    def text(self, run: TextRun) -> Iterator[list[int | None]]:
        rounds = TextRounds(run, self.draft, self.length)
        while rounds.open:
            yield from rounds.round()
        if rounds.exhausted:
            run.session.read_pending()
            run.session.stats.passes += 1

    def image(self, run: ImageRun) -> Iterator[Choice]:
        session = run.session
        by_step = session.policy.by_step or any(part.by_step for part in session.parts)
        if run.request.hook is not None or session.depth is not None or by_step:
            yield from OnePass().image(run)
            return
        rounds = ImageRounds(run, self.draft, self.length, self.rule)
        while rounds.open:
            rounds.round()
            yield from rounds.finished()
