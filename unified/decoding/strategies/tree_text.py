"""Rounds of speculative sampling over text along a draft tree: one pass of the model verifies all nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from unified.decoding.context import Context
from unified.decoding.strategies.draft_tree import DraftTree
from unified.decoding.strategies.rejection import probabilities
from unified.decoding.strategies.rollback import Mark
from unified.decoding.strategies.speculative_text import TextRounds
from unified.decoding.strategies.tree_guesses import Guesses, TreeDraft
from unified.decoding.strategies.tree_walk import walk


class TextTrees:
    """Rounds of a tree for `rounds` as long as it is deep, which say what is accepted and roll back the
    rest."""

    def __init__(self, rounds: TextRounds, draft: TreeDraft, tree: DraftTree) -> None:
        self.rounds, self.draft, self.tree = rounds, draft, tree
        self.run, self.session = rounds.run, rounds.session

    def round(self) -> Iterator[list[int | None]]:
        """Draft, verify, accept; say what was accepted, and roll back what was not said."""
        before = [list(row.pending) for row in self.session.rows]
        offset, mark = np.array([len(ids) for ids in before]), Mark(self.session.context)
        try:
            guesses = self._grow(self._room(offset))
            mark.restore()
            p = self._verify(before, guesses)
            paths, tokens = self._accept(guesses, p)
            self._pick(guesses, paths, offset)
        except BaseException:
            mark.restore()
            raise
        read = [
            [token for token in row if not self.rounds.stops([token])]
            for row in (guesses.path(n, path[-1]) if path else [] for n, path in enumerate(paths))
        ]
        yield from self.rounds.say(tokens, read, offset)

    def _room(self, offset: np.ndarray) -> np.ndarray:
        """[B]: how many ids deep to draft in each row."""
        fits = has_room(self.session.context, int(offset.max()) + len(self.tree.nodes))
        return self.rounds.room(offset) * fits

    def _grow(self, room: np.ndarray) -> Guesses:
        session, run, rows = self.session, self.run, len(self.session.rows)
        guesses, ran = Guesses(self.tree, rows), [list[int]() for _ in range(rows)]
        places = run.places(self.tree.depth)
        for depth in range(self.tree.depth):
            level = guesses.level(depth, room, ran, lambda token: self.rounds.stops([token]))
            if not any(level.present):
                break
            logits = self.draft.text_tree(session, level)
            if logits is None:
                break
            logits = logits.masked_fill(~run.allowed[:, None], float("-inf"))
            for number, node in enumerate(level.nodes):
                here = places[:, depth : depth + 1]
                guesses.propose(node, logits[:, number], run.sampler, level.goes(node), session.noise, here)
            ran = level.after()
        return guesses

    def _verify(self, said: list[list[int]], guesses: Guesses) -> Tensor:
        """[B, N, V]: p of what follows each node of the tree, by one pass over ids `said` [B][n] and the
        nodes; without meaning after those that were not drafted."""
        rows = range(len(said))
        nodes = [guesses.nodes(row) for row in rows]
        states = [branch.read_nodes(guesses, nodes, said) for branch in self.rounds.branches]
        self.session.stats.passes += any(said) or any(nodes)
        columns = np.zeros((len(said), len(self.tree.nodes)), dtype=np.int64)
        for row, (before, new) in enumerate(zip(said, nodes, strict=True)):
            columns[row, [0, *new]] = len(before) + np.arange(len(new) + 1)
        numbers = torch.arange(len(said))[:, None]
        chosen = [found[numbers, torch.from_numpy(columns).to(found.device)] for found in states]
        places = self.run.places() + self.tree.depths
        return probabilities(self.run.sampler, self.run.logits(*chosen, places=places))

    def _accept(self, guesses: Guesses, p: Tensor) -> tuple[list[list[int]], list[list[int]]]:
        """Of every row the nodes that are accepted, and the ids that it says."""
        session, rows = self.session, torch.arange(len(p))
        places = self.run.places(self.tree.depth + 1)

        def laws(nodes: Sequence[int], _: Sequence[bool]) -> tuple[Tensor, None]:
            return p[rows, torch.tensor(nodes)], None

        walked = walk(guesses, laws, session.noise, places)
        tokens = []
        for row, (path, after) in enumerate(zip(walked.paths, walked.symbols.tolist(), strict=True)):
            session.stats.drafted[row] += len(guesses.nodes(row))
            session.stats.accepted[row] += len(path)
            ids = guesses.path(row, path[-1]) if path else []
            tokens.append(ids if self.rounds.stops(ids) else [*ids, after])
        return walked.paths, tokens

    def _pick(self, guesses: Guesses, paths: list[list[int]], offset: np.ndarray) -> None:
        """Put what was run of the accepted nodes behind what was said before."""
        width = int((offset + [len(path) for path in paths]).max())
        picked = np.tile(np.arange(width), (len(paths), 1))
        for row, (path, before) in enumerate(zip(paths, offset.tolist(), strict=True)):
            nodes = guesses.nodes(row)
            picked[row, before : before + len(path)] = [before + nodes.index(node) for node in path]
        for branch in self.rounds.branches:
            branch.pick(picked)


def has_room(context: Context, count: int) -> bool:
    """Whether a cache of fixed size holds so many entries more in each row."""
    capacity = context.cache.capacity
    return capacity is None or context.cache.length + count <= capacity
