"""What is drafted along a static tree: level by level, one pass of the draft for each level.

The children of a node are drawn from the draft's distribution without replacement (Jeon et al., "Recursive
speculative decoding", arXiv 2402.14160), at temperature 0 they are its likeliest tokens. `tree_walk.py`
verifies them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from unified.decoding.context import Chunk, Context, Reads
from unified.decoding.noise import NORMAL, SAMPLE, Noise
from unified.decoding.sampling import Sampler
from unified.decoding.strategies.draft_tree import DraftTree
from unified.decoding.strategies.rejection import DRAFT, draw, probabilities
from unified.layout.attention import PADDING, Ancestry
from unified.layout.layout import Layout
from unified.orders import Plan

if TYPE_CHECKING:
    from unified.decoding.session import Session


class TreeDraft(Protocol):
    """A draft of trees. Entries that it adds to the session's cache are rolled back as those of a `Draft`."""

    def text_tree(self, session: Session, level: Level) -> Tensor | None:
        """Logits [B, n, V] of the children of a level's nodes; a row of -inf guesses nothing. The first level
        is the root, which stands after each row's stream. None: it guesses nothing at all."""
        ...

    def image_tree(
        self, session: Session, chunk: NodeChunk, rows: slice, plan: Plan, step: int
    ) -> list[Tensor] | None:
        """For each head, hidden states [R, n, D] of the nodes of a level. None: it guesses no images."""
        ...


@dataclass(frozen=True)
class Ranked:
    """Noise for the sibling of a rank, independent of that of the others; the first has the usual one."""

    noise: Noise
    rank: int

    def uniform(
        self, places: Tensor, count: int, purpose: str = SAMPLE, device: torch.device | None = None
    ) -> Tensor:
        return self.noise.uniform(places, count, self._named(purpose), device)

    def normal(
        self, places: Tensor, count: int, purpose: str = NORMAL, device: torch.device | None = None
    ) -> Tensor:
        return self.noise.normal(places, count, self._named(purpose), device)

    def draw(self, probs: Tensor, places: Tensor, purpose: str = SAMPLE) -> Tensor:
        return self.noise.draw(probs, places, self._named(purpose))

    def _named(self, purpose: str) -> str:
        return f"{purpose}{self.rank}" if self.rank else purpose


