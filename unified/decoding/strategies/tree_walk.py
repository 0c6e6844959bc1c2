"""Verification of a draft tree: from the root, at each node its children are tried one after the other.

A child x that was drawn from q (without the siblings before it) is accepted with probability min(1, p(x) /
q(x)); after a rejection p becomes norm(max(0, p - q)), and the next sibling is tried against that. The walk
goes on at the child that is accepted; where none is, a token is drawn from what p has become. What is chosen
follows the model's law whatever the tree: each sibling is a step of the rejection rule of `rejection.py`.
Miao et al., SpecInfer, arXiv 2305.09781 (multi-step speculative sampling); Jeon et al., arXiv 2402.14160
(siblings without replacement). Tests: tests/unified/decoding/test_tree_strategies.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unified.decoding.noise import Noise
from unified.decoding.strategies.rejection import AcceptanceRule, draw, exact
from unified.decoding.strategies.tree_guesses import Guesses, Ranked

Laws = Callable[[Sequence[int], Sequence[bool]], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Walked:
    """Of each row the accepted nodes (`paths` [B][n]) and the token after them (`symbols` [B])."""

    paths: list[list[int]]
    symbols: Tensor


def walk(guesses: Guesses, laws: Laws, noise: Noise, places: Tensor, rule: AcceptanceRule = exact) -> Walked:
    """`laws(nodes, open)`: the model's p [B, V] of the token after a node of each row and, at temperature 0
    if the rule needs them, the logits [B, V]; without meaning in rows that are not `open`. `places` [B, depth
    + 1] of the tokens by depth index the noise. ValueError for a rule that does not say what is left after a
    rejection."""
    tree, rows = guesses.tree, len(guesses.tokens)
    paths: list[list[int]] = [[] for _ in range(rows)]
    at, walking = [0] * rows, [True] * rows
    symbols = None
    for depth in range(tree.depth + 1):
        p, greedy = laws(at, walking)
        place = places[:, depth : depth + 1]
        drawn = draw(p[:, None, None], noise, place)[:, 0, 0]
        moved = [False] * rows
        for rank in sorted({rank for node in set(at) for rank in tree.ranks_after(node)}):
            children = [tree.child(node, rank) for node in at]
            tokens = guesses.tokens[torch.arange(rows), children]
            tried = [
                walks and not moves and child >= 0 and token >= 0
                for walks, moves, child, token in zip(walking, moved, children, tokens.tolist(), strict=True)
            ]
            if not any(tried):
                continue
            q = guesses.law(at, rank, p.shape[1]).to(p)
            logits = None if greedy is None else greedy[:, None, None]
            drafted = tokens.clamp(min=0).to(p.device)[:, None, None]
            verdict = rule(p[:, None, None], q[:, None, None], drafted, Ranked(noise, rank), place, logits)
            if verdict.rest is None:
                raise ValueError("this acceptance rule gives no law after a rejection: use it without a tree")
            accepted = verdict.accepted[:, 0, 0].tolist()
            failed = [asks and not agrees for asks, agrees in zip(tried, accepted, strict=True)]
            again = torch.tensor(failed, device=p.device)
            p = torch.where(again[:, None], verdict.rest[:, 0, 0].to(p), p)
            drawn = torch.where(again, verdict.symbols[:, 0, 0], drawn)
            for row in range(rows):
                if tried[row] and accepted[row]:
                    moved[row], at[row] = True, children[row]
                    paths[row].append(children[row])
        ends = torch.tensor([w and not m for w, m in zip(walking, moved, strict=True)], device=p.device)
        symbols = torch.where(ends, drawn, drawn if symbols is None else symbols)
        walking = [w and m for w, m in zip(walking, moved, strict=True)]
        if not any(walking):
            break
    assert symbols is not None
    return Walked(paths, symbols)
