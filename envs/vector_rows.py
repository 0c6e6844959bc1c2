"""Vector environments of rows in one process: seeds, masks of resets, actions by row, and gymnasium's three
ways to start an ended row anew. What the rows are is theirs that inherit `RowsVectorEnv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

Seeds = int | Sequence[int | None] | None
Action = Mapping[str, Any]
Observations = dict[str, np.ndarray]
Results = tuple[Observations, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]
Drawn = tuple[np.random.Generator, int]


@dataclass(frozen=True)
class Step:
    """What `step` returns of one row, the observation as its `frame` uint8 [H, W, 3]."""

    frame: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


def check_running(frame: np.ndarray | None, ended: bool) -> None:
    """ResetNeeded before the start of an episode, where nothing is seen yet, and after its end."""
    if frame is None or ended:
        raise ResetNeeded("call reset() first" if frame is None else "the episode has ended")


class Rows(Protocol):
    """Episodes side by side. `frames`: what is seen in each, None before it has started; `ended`: whether it
    has to be reset."""

    frames: list[np.ndarray | None]

    @property
    def observation_space(self) -> Any: ...

    @property
    def action_space(self) -> Any: ...

    @property
    def ended(self) -> Sequence[bool]: ...

    def reset(
        self, rows: Sequence[int], rngs: Sequence[np.random.Generator], options: Any = None
    ) -> list[dict[str, Any]]:
        """Start some rows; their infos. What raises changes nothing."""
        ...

    def step(
        self, actions: Sequence[Action | None], rngs: Sequence[np.random.Generator]
    ) -> list[Step | None]:
        """One step of the rows that have an action. What raises changes nothing."""
        ...

    def close(self) -> None: ...


class RowsVectorEnv(VectorEnv):
    """A vector environment of `count` rows. ValueError for an unknown render or autoreset mode."""

    def __init__(
        self, rows: Rows, count: int, *, autoreset_mode: str | AutoresetMode, render_mode: str | None
    ) -> None:
        self.autoreset_mode = mode_of(autoreset_mode)
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": 20,
            "autoreset_mode": self.autoreset_mode,
        }
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        self.episodes, self.num_envs, self.render_mode = rows, count, render_mode
        self.single_observation_space: spaces.Space = rows.observation_space
        self.single_action_space: spaces.Space = rows.action_space
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)
        self.generators = Generators(count)

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The random numbers of every row."""
        return tuple(self.generators.rows)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The latest seed of every row, -1 before the first."""
        return tuple(self.generators.seeds)

    def reset(
        self, *, seed: Seeds = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start every row, or those marked in `options["reset_mask"]` (bool [num_envs]). Other options as of
        a single environment, for all of these rows. ValueError or TypeError for bad ones, nothing
        changed."""
        self._check_open()
        rows, rest = reset_rows(options, self.num_envs)
        drawn = self.generators.drawn(rows, seed)
        found = self.episodes.reset(rows, [generator for generator, _ in drawn], rest)
        self.generators.keep(rows, drawn)
        infos: dict[str, Any] = {}
        for row, info in zip(rows, found, strict=True):
            infos = self._add_info(infos, info, row)
        return self._observe(), infos

    def step(self, actions: Mapping[str, Any] | Sequence[Action]) -> Results:
        """One step of all rows. `actions`: one dictionary of arrays [num_envs, ...], or one dictionary a row.
        ValueError for bad actions, with nothing changed."""
        self._check_open()
        ended, next_step = self.episodes.ended, self.autoreset_mode == AutoresetMode.NEXT_STEP
        waiting = [row for row in range(self.num_envs) if ended[row] and next_step]
        given: list[Action | None] = list(row_actions(actions, self.num_envs))
        for row in waiting:
            given[row] = None
        steps = self.episodes.step(given, self.generators.rows)
        infos: dict[str, Any] = {}
        for row, info in zip(waiting, self._again(waiting), strict=True):
            infos = self._add_info(infos, info, row)
        over = [row for row, step in enumerate(steps) if step and (step.terminated or step.truncated)]
        same_step = over if self.autoreset_mode == AutoresetMode.SAME_STEP else []
        fresh = dict(zip(same_step, self._again(same_step), strict=True))
        for row, step in enumerate(steps):
            if step is None:
                continue
            if row in fresh:
                final = {"final_obs": {"pov": step.frame}, "final_info": step.info}
                infos = self._add_info(infos, final, row)
            infos = self._add_info(infos, fresh.get(row, step.info), row)
        return self._observe(), *_columns(steps), infos

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("the environment is closed: make another one")

    def _again(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Reset rows whose episode has ended; their infos."""
        return self.episodes.reset(rows, [self.generators.rows[row] for row in rows]) if rows else []

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The current frame of every row; None before the first reset or without a render mode.
        ClosedEnvironmentError after `close`."""
        self._check_open()
        frames = self.episodes.frames
        if self.render_mode is None or any(frame is None for frame in frames):
            return None
        return tuple(frame.copy() for frame in frames if frame is not None)

    def close_extras(self, **_: Any) -> None:
        """Let everything go; further steps raise ClosedEnvironmentError."""
        self.episodes.close()

    def _observe(self) -> Observations:
        empty = np.zeros(
            self.episodes.observation_space["pov"].shape, dtype=np.uint8
        )  # of rows that have not started yet
        return {"pov": np.stack([empty if frame is None else frame for frame in self.episodes.frames])}


class Generators:
    """The random numbers of every row. A reset draws from copies, which are kept once it has succeeded."""

    def __init__(self, count: int) -> None:
        self.rows: list[np.random.Generator] = [np.random.default_rng() for _ in range(count)]
        self.seeds = [-1] * count

    def drawn(self, rows: Sequence[int], seed: Seeds) -> list[Drawn]:
        """For each of some rows, its generator with its new seed, or a copy of the one it has. `seed`: s for
        s + row, or one for each of all rows, None to go on. ValueError for what is no seed, and for another
        number of them."""
        count = len(self.rows)
        if seed is None:
            seeds: list[int | None] = [None] * count
        elif isinstance(seed, int | np.integer):
            seeds = [int(seed) + row for row in range(count)]
        elif isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str | bytes):
            seeds = list(seed)
        else:
            raise ValueError(f"seed must be a whole number, one for each row, or None, got {seed!r:.60}")
        if len(seeds) != count:
            raise ValueError(f"{count} rows need as many seeds, got {len(seeds)}")
        found: list[Drawn] = []
        for row in rows:
            own = seeds[row]
            if own is None:
                found.append((deepcopy(self.rows[row]), self.seeds[row]))
            elif isinstance(own, bool) or not isinstance(own, int | np.integer) or own < 0:
                raise ValueError(
                    f"the seed of row {row} must be a whole number of at least 0, got {own!r:.60}"
                )
            else:
                found.append(seeding.np_random(int(own)))
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


def count_of(num_envs: Any) -> int:
    """A number of rows. ValueError for what is none."""
    if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
        raise ValueError(f"num_envs must be a whole number of at least 1, got {num_envs!r}")
    return num_envs


def _columns(steps: Sequence[Step | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewards, terminations and truncations [n]; 0 and False for rows that were reset."""
    return (
        np.array([step.reward if step else 0.0 for step in steps], dtype=np.float64),
        np.array([bool(step and step.terminated) for step in steps]),
        np.array([bool(step and step.truncated) for step in steps]),
    )
