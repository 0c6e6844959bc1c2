"""Drafting with LANTERN's drafter: static trees (LANTERN++) and dynamic ones (EAGLE-2), guided.

Every node is fed its token and the drafter's output at its parent, and sees what comes before, its ancestors
and itself. Rows 0 and 1 are the conditional and the null branch: logits null + scale (conditional - null).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unified.checkpoints.lantern.network import Drafter, KeysValues
from unified.decoding.strategies.draft_tree import DraftTree, ancestry, leaf_paths

Law = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Drafting:
    """A drafter with the target's `head` [V, D] and a guidance `scale`; `cache` [2, G, length, c] and `last`
    [2, D], the output at its last position, of what comes before the tree."""

    drafter: Drafter
    head: Tensor
    scale: float
    cache: KeysValues
    last: Tensor

    @staticmethod
    def begin(
        drafter: Drafter,
        head: Tensor,
        scale: float,
        ids: Tensor,
        hidden: Tensor,
        cache: KeysValues | None = None,
    ) -> Drafting:
        """After ids [2, n] with the target's hidden states [2, n, D] of the positions before them."""
        output, cache = drafter(ids, hidden, cache=cache)
        return Drafting(drafter, head, scale, cache, output[:, -1])

    @property
    def length(self) -> int:
        return self.cache[0].shape[2]

    def logits(self, output: Tensor) -> Tensor:
        """Guided, of outputs [2, ..., D] -> [..., V]."""
        conditional, null = output @ self.head.T
        return null + self.scale * (conditional - null)

    def run(
        self, tokens: list[int], states: Tensor, depth: int, seen: Tensor, cache: KeysValues
    ) -> tuple[Tensor, KeysValues]:
        """One level: tokens [n] with outputs [2, n, D] of their parents; `seen` [n, nodes] of the nodes run
        since the beginning, these last."""
        before = torch.ones(len(tokens), self.length, dtype=torch.bool)
        ids = torch.tensor([tokens, tokens])
        positions = torch.full((len(tokens),), self.length + depth - 1)
        whole = torch.cat([before, seen], dim=1)[None]
        return self.drafter(ids, states, positions=positions, seen=whole, cache=cache)


# Static trees -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StaticDraft:
    """Of the nodes with children: `tokens` [rows, ranks], guided `logits` [rows, V]; of sampled ones `laws`
    [rows, V] and the probabilities `chances` [rows, ranks] of the tokens, drawn without replacement."""

    tokens: Tensor
    logits: Tensor
    laws: Tensor | None
    chances: Tensor | None


def draft_static(
    drafting: Drafting, tree: DraftTree, law: Law | None = None, rng: torch.Generator | None = None
) -> StaticDraft:
    """`law`: logits -> probabilities to draw from; None: the likeliest tokens."""
    inner = tree.inner
    outputs = {0: drafting.last}  # [2, D] by node
    rows: list[StaticDraft] = [_row(drafting.logits(drafting.last)[None], tree.ranks, law, rng)]
    token_of = dict(_tokens_of(tree, [0], rows[0].tokens))
    fed: list[int] = []
    cache, parents = drafting.cache, [-1, *tree.parents]
    seen = tree.attention
    for depth in range(1, int(tree.depths.max())):
        level = [node for node in inner if len(tree.nodes[node]) == depth]
        fed += level
        states = torch.stack([outputs[parents[node]] for node in level], dim=1)
        tokens = [token_of[node] for node in level]
        output, cache = drafting.run(tokens, states, depth, seen[level][:, fed], cache)
        outputs |= {node: output[:, number] for number, node in enumerate(level)}
        rows.append(_row(drafting.logits(output), tree.ranks, law, rng))
        token_of |= _tokens_of(tree, level, rows[-1].tokens)
    parts = zip(*((row.tokens, row.logits, row.laws, row.chances) for row in rows), strict=True)
    joined = [None if part[0] is None else torch.cat(part) for part in parts]  # type: ignore[arg-type]
    return StaticDraft(*joined)  # type: ignore[arg-type]


