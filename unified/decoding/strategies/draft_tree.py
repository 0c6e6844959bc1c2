"""Static draft trees (LANTERN++, Park et al., arXiv 2502.06352; Medusa, Cai et al., arXiv 2401.10774): which
drafted tokens follow which, fixed in advance. A dynamic tree (EAGLE-2) grows where the draft is confident,
and stays shallow where distributions are flat, as those of images are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Path = tuple[int, ...]  # ranks of a node and its ancestors among the tokens drafted after their parent


@dataclass(frozen=True)
class DraftTree:
    """`nodes`: paths by (length, ranks); number 0 is the root, the empty path. `ranks`: tokens that are
    drafted after each node that has children."""

    nodes: tuple[Path, ...]
    ranks: int = 10

    @staticmethod
    def of(choices: Iterable[Sequence[int]], ranks: int = 10) -> DraftTree:
        """Of the paths of all nodes but the root. ValueError for a node without its parent, twice the same,
        or a rank that is not drafted."""
        try:
            paths = [tuple(path) for path in choices]
        except TypeError:
            raise ValueError(
                f"a draft tree is a list of paths, each a list of ranks, got {choices!r:.60}"
            ) from None
        if type(ranks) is not int or any(type(rank) is not int for path in paths for rank in path):
            raise ValueError("the ranks of a draft tree are whole numbers")
        nodes = sorted({(), *paths}, key=lambda path: (len(path), path))
        known = set(nodes)
        for path in paths:
            wrong = not path or path[:-1] not in known
            if wrong or not all(0 <= rank < ranks for rank in path):
                raise ValueError(
                    f"a draft tree has a node {list(path)} without a parent or a rank of {ranks}"
                )
        if len(paths) != len(nodes) - 1 or not paths:
            raise ValueError(f"a draft tree needs different nodes, and one at least, got {len(paths)}")
        return DraftTree(tuple(nodes), ranks)

    @staticmethod
    def wide(*widths: int) -> DraftTree:
        """Every node at depth d has `widths[d]` children: (3, 2) drafts three tokens, and two after each."""
        if not widths or any(type(width) is not int or width < 1 for width in widths):
            raise ValueError(f"the widths of a draft tree are whole numbers of at least 1, got {widths}")
        paths: list[Path] = [()]
        choices: list[Path] = []
        for width in widths:
            paths = [(*path, rank) for path in paths for rank in range(width)]
            choices += paths
        return DraftTree.of(choices, ranks=max(widths, default=0))

    @cached_property
    def _numbers(self) -> dict[Path, int]:
        return {path: number for number, path in enumerate(self.nodes)}

    def number(self, path: Path) -> int:
        return self._numbers[path]

    @cached_property
    def depth(self) -> int:
        """Nodes on the longest path from the root, without it."""
        return len(self.nodes[-1])

    def child(self, node: int, rank: int) -> int:
        """The child of this rank, -1 for none."""
        return self._numbers.get((*self.nodes[node], rank), -1)

    def ranks_after(self, node: int) -> list[int]:
        """Of its children, ascending."""
        path = self.nodes[node]
        return [other[-1] for other in self.nodes[1:] if other[:-1] == path]

    @cached_property
    def parents(self) -> list[int]:
        """Of every node but the root."""
        return [self.number(path[:-1]) for path in self.nodes[1:]]

    @cached_property
    def inner(self) -> list[int]:
        """Nodes that have children: the rows of the table of drafted tokens."""
        return sorted(set(self.parents))

    @cached_property
    def depths(self) -> Tensor:
        return torch.tensor([len(path) for path in self.nodes])

    def siblings(self, node: int) -> list[int]:
        """Nodes before this one that have its parent."""
        parents = [-1, *self.parents]
        return [number for number in range(1, node) if parents[number] == parents[node]]

    @cached_property
    def attention(self) -> Tensor:
        """[N, N] bool: every node sees its ancestors and itself."""
        return ancestry([-1, *self.parents])

    @cached_property
    def table_index(self) -> Tensor:
        """[N]: where the token of each node stands in [token of the root, *drafted tokens row by row]."""
        row = {node: number for number, node in enumerate(self.inner)}
        pairs = zip(self.nodes[1:], self.parents, strict=True)
        return torch.tensor([0, *(1 + self.ranks * row[parent] + path[-1] for path, parent in pairs)])

    @cached_property
    def leaf_paths(self) -> Tensor:
        """[P, depth + 1]: numbers of the nodes from the root to each leaf, filled up with -1."""
        return leaf_paths([-1, *self.parents], ordered=True)


def ancestry(parents: Sequence[int]) -> Tensor:
    """[N, N] bool of nodes by their parents (-1: none), which come before them: row i is true at i and at its
    ancestors."""
    seen = torch.eye(len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            seen[node] |= seen[parent]
    return seen


def leaf_paths(parents: Sequence[int], *, ordered: bool) -> Tensor:
    """[P, depth + 1] of nodes by their parents: one row for each leaf, by its number or, if `ordered`,
    lexicographically with the filling -1 after all numbers."""
    paths: list[list[int]] = []
    for leaf in range(len(parents)):
        if leaf not in parents:
            path, node = [leaf], leaf
            while parents[node] >= 0:
                node = parents[node]
                path.insert(0, node)
            paths.append(path)
    width = max(map(len, paths))
    filled = [path + [-1] * (width - len(path)) for path in paths]
    if ordered:
        filled.sort(key=lambda path: [node if node >= 0 else len(parents) for node in path])
    return torch.tensor(filled)
