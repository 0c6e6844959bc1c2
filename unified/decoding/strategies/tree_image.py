"""Rounds of speculative sampling over the codes of an image along a draft tree, row by row: orders that write
one code a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from unified.decoding.context import Chunk
from unified.decoding.drawing import WriterState
from unified.decoding.image import ImageRun
from unified.decoding.strategies.draft_tree import DraftTree
from unified.decoding.strategies.lane import Lane
from unified.decoding.strategies.rejection import logits_of, probabilities
from unified.decoding.strategies.rollback import Mark
from unified.decoding.strategies.speculative_image import Decided, ImageRounds
from unified.decoding.strategies.tree_guesses import Guesses, Level, NodeChunk, TreeDraft, ancestry_of
from unified.decoding.strategies.tree_text import has_room
from unified.decoding.strategies.tree_walk import walk
from unified.heads.distribution import Distribution
from unified.layout.attention import Ancestry


class Branching:
    """The image of one row along a tree: node n, of depth d, is run at the row's step + d. By node what
    writes the image up to it (`writers`), its `inputs` and the first hidden states that were `guessed` [b, 1,
    D], and what the model `predicted` after it."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.writers: dict[int, WriterState] = {}
        self.inputs: dict[int, Tensor] = {}
        self.guessed: dict[int, Tensor] = {}
        self.predicted: dict[int, Distribution] = {}
        self.open(0, lane.writer.fork(), lane.step)

    def open(self, node: int, writer: WriterState, step: int) -> None:
        self.writers[node], self.inputs[node] = writer, writer.inputs(step)

    def history(self, path: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Inputs and states [b, m, D] of the steps so far and of the nodes of a path."""
        pairs = [*self.lane.past, *((self.inputs[node], self.guessed[node]) for node in path)]
        inputs, states = (torch.cat(list(part), dim=1) for part in zip(*pairs, strict=True))
        return inputs, states


class ImageTrees:
    """Rounds of a tree in the lanes of `rounds`."""

    def __init__(self, rounds: ImageRounds, draft: TreeDraft, tree: DraftTree) -> None:
        self.rounds, self.run, self.draft, self.tree = rounds, rounds.run, draft, tree
        self.session, self.head = rounds.run.session, rounds.run.session.model.head

    @staticmethod
    def fit(run: ImageRun) -> bool:
        """Whether every step runs and decides one code of one symbol, read out where it is fed."""
        plan = run.request.plan
        single = all(len(step.decide) == len(step.run) == 1 for step in plan.steps)
        return single and plan.own and all(len(step.slots) == 1 for step in run.steps)

    def round(self) -> None:
        """Draft, verify, accept, roll back. The first step, which is run with what comes before the image, is
        the linear round's."""
        if not self.run.begun:
            self.rounds.round()
            return
        lanes = {lane.row: Branching(lane) for lane in self.rounds.lanes if lane.open}
        mark = Mark(self.run.context)
        guesses = self._grow(lanes)
        mark.restore()
        nodes = [guesses.nodes(row) if row in lanes else [] for row in range(len(self.session.rows))]
        states = self._verify(lanes, guesses, nodes)
        paths, symbols, laws = self._accept(lanes, guesses, nodes, states)
        self._keep(mark, lanes, nodes, paths)
        for row, branching in lanes.items():
            ids = [*(guesses.path(row, paths[row][-1]) if paths[row] else []), int(symbols[row])]
            self._commit(branching, [0, *paths[row]], ids, laws[row])
            self._note(branching, [0, *paths[row]], nodes[row], states)
            self.session.stats.drafted[row] += len(nodes[row])
            self.session.stats.accepted[row] += len(paths[row])

    # Draft --------------------------------------------------------------------------------------------------

    def _grow(self, lanes: Mapping[int, Branching]) -> Guesses:
        """Nodes up to the depth that leaves the image's last code to the model."""
        rows = len(self.session.rows)
        guesses, ran = Guesses(self.tree, rows), [list[int]() for _ in range(rows)]
        room = np.zeros(rows, dtype=np.int64)
        if has_room(self.run.context, 1 + len(self.tree.nodes)):
            for row, branching in lanes.items():
                room[row] = min(self.tree.depth, branching.lane.steps - 1 - branching.lane.step)
        for depth in range(self.tree.depth):
            level = guesses.level(depth, room, ran)
            if not any(level.present):
                break
            going = {row: lanes[row] for row in lanes if level.present[row]}
            step = min(branching.lane.step for branching in going.values()) + depth
            chunk = self._level_chunk(going, level)
            plan = self.run.request.plan
            hidden = self.draft.image_tree(self.session, chunk, self.run.rows, plan, step)
            if hidden is None:
                break
            for node in level.nodes:
                self._propose(going, level, node, hidden)
            ran = level.after()
        return guesses

    def _level_chunk(self, lanes: Mapping[int, Branching], level: Level) -> NodeChunk:
        """The nodes of a level; what they see of the root follows from the attention rule."""
        chains = [int(row in lanes and not level.depth) for row in range(len(level.present))]
        nodes = [[node for node in row if node] for row in level.present]
        chunk, tree = self._chunk(lanes, level.present, level.guesses.tree, chains, level.ran, nodes)
        history = partial(_histories, lanes, level)
        return NodeChunk(**vars(chunk), tree=tree, history=history)

    def _propose(
        self, lanes: Mapping[int, Branching], level: Level, node: int, hidden: Sequence[Tensor]
    ) -> None:
        """Draft the children of a node in all rows that have it, and feed them."""
        logits, places = {}, {}
        going = {row: found for row, found in lanes.items() if node in level.present[row]}
        if not going:
            return
        for row, branching in going.items():
            lane, column = branching.lane, level.present[row].index(node)
            own = [found[lane.rows, column : column + 1] for found in hidden]
            branching.guessed[node] = own[0]
            step = lane.step + level.depth
            predicted = self.run.predicted(branching.writers[node], step, own, 1, None)
            logits[row] = logits_of(self.run.chosen_from(predicted))
            places[row] = self.rounds.places(lane, level.depth)
        spread, sampler = self.rounds.spread(logits)[:, 0, 0], self.run.request.sampler
        noise, here = self.session.noise, self.rounds.spread(places)
        level.guesses.propose(node, spread, sampler, level.goes(node), noise, here)
        for row, branching in going.items():
            step = branching.lane.step + level.depth
            for rank in self.tree.ranks_after(node):
                child = self.tree.child(node, rank)
                token = int(level.guesses.tokens[row, child])
                if token >= 0:
                    writer = branching.writers[node].fork()
                    writer.commit(step, self._codes(token))
                    branching.open(child, writer, step + 1)

    def _codes(self, token: int) -> Tensor:
        """[1, 1] of one symbol."""
        codes: Tensor = self.head.to_codes(torch.tensor([[[token]]], device=self.session.model.device))
        return codes

    # Verify and accept --------------------------------------------------------------------------------------

    def _verify(
        self, lanes: Mapping[int, Branching], guesses: Guesses, nodes: list[list[int]]
    ) -> list[Tensor]:
        """One pass over the roots and all nodes [B][n]: for each head hidden states [R, 1 + n, D]."""
        present = [[0, *new] if row in lanes else [] for row, new in enumerate(nodes)]
        ran = [list[int]() for _ in nodes]
        chunk, tree = self._chunk(lanes, present, guesses.tree, [len(p[:1]) for p in present], ran, nodes)
        return self.run.run(chunk, step=-1, tree=tree).states

    def _accept(
        self,
        lanes: Mapping[int, Branching],
        guesses: Guesses,
        nodes: list[list[int]],
        states: list[Tensor],
    ) -> tuple[list[list[int]], Tensor, dict[int, list[Tensor]]]:
        """Accepted nodes [B][n], the codes after them [B], and by row the model's laws [1, 1, 1, V] along the
        path."""
        laws: dict[int, list[Tensor]] = {row: [] for row in lanes}
        sampler = self.run.request.sampler

        def law_after(at: Sequence[int], walking: Sequence[bool]) -> tuple[Tensor, Tensor | None]:
            logits = {}
            for row, branching in lanes.items():
                if walking[row]:
                    found = self._predict(branching, at[row], nodes[row], states)
                    branching.predicted[at[row]] = found
                    logits[row] = logits_of(self.run.chosen_from(found))
                    laws[row].append(probabilities(sampler, logits[row]))
            p = self.rounds.spread({row: laws[row][-1] for row in logits})[:, 0, 0]
            return p, None if sampler.temperature else self.rounds.spread(logits)[:, 0, 0]

        first = {row: self.rounds.places(branching.lane, 0) for row, branching in lanes.items()}
        places = self.rounds.spread(first) + torch.arange(self.tree.depth + 1)
        walked = walk(guesses, law_after, self.session.noise, places, self.rounds.rule)
        return walked.paths, walked.symbols, laws

    def _predict(
        self, branching: Branching, node: int, nodes: list[int], states: list[Tensor]
    ) -> Distribution:
        column, lane = [0, *nodes].index(node), branching.lane
        own = [found[lane.rows, column : column + 1] for found in states]
        step = lane.step + len(self.tree.nodes[node])
        return self.run.predicted(branching.writers[node], step, own, 1, None)

    def _keep(
        self, mark: Mark, lanes: Mapping[int, Branching], nodes: list[list[int]], paths: list[list[int]]
    ) -> None:
        """Roll the cache back to the roots and the accepted nodes."""
        cache = self.run.context.cache
        kept = np.zeros(cache.rows, dtype=np.int64)
        picked = np.tile(np.arange(1 + self.tree.depth), (cache.rows, 1))
        for row, branching in lanes.items():
            kept[branching.lane.rows] = 1 + len(paths[row])
            for number, node in enumerate(paths[row], 1):
                picked[branching.lane.rows, number] = 1 + nodes[row].index(node)
        cache.pick(mark.lengths, picked)
        mark.restore(kept)

    def _commit(self, branching: Branching, path: list[int], symbols: list[int], laws: list[Tensor]) -> None:
        """Decide the steps of a path, whose nodes run `symbols` after them."""
        run, lane = self.run, branching.lane
        lane.writer = branching.writers[path[-1]]
        lane.writer.commit(lane.step + len(path) - 1, self._codes(symbols[-1]))
        for number, (node, symbol, law) in enumerate(zip(path, symbols, laws, strict=True)):
            step = lane.step + number
            codes, log_probs = self._codes(symbol), law[0, :, 0, symbol].log()[None]
            self.rounds.decided[step][lane.row] = Decided(codes, log_probs, branching.predicted[node])
            slots = run.request.plan.steps[step].decide
            run.drawing.codes[lane.row, slots] = codes[0]
            run.drawing.log_probs[lane.row, slots] = log_probs[0]
        lane.step += len(path)

    def _note(self, branching: Branching, path: list[int], nodes: list[int], states: list[Tensor]) -> None:
        """Remember what the steps of a path were fed, and their states."""
        for node in path:
            column = [0, *nodes].index(node)
            own = states[0][branching.lane.rows, column : column + 1]
            branching.lane.past.append((branching.inputs[node], own))

    # What is shared -----------------------------------------------------------------------------------------

    def _chunk(
        self,
        lanes: Mapping[int, Branching],
        present: Sequence[Sequence[int]],
        tree: DraftTree,
        chains: Sequence[int],
        ran: Sequence[Sequence[int]],
        nodes: Sequence[Sequence[int]],
    ) -> tuple[Chunk, Ancestry]:
        """Nodes [B][n], the root first if it is `present`, and what they see of one another."""
        slots, embeds = {}, {}
        for row, branching in lanes.items():
            depths = [len(tree.nodes[node]) for node in present[row]]
            steps = [self.run.steps[branching.lane.step + depth] for depth in depths]
            slots[row] = torch.cat([step.slots for step in steps])
            embeds[row] = torch.cat([branching.inputs[node] for node in present[row]], dim=1)
        chunk = self.rounds.chunk([branching.lane for branching in lanes.values()], slots, embeds)
        branches = self.run.count // len(self.session.rows)
        return chunk, ancestry_of(tree, [*chains] * branches, [*ran] * branches, [*nodes] * branches)


def _histories(lanes: Mapping[int, Branching], level: Level) -> list[tuple[list[int], int, Tensor, Tensor]]:
    """`NodeChunk.history`."""
    tree, found = level.guesses.tree, []
    for row, branching in lanes.items():
        for column, node in enumerate(level.present[row]):
            ranks = tree.nodes[node]
            path = [tree.number(ranks[:depth]) for depth in range(len(ranks))]
            found.append((branching.lane.rows, column, *branching.history(path)))
    return found
