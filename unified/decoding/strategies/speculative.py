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

With a static tree (SpecInfer, arXiv 2305.09781; LANTERN++, arXiv 2502.06352) several tokens are drafted for
each place, and what follows each of them: one pass of the model verifies all nodes of the tree, each of which
sees its ancestors alone; the walk of `tree_walk.py` accepts a path, and the rest is rolled back. It is as
exact. Tests: tests/unified/decoding/test_tree_strategies.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from unified.decoding.drawing import Choice
from unified.decoding.image import ImageRun
from unified.decoding.strategies.draft_tree import DraftTree
from unified.decoding.strategies.drafts import Draft, Shallow
from unified.decoding.strategies.one_pass import OnePass
from unified.decoding.strategies.rejection import AcceptanceRule, exact
from unified.decoding.strategies.speculative_image import ImageRounds
from unified.decoding.strategies.speculative_text import TextRounds
from unified.decoding.strategies.tree_guesses import TreeDraft
from unified.decoding.strategies.tree_image import ImageTrees
from unified.decoding.strategies.tree_text import TextTrees
from unified.decoding.text import TextRun


@dataclass(frozen=True, kw_only=True)
class Speculative:
    """`draft` guesses, `length` tokens or steps a round. An image is written by one pass a step where every
    step must be seen by itself and by all rows at once: under a hook, a depth policy of the session, or a
    cache policy or parts around layers that are asked by step. `rule`: which codes of an image are accepted;
    what is drawn follows the model's law under `exact` alone. `tree`: what is drafted instead of a run of
    `length`: text, and images of one code a step; other images are drafted in runs as long as it is deep.
    ValueError for a draft that grows no trees (`TreeDraft`)."""

    draft: Draft = field(default_factory=Shallow)
    length: int = 4
    rule: AcceptanceRule = exact
    tree: DraftTree | None = None

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"a round drafts at least one token, got length={self.length}: use OnePass")
        if self.tree is not None and not hasattr(self.draft, "text_tree"):
            raise ValueError(f"the draft {type(self.draft).__name__} grows no trees: leave out `tree`")

    @property
    def _length(self) -> int:
        return self.length if self.tree is None else self.tree.depth

    def text(self, run: TextRun) -> Iterator[list[int | None]]:
        rounds = TextRounds(run, self.draft, self._length)
        trees = None if self.tree is None else TextTrees(rounds, cast(TreeDraft, self.draft), self.tree)
        while rounds.open:
            yield from rounds.round() if trees is None else trees.round()
        if rounds.exhausted:
            run.session.read_pending()
            run.session.stats.passes += 1

    def image(self, run: ImageRun) -> Iterator[Choice]:
        session = run.session
        by_step = session.policy.by_step or any(part.by_step for part in session.parts)
        if run.request.hook is not None or session.depth is not None or by_step:
            yield from OnePass().image(run)
            return
        rounds = ImageRounds(run, self.draft, self._length, self.rule)
        trees = None
        if self.tree is not None and ImageTrees.fit(run):
            trees = ImageTrees(rounds, cast(TreeDraft, self.draft), self.tree)
        while rounds.open:
            (rounds if trees is None else trees).round()
            yield from rounds.finished()
