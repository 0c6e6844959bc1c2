"""ScaleKV: a budget of keys and values for every layer and step of an image (arXiv 2505.19602, NeurIPS 2025).

Layers that attend widely to earlier maps ("drafters") keep many entries, layers that attend to the map being
written ("refiners") few, at a given mean (`shared_budgets`; which are which: `unified/cache/selectivity.py`).
After a step has run in a layer whose image holds more than its budget, a few queries of the step, the
observers, score all entries of the image; the observers and the best entries stay, by key-value head.

Source: StargazerX0/ScaleKV, commit eb0615a (MIT); `RELEASE` scores as it does (raw logits, max pooling),
`PAPER` as the paper (attention, average pooling). Different from the release: grids of any shape, rows that
hold other things before the image, grouped heads (logits or attention summed over the heads of a group).
What comes before the codes, the ids of the image's header included, always stays and counts in no budget, and
scores look at the codes alone: they do not depend on the length of a prompt.
Tests: tests/unified/cache/test_scalekv.py; a compressed image changes nothing that is read later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, isqrt
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unified.cache.held import Held, without_writes
from unified.orders import Plan
from unified.orders.shapes import Shape

# Budgets ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many codes of an image a layer holds when a step begins: `drafter` in the layers `drafters`,
    `refiner` in all others."""

    drafter: int
    refiner: int
    drafters: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if min(self.drafter, self.refiner) < 1:
            raise ValueError(f"a budget must be at least 1 code, got {self.drafter} and {self.refiner}")

    def of(self, layer: int) -> int:
        return self.drafter if layer in self.drafters else self.refiner

    def total(self, layers: int) -> int:
        """Of all layers."""
        return sum(map(self.of, range(layers)))


def shared_budgets(
    tokens: Sequence[int],
    layers: int,
    drafters: Mapping[int, Collection[int]],
    *,
    mean: int,
    refiner: int,
    shrink: int = 0,
) -> dict[int, Budget]:
    """Budgets by step for steps of so many `tokens`, with exactly `mean` codes a layer at each step from
    the first that finds more. `drafters`: by step, which layers. Refiners get `refiner`, at each further step
    `shrink` less, drafters what is freed, but no more than they hold: the rest goes back to the refiners,
    and so does what does not divide. Where there are no drafters, or nothing else, all get `mean`. With 200
    for refiners this gives both released tables."""
    held, found = np.zeros(layers, dtype=np.int64), dict[int, Budget]()
    for step in range(1, len(tokens)):
        held += tokens[step - 1]
        if sum(tokens[:step]) > mean:
            chosen = frozenset(drafters.get(step, ()))
            share = refiner - shrink * len(found)
            found[step] = _shared(mean * layers, layers, chosen, share, held)
            held = np.minimum(held, [found[step].of(layer) for layer in range(layers)])
    return found