class Guesses:
    """The tokens drafted in `rows` rows at the nodes of a tree: `tokens` [B, N] int64 on the host, -1 where
    there is none."""

    def __init__(self, tree: DraftTree, rows: int) -> None:
        self.tree = tree
        self.tokens = torch.full((rows, len(tree.nodes)), -1)
        self.laws: dict[int, Tensor] = {}  # [B, V] by node with children, at temperature 0 empty
        self.drafted: dict[int, Tensor] = {}  # [B, k] by node: tokens by rank, -1 for none

    def nodes(self, row: int) -> list[int]:
        """Those of a row that have a token."""
        found: list[int] = (self.tokens[row] >= 0).nonzero()[:, 0].tolist()
        return found

    def path(self, row: int, node: int) -> list[int]:
        """Tokens from the first after the root to a node's own."""
        ranks = self.tree.nodes[node]
        numbers = [self.tree.number(ranks[: depth + 1]) for depth in range(len(ranks))]
        found: list[int] = self.tokens[row, numbers].tolist()
        return found

    def level(
        self,
        depth: int,
        room: np.ndarray,
        ran: Sequence[Sequence[int]],
        ends: Callable[[int], bool] = lambda token: False,
    ) -> Level:
        """The nodes at a depth whose children may be drafted: of rows with `room` [B] for more than `depth`
        tokens, and not after a token that `ends` the text. `ran`: see `Level`."""
        nodes = [node for node in self.tree.inner if len(self.tree.nodes[node]) == depth]
        present = [
            [node for node in nodes if not node or (row[node] >= 0 and not ends(row[node]))]
            if most > depth
            else []
            for row, most in zip(self.tokens.tolist(), room.tolist(), strict=True)
        ]
        return Level(self, depth, nodes, present, ran)

    def propose(
        self, node: int, logits: Tensor, sampler: Sampler, goes: Tensor, noise: Noise, places: Tensor
    ) -> None:
        """Draft the children of a node from logits [B, V] in the rows `goes` [B] bool; `places` [B, 1] index
        the noise."""
        ranks = self.tree.ranks_after(node)
        goes = goes.to(logits.device) & (logits > float("-inf")).any(dim=-1)
        logits = logits.masked_fill(~goes[:, None], 0.0)
        if sampler.temperature == 0:
            best = logits.topk(min(max(ranks) + 1, logits.shape[-1]), dim=-1)
            table = torch.where(best.values > float("-inf"), best.indices, -1)
        else:
            law = self.laws[node] = probabilities(sampler, logits)
            table = without_replacement(law, max(ranks) + 1, noise, places)
        table = table.masked_fill(~goes[:, None], -1)
        self.drafted[node] = table
        for rank in ranks:
            if rank < table.shape[1]:
                self.tokens[:, self.tree.child(node, rank)] = table[:, rank].cpu()

    def law(self, nodes: Sequence[int], rank: int, size: int) -> Tensor:
        """[B, V]: what the child of a rank was drawn from, after a node of each row; V is `size`."""
        rows = []
        for row, node in enumerate(nodes):
            if node not in self.drafted or rank >= self.drafted[node].shape[1]:
                rows.append(torch.full((size,), 1 / size))  # not drafted: not looked at
                continue
            tokens = self.drafted[node][row]
            if node in self.laws:
                rows.append(_left(self.laws[node][row], tokens[:rank].clamp(min=0)))
            else:
                own = tokens[rank].clamp(min=0)
                rows.append(torch.zeros(size, device=tokens.device).scatter(0, own, 1.0))
        device = next(iter(self.drafted.values())).device
        return torch.stack([row.to(device) for row in rows])


@dataclass(frozen=True)
class Level:
    """Nodes of one depth that have children: of the tree (`nodes`), and of each row those that were drafted
    (`present` [B][n]). `ran` [B][m]: nodes of earlier levels that were run, the root left out."""

    guesses: Guesses
    depth: int
    nodes: list[int]
    present: list[list[int]]
    ran: Sequence[Sequence[int]]

    def goes(self, node: int) -> Tensor:
        """[B] bool: rows in which a node is drafted."""
        return torch.tensor([node in row for row in self.present])

    def after(self) -> list[list[int]]:
        """What was run once this level is."""
        return [[*old, *(n for n in new if n)] for old, new in zip(self.ran, self.present, strict=True)]

    def chunk(
        self, context: Context, model: Reads, ids: Mapping[int, int] | None = None
    ) -> tuple[Chunk, Ancestry]:
        """The nodes as ids of text for one pass of a draft; `ids`: those that have another number there."""
        return node_chunk(context, model, self.guesses, self.present, ran=self.ran, ids=ids)

    def by_node(self, states: Tensor) -> Tensor:
        """States [B, n, D] of each row's nodes -> of the level's nodes [B, len(nodes), D]; where a row does
        not have one, without meaning."""
        columns = [[row.index(node) if node in row else 0 for node in self.nodes] for row in self.present]
        return states[torch.arange(len(columns))[:, None], torch.tensor(columns)]


@dataclass(frozen=True)
class NodeChunk(Chunk):
    """The nodes of a level of an image. `tree`: what they see of one another. `history`: of each node its
    rows [b] and column, and what went before it in the image: inputs and first hidden states [b, m, D]."""

    tree: Ancestry
    history: Callable[[], Sequence[tuple[list[int], int, Tensor, Tensor]]] = list


