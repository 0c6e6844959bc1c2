"""What vector environments of rows in one process share: seeds, masks of resets, and actions by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode

Seeds = int | Sequence[int | None] | None
Drawn = tuple[np.random.Generator, int]


class Generators:
    """The random numbers of every row. A reset draws from copies, which are kept once it has succeeded."""

    def __init__(self, count: int) -> None:
        self.rows: list[np.random.Generator] = [np.random.default_rng() for _ in range(count)]
        self.seeds = [-1] * count

    def drawn(self, rows: Sequence[int], seed: Seeds) -> list[Drawn]:
        """For each of some rows, its generator with its new seed, or a copy of the one it has. `seed`: s for
        s + row, or one for each of all rows, None to go on. ValueError for another number of seeds."""
        count = len(self.rows)
        if seed is None:
            seeds: list[int | None] = [None] * count
        elif isinstance(seed, int | np.integer):
            seeds = [int(seed) + row for row in range(count)]
        else:
            seeds = list(seed)
        if len(seeds) != count:
            raise ValueError(f"{count} rows need as many seeds, got {len(seeds)}")
        found: list[Drawn] = []
        for row in rows:
            own = seeds[row]
            found.append(
                (deepcopy(self.rows[row]), self.seeds[row]) if own is None else seeding.np_random(own)
            )
        return found

    def keep(self, rows: Sequence[int], drawn: Sequence[Drawn]) -> None:
        for row, (generator, seed) in zip(rows, drawn, strict=True):
            self.rows[row], self.seeds[row] = generator, seed


def mode_of(mode: str | AutoresetMode) -> AutoresetMode:
    """One of gymnasium's autoreset modes. ValueError for another name."""
    try:
        return AutoresetMode(mode)
    except ValueError:
        names = ", ".join(repr(known.value) for known in AutoresetMode)
        raise ValueError(f"autoreset_mode must be one of {names}, got {mode!r}") from None


def reset_rows(options: Mapping[str, Any] | None, count: int) -> tuple[list[int], dict[str, Any]]:
    """The rows that a reset starts, all or those of `options["reset_mask"]`, and the other options. TypeError
    and ValueError for a mask that is no bool array [count] or marks no row."""
    rest = dict(options or {})
    mask = rest.pop("reset_mask", None)
    if mask is None:
        return list(range(count)), rest
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        raise TypeError(f"reset_mask must be a numpy array of bool, got {type(mask).__name__}")
    if mask.shape != (count,) or not mask.any():
        raise ValueError(f"reset_mask must have shape ({count},) and mark at least one row, got {mask}")
    return np.nonzero(mask)[0].tolist(), rest


def row_actions(actions: Mapping[str, Any] | Sequence[Any], count: int) -> list[Any]:
    """One action dictionary for each of `count` rows, from a dictionary of arrays [count, ...] or from as
    many dictionaries. ValueError for other lengths."""
    if not isinstance(actions, Mapping):
        if not isinstance(actions, Sequence) or len(actions) != count:
            raise ValueError(f"actions must be a dictionary of arrays, or {count} dictionaries")
        for row, action in enumerate(actions):
            if not isinstance(action, Mapping):
                raise ValueError(f"the action of row {row} must be a dictionary, got {type(action).__name__}")
        return list(actions)
    columns = {name: np.asarray(value) for name, value in actions.items()}
    for name, column in columns.items():
        if column.ndim < 1 or len(column) != count:
            raise ValueError(f"action {name!r} must have {count} rows, got the shape {list(column.shape)}")
    return [{name: column[row] for name, column in columns.items()} for row in range(count)]