def _shared(total: int, layers: int, drafters: frozenset[int], refiner: int, held: np.ndarray) -> Budget:
    many, others = len(drafters), layers - len(drafters)
    if not many or not others:
        return Budget(drafter=total // layers, refiner=total // layers, drafters=drafters)
    most = int(held[sorted(drafters)].min())
    refiner = max(refiner, ceil((total - many * most) / others))
    while (total - others * refiner) % many:
        refiner += 1
    return Budget(drafter=(total - others * refiner) // many, refiner=refiner, drafters=drafters)


def released_budgets(table: Mapping[str, Mapping[str, Any]]) -> dict[int, Budget]:
    """The release's budget file: "Scale n", the n-th step from 1, with "Max" and "Min" entries and "Block i"
    = 1 for layers that are drafters."""
    found = {}
    for scale, entry in table.items():
        blocks = {int(name.split()[1]) for name, flag in entry.items() if name.startswith("Block") and flag}
        budget = Budget(drafter=entry["Max"], refiner=entry["Min"], drafters=frozenset(blocks))
        found[int(scale.split()[1]) - 1] = budget
    return found


# Which entries ----------------------------------------------------------------------------------------------


def observers(length: int, count: int, shape: Shape | None, window: int) -> Tensor:
    """Ascending places [w] of the observers among `length` entries, the last `count` of which are the step's.
    If they are a grid of this shape, and `window` is g * g with g no more than a side, the centre of each of
    g x g patches of (rows // g) x (columns // g) cells from the top left on; otherwise the last `window`."""
    side = isqrt(window)
    if shape is None or side * side != window or min(shape) < side:
        return torch.arange(max(length - window, 0), length)
    patches = [size // side for size in shape]
    rows, columns = (torch.arange(side) * patch + (patch - 1) // 2 for patch in patches)
    return (length - count + rows[:, None] * shape[1] + columns).flatten()


def step_shape(plan: Plan, step: int, count: int) -> Shape | None:
    """The grid of the `count` positions that a step runs: of its map or, if each stands for a block of codes,
    of the map's blocks. None if it runs anything but one whole map."""
    run = plan.steps[step].run
    for shape, slots in zip(plan.shapes, plan.map_slices, strict=True):
        if len(run) and (slots.start, slots.stop) == (int(run[0]), int(run[0]) + len(run)):
            block = isqrt(len(run) // count)
            rows, columns = shape[0] // block, shape[1] // block
            return (rows, columns) if rows * columns == count else None
    return None


def logits(queries: Tensor, keys: Tensor) -> Tensor:
    """queries [R, H, w, D], keys [R, G, K, D] -> [R, G, H / G * w, K] float32, the heads of a group one after
    the other."""
    grouped = queries.float().unflatten(1, (keys.shape[1], -1)).flatten(2, 3)
    return grouped @ keys.float().transpose(2, 3) / keys.shape[-1] ** 0.5


SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "attention": lambda scores: scores.softmax(dim=-1).sum(dim=2),
    "logits": lambda scores: scores.sum(dim=2),
}
POOLING: dict[str, Callable[[Tensor, int], Tensor]] = {
    "average": lambda scores, kernel: F.avg_pool1d(scores, kernel, stride=1, padding=kernel // 2),
    "max": lambda scores, kernel: F.max_pool1d(scores, kernel, stride=1, padding=kernel // 2),
}


@dataclass(frozen=True, kw_only=True)
class Selector:
    """The rule: `scores` of up to `window` observers, pooled along the sequence over `kernel` entries.
    Observers themselves score -inf before and after pooling, so that an average is -inf next to one (its
    neighbours come last), and a maximum is not. `repeats`: where less than the budget has a finite average,
    observers may be named a second time, as in the release (a cache holds an entry once)."""

    window: int = 16
    kernel: int = 5
    scores: str = "attention"
    pooling: str = "average"
    repeats: bool = False

    def __post_init__(self) -> None:
        if self.window < 1 or self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(
                f"window must be at least 1 and kernel odd, got a window of {self.window} and a kernel of "
                f"{self.kernel}"
            )
        for name, known in (("scores", SCORES), ("pooling", POOLING)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    def kept(self, queries: Tensor, keys: Tensor, shape: Shape | None, budget: int) -> Tensor:
        """Ascending places [R, G, k] of the entries that stay, k = `budget` or, if that is more, the number
        of observers. `queries` [R, H, n, D] of the step, a grid of this `shape` if it is one, `keys` [R, G,
        K, D] of the image's entries, the step's last. Observers from before the step have no queries."""
        length, count = keys.shape[2], queries.shape[2]
        seeing = observers(length, count, shape, self.window)
        asked = seeing[seeing >= length - count] - (length - count)
        scores = SCORES[self.scores](logits(queries[:, :, asked], keys))  # [R, G, K]
        scores = POOLING[self.pooling](_without(scores, seeing), self.kernel)
        if not self.repeats:
            scores = scores.clamp(min=torch.finfo(scores.dtype).min)
        scores = _without(scores, seeing)
        # Maxima tie; which of those tied stays is what topk returns, as in the release.
        best = scores.topk(max(budget - len(seeing), 0), dim=-1).indices
        every = seeing.to(best.device).expand(*best.shape[:2], -1)
        return torch.cat([best, every], dim=-1).sort(dim=-1).values


PAPER = Selector()
RELEASE = Selector(scores="logits", pooling="max")


def _without(scores: Tensor, places: Tensor) -> Tensor:
    return scores.index_fill(-1, places.to(scores.device), -torch.inf)


# The policy -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Codes:
    """The codes of an image in those `rows` [r] that hold equally many: their `places` [r, k] among a row's
    entries, their `keys` [r, G, k, D], and the step's `queries` [r, H, n, D]."""

    rows: np.ndarray
    places: np.ndarray
    keys: Tensor
    queries: Tensor


def codes_held(held: Held) -> Iterator[Codes]:
    """What a layer holds, after a step, of the codes of its image, rows with equally many together. What
    comes before them, the image's header included, has labels below that of the first step."""
    assert held.plan is not None
    assert held.before is not None
    assert held.keys is not None
    assert held.queries is not None
    label, places = held.index.label.numpy(), np.arange(held.keys.shape[1])
    latest = np.take_along_axis(label, held.lengths[:, None] - 1, axis=1)
    own = (places >= held.before[:, None]) & (places < held.lengths[:, None])
    own &= label >= latest - (held.step - held.plan.feed.lag)
    counts = own.sum(axis=1)  # 0 in rows that do not write
    for count in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts == count)
        at = held.lengths[rows][:, None] - count + np.arange(count)
        numbers = torch.from_numpy(rows)
        keys = held.keys[numbers[:, None], torch.from_numpy(at)].transpose(1, 2)
        yield Codes(rows, at, keys, held.queries[numbers])


@dataclass(frozen=True, kw_only=True)
class ScaleKV:
    """DropWrite, and while an image is written each layer holds no more of its codes than its budget.
    `budgets`: by the step that finds them, from 0 (after the last step those of the last); steps without one
    find everything, so by default nothing goes. `capacity`: as long as an image has no more codes, all
    stay."""

    budgets: Mapping[int, Budget] = field(default_factory=dict)
    capacity: int = 650
    selector: Selector = PAPER

    keeps_writes = False
    by_step = True

    def stays(self, held: Held) -> np.ndarray | None:
        if held.plan is None:
            return without_writes(held)
        budget = self.budget(held.plan, held.step, held.layer)
        if budget is None:
            return None
        assert held.keys is not None
        stays = np.ones(held.keys.shape[:3], dtype=bool)  # [R, K, G]
        for codes in codes_held(held):
            if codes.keys.shape[2] > budget:
                shape = step_shape(held.plan, held.step, codes.queries.shape[2])
                kept = self.selector.kept(codes.queries, codes.keys, shape, budget).cpu()
                marks = torch.zeros(codes.keys.shape[:3], dtype=torch.bool).scatter_(2, kept, True)
                stays[codes.rows[:, None], codes.places] = marks.transpose(1, 2).numpy()
        return None if stays.all() else stays

    def budget(self, plan: Plan, step: int, layer: int) -> int | None:
        """What a layer may hold after a step; None: everything."""
        if sum(len(done.run) for done in plan.steps[: step + 1]) <= self.capacity:
            return None
        entry = self.budgets.get(min(step + 1, len(plan.steps) - 1))
        return None if entry is None else entry.of(layer)
