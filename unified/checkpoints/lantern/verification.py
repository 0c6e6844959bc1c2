"""LANTERN's released verification of draft trees, for comparison with the formula of the papers.

A node's token x is accepted by a uniform r if r <= p'(x) / q(x), with p' of `relaxation.py` and q the
draft's. Dynamic trees take q as 1, and a rejection removes x and its k + 1 nearest codes from p; static trees
divide by q, and remove these codes from the draft's row, which is then subtracted from p. Lumina-mGPT's
variant removes them from p in both (`image`: which ids are codes). The walk goes from the root to the first
node none of whose children is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from unified.decoding.strategies.draft_tree import DraftTree
from unified.decoding.strategies.relaxation import credit

LEAST, MOST = 1e-8, 1.0  # of top_p, where it is on


@dataclass(frozen=True, kw_only=True)
class Processor:
    """Logits [..., V] -> probabilities: temperature, top-p, top-k, in the released order."""

    temperature: float = 1.0
    top_p: float = 0.0
    top_k: int = 0

    @staticmethod
    def of(options: Mapping[str, Any]) -> Processor:
        """ValueError for a repetition penalty, which is not computed here."""
        if options.get("repetition_penalty", 0) > 1:
            raise ValueError(f"repetition_penalty {options['repetition_penalty']} is not supported")
        known = {name: options[name] for name in ("temperature", "top_p", "top_k") if name in options}
        return Processor(**known)

    def logits(self, logits: Tensor) -> Tensor:
        if self.temperature != 1:
            logits = logits / self.temperature
        if LEAST <= self.top_p < MOST:
            ascending, order = logits.sort(dim=-1)
            drop = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - self.top_p
            drop[..., -1] = False
            logits = logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
        if self.top_k > 0:
            largest = logits.topk(min(self.top_k, logits.shape[-1]), dim=-1).values
            logits = logits.masked_fill(logits < largest[..., -1:], float("-inf"))
        return logits

    def __call__(self, logits: Tensor) -> Tensor:
        return self.logits(logits).softmax(dim=-1)


@dataclass(frozen=True, kw_only=True)
class ReleasedRule:
    """`neighbours` [C, C - 1] of codes; `nearest`: k; `delta`: additive up to 1, multiplicative beyond;
    `relaxed`: whether it is on; `kind`: which tree's rule. `offset`: id of code 0, and `syntax`: ids that are
    always accepted, in a vocabulary with text (`images_alone` False), whose other ids are always rejected."""

    neighbours: Tensor
    nearest: int
    delta: float
    relaxed: bool
    kind: Literal["dynamic", "static"]
    offset: int = 0
    syntax: frozenset[int] = field(default_factory=frozenset)
    images_alone: bool = True

    def is_code(self, token: int) -> bool:
        codes = range(self.offset, self.offset + len(self.neighbours))
        return token in codes and token not in self.syntax

    def near(self, token: int, more: int = 0) -> Tensor:
        """Ids of the k + `more` nearest codes."""
        return self.neighbours[token - self.offset, : self.nearest + more] + self.offset

    def credited(self, p: Tensor, token: int) -> tuple[Tensor, bool]:
        """p'(x), and whether any neighbour counts (m >= 1; perhaps only some of probability 0)."""
        if token in self.syntax:
            return torch.ones(()), False
        if not self.images_alone and not self.is_code(token):
            return torch.zeros(()), False
        if not self.relaxed:
            return p[token], False
        found = credit(p, torch.tensor(token), self.near(token), self.delta, multiplicative=self.delta > 1)
        return p[token] + found.mass, bool(found.count)

    def rejected(self, p: Tensor, token: int, counted: bool, row: Tensor | None) -> Tensor:
        """p after a token was rejected. `row` [V]: what was left of the draft's distribution, of static
        trees."""
        p = p.clone()
        if counted and (row is None or not self.images_alone):
            p[self.near(token, 1)] = 0
        if row is None:
            p[token] = 0
        else:
            row = row.clone()
            if counted and self.images_alone:
                row[self.near(token, 1)] = 0
            p = (p - row).clamp(min=0)
        if not p.any():
            p = torch.ones_like(p)
        return p / p.sum()