def _tokens_of(tree: DraftTree, level: list[int], tokens: Tensor) -> dict[int, int]:
    """Tokens of the children of the nodes of a level."""
    parents = [-1, *tree.parents]
    return {
        child: int(tokens[level.index(parents[child]), path[-1]])
        for child, path in enumerate(tree.nodes)
        if parents[child] in level
    }


def _row(logits: Tensor, ranks: int, law: Law | None, rng: torch.Generator | None) -> StaticDraft:
    """Of logits [n, V]."""
    if law is None:
        return StaticDraft(logits.topk(ranks, dim=-1).indices, logits, None, None)
    p = law(logits)
    tokens = torch.multinomial(p, ranks, generator=rng)
    return StaticDraft(tokens, logits, p, without_replacement(p.gather(-1, tokens)))


def without_replacement(chances: Tensor) -> Tensor:
    """Probability [..., k] of each of k different values given those before it, from their probabilities
    [..., k]: p_i / (1 - p_1 - ... - p_(i - 1)), in [0, 1], 0 where that is no number."""
    before = torch.cat([torch.zeros_like(chances[..., :1]), chances.cumsum(dim=-1)[..., :-1]], dim=-1)
    found = chances / (1 - before)
    return found.nan_to_num(0.0, 0.0, 0.0).clamp(0, 1)


# Dynamic trees ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DynamicDraft:
    """`tokens` [N], the root first; `seen` [N, N] bool; `depths` [N]; `paths` [P, depth + 1]."""

    tokens: Tensor
    seen: Tensor
    depths: Tensor
    paths: Tensor


def draft_dynamic(
    drafting: Drafting, root: int, *, depth: int, total: int, ranks: int = 10, process: Law | None = None
) -> DynamicDraft:
    """The `total` - 1 likeliest of all nodes that are met when, `depth` times, the `ranks` likeliest are
    followed by `ranks` tokens each. `process`: guided logits -> logits."""

    def likely(output: Tensor) -> torch.return_types.topk:
        logits = drafting.logits(output)
        return (process(logits) if process else logits).log_softmax(dim=-1).topk(ranks, dim=-1)

    best = likely(drafting.last[:, None])
    tokens, scores = best.indices[0], best.values[0]  # of all candidates
    parents, current = [-1] * ranks, list(range(ranks))  # candidates, -1: the root
    states = drafting.last[:, None].expand(-1, ranks, -1)
    cache, seen = drafting.cache, torch.eye(ranks, dtype=torch.bool)
    for level in range(1, depth + 1):
        output, cache = drafting.run(tokens[current].tolist(), states, level, seen, cache)
        best = likely(output)
        total_scores = (best.values + scores[current, None]).flatten()
        parents += [parent for parent in current for _ in range(ranks)]
        chosen = total_scores.topk(ranks).indices
        states, seen = output[:, chosen // ranks], _grown(seen, chosen // ranks)
        current = (len(tokens) + chosen).tolist()
        tokens, scores = torch.cat([tokens, best.indices.flatten()]), torch.cat([scores, total_scores])
    kept = scores.topk(total - 1).indices.sort().values.tolist()
    place = {-1: 0, **{candidate: number + 1 for number, candidate in enumerate(kept)}}
    tree = [-1, *(place.get(parents[candidate], 0) for candidate in kept)]
    above = ancestry(tree)
    depths = above.sum(dim=1) - 1
    paths = leaf_paths(tree, ordered=process is not None)
    return DynamicDraft(torch.cat([torch.tensor([root]), tokens[kept]]), above, depths, paths)


def _grown(seen: Tensor, parents: Tensor) -> Tensor:
    """What the next level sees of all nodes run so far and of itself: `seen` [n, nodes] of this level."""
    return torch.cat([seen[parents], torch.eye(len(parents), dtype=torch.bool)], dim=1)