def without_replacement(law: Tensor, count: int, noise: Noise, places: Tensor) -> Tensor:
    """[B, count] tokens drawn one after another from law [B, V], none twice; -1 where nothing is left."""
    found, taken = [], law.new_zeros(len(law), 0, dtype=torch.long)
    for rank in range(count):
        left = _left(law, taken)
        some = left.sum(dim=-1) > 0
        drawn = draw(left.where(some[:, None], law)[:, None, None], Ranked(noise, rank), places, DRAFT)
        taken = torch.cat([taken, drawn[:, 0]], dim=1)
        found.append(torch.where(some, drawn[:, 0, 0], -1))
    return torch.stack(found, dim=1)


def _left(law: Tensor, taken: Tensor) -> Tensor:
    """law [..., V] without the tokens `taken` [..., k], sum 1, or zeros if nothing is left."""
    if not taken.shape[-1]:
        return law
    left = law.scatter(-1, taken, 0.0)
    return left / left.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(left.dtype).tiny)


# Passes over nodes ------------------------------------------------------------------------------------------


def node_chunk(
    context: Context,
    model: Reads,
    guesses: Guesses,
    nodes: Sequence[Sequence[int]],
    *,
    said: Sequence[Sequence[int]] | None = None,
    ran: Sequence[Sequence[int]] | None = None,
    ids: Mapping[int, int] | None = None,
) -> tuple[Chunk, Ancestry]:
    """Ids `said` [B][n] that a context has not read, and nodes [B][m] behind them, as positions of text. A
    node's place is that of its depth. ValueError for a model that reads no text."""
    tree, ids = guesses.tree, ids or {}
    said, ran = said or [[]] * len(nodes), ran or [[]] * len(nodes)
    lists, ahead = [], []
    for row, (before, new) in enumerate(zip(said, nodes, strict=True)):
        tokens = guesses.tokens[row, list(new)].tolist()
        lists.append([*before, *(ids.get(token, token) for token in tokens)])
        depths = [len(before) + len(tree.nodes[node]) - 1 for node in new]
        ahead.append([*range(len(before)), *depths])
    counts = np.array([len(row) for row in lists])
    width = max(1, int(counts.max()))
    padded = torch.tensor([[*row, *[model.vocabulary.pad] * (width - len(row))] for row in lists])
    places = torch.tensor([[*row, *[0] * (width - len(row))] for row in ahead])
    span = max(width, int(places.max()) + 1)
    layout = Layout.tokens(context.cursors[context.rows()], [span] * len(lists))
    index = layout.index.map(lambda field: field.gather(1, places))
    outside = torch.arange(width) >= torch.from_numpy(counts)[:, None]
    index = replace(index, sample=index.sample.masked_fill(outside, PADDING))
    positions = layout.positions.gather(2, places.expand(3, -1, -1))
    layout = replace(layout.part(slice(0, width)), index=index, positions=positions)
    embeds = model.read(padded.to(model.device), layout.to(model.device))
    if embeds is None:
        raise ValueError("this model reads no text")
    chunk = Chunk.of(embeds, *layout.merged())
    return chunk, ancestry_of(tree, [len(before) for before in said], ran, nodes)


def ancestry_of(
    tree: DraftTree, chains: Sequence[int], ran: Sequence[Sequence[int]], nodes: Sequence[Sequence[int]]
) -> Ancestry:
    """Of rows that run `chains` [B] positions, which all see one another as the attention rule says, and
    nodes [B][m] behind them, after nodes `ran` [B][n]."""
    before = np.array([len(row) for row in ran])
    width = max(1, *(chain + len(new) for chain, new in zip(chains, nodes, strict=True)))
    seen = np.ones((len(nodes), width, int(before.max()) + width), dtype=bool)
    table = tree.attention.numpy()
    for row, (chain, old, new) in enumerate(zip(chains, ran, nodes, strict=True)):
        first = len(old) + chain
        columns = [*range(len(old)), *range(first, first + len(new))]
        lines = np.arange(chain, chain + len(new))
        seen[row, lines[:, None], columns] = table[np.ix_(list(new), [*old, *new])] if new else True
    return Ancestry(before, seen)