@dataclass(frozen=True)
class Draft:
    """What was drafted for one tree: `tokens` [P, depth + 1] by path, -1 where there is none; of static trees
    `chances` [rows, ranks] and `rows` [rows, V] of the nodes with children."""

    tree: DraftTree
    tokens: Tensor
    chances: Tensor | None = None
    rows: Tensor | None = None

    def chance(self, node: int) -> float:
        """q(x) of a node, without replacement."""
        assert self.chances is not None
        path = self.tree.nodes[node]
        return float(self.chances[self.tree.inner.index(self.tree.number(path[:-1])), path[-1]])

    def row(self, node: int, tokens: Mapping[int, int]) -> Tensor:
        """[V]: the draft's distribution without the tokens of earlier siblings."""
        assert self.rows is not None
        row = self.rows[self.tree.inner.index(self.tree.number(self.tree.nodes[node][:-1]))].clone()
        before = [tokens[sibling] for sibling in self.tree.siblings(node)]
        if before:
            row[before] = 0
            row = row / row.sum()
        return row


@dataclass(frozen=True)
class Walk:
    """`best`: row of the accepted path; `length`: tokens accepted; `distribution` [V] of the next token;
    `used`: random numbers consumed."""

    best: int
    length: int
    distribution: Tensor
    used: int


def walk(
    rule: ReleasedRule, law: Callable[[Tensor], Tensor], logits: Tensor, draft: Draft, random: Tensor
) -> Walk:
    """Of target `logits` [N, V] by node; `law`: logits -> probabilities; `random`: uniform numbers."""
    paths, tokens = draft.tree.leaf_paths, draft.tokens
    by_node = {int(n): int(t) for n, t in zip(paths.flatten(), tokens.flatten(), strict=True) if n >= 0}
    numbers: Iterator[float] = iter(random.tolist())
    best = length = used = 0
    changed: Tensor | None = None
    for level in range(1, paths.shape[1]):
        rows = (tokens[:, :level] == tokens[best, :level]).all(dim=1).nonzero()[:, 0].tolist()
        p, changed, tried, found = law(logits[paths[rows[0], level - 1]]), None, set(), False
        for row in rows:
            token, node = int(tokens[row, level]), int(paths[row, level])
            if token == -1 or token in tried:
                continue
            tried.add(token)
            used, uniform = used + 1, next(numbers)
            chance = draft.chance(node) if rule.kind == "static" else 1.0
            if chance <= 0:
                continue
            mass, counted = rule.credited(p, token)
            if uniform <= float(mass / chance):
                best, length, found = row, level, True
                break
            left = draft.row(node, by_node) if rule.kind == "static" else None
            p = changed = rule.rejected(p, token, counted, left)
        if not found:
            break
    if changed is None or length + 1 == paths.shape[1]:
        changed = law(logits[paths[best, length]])
    return Walk(best, length, changed, used)


@dataclass(frozen=True)
class GreedyWalk:
    """`best` and `length` as of `Walk`; `logits` [V] of the next token."""

    best: int
    length: int
    logits: Tensor


def greedy_walk(rule: ReleasedRule, logits: Tensor, tree: DraftTree, tokens: Tensor) -> GreedyWalk:
    """The longest path whose tokens are each the likeliest, after credit if the rule is relaxed. `logits` [N,
    V], `tokens` [P, depth + 1]."""
    by_path = logits[tree.leaf_paths]  # [P, depth + 1, V]
    drafted = tokens[:, 1:].clamp(min=0)
    p = by_path[:, :-1].softmax(dim=-1) if rule.relaxed else by_path[:, :-1]
    if rule.relaxed:
        near = rule.neighbours[drafted, : rule.nearest]
        found = credit(p, drafted, near, rule.delta, multiplicative=rule.delta > 1)
        own = p.gather(-1, drafted[..., None]) + found.mass[..., None]
        p = p.scatter(-1, drafted[..., None], own)  # neighbours keep their own probability
    accepted = (p.argmax(dim=-1) == tokens[:, 1:]).long().cumprod(dim=1).sum(dim=1)
    best = int(accepted.argmax())
    length = int(accepted[best])
    return GreedyWalk(best, length, by_path[best, length])
