"""Planning in the dream: sequences of actions tried in rows that go on from one state, all in one batch.

Random shooting takes the best of random sequences; the cross-entropy method (Rubinstein, 1999; as in PETS,
arXiv 1805.12114) draws them anew from what the best ones have in common. Rewards are those of the
environment's `reward_fn`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from unified.envs.world_model.env import WorldModelEnv
from unified.envs.world_model.vector import WorldModelVectorEnv

Action = Mapping[str, Any]
SMOOTHING = 0.1  # share of the uniform distribution in what the cross-entropy method draws from


@dataclass(frozen=True)
class Plan:
    """The best sequence found: `choices` [horizon], numbers of the table of actions, its `actions`, and
    `value`, the sum of discounted rewards. `values` [candidates] of all that were tried last."""

    choices: np.ndarray
    actions: list[Action]
    value: float
    values: np.ndarray


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """`horizon`: actions of a sequence. `candidates`: sequences tried at once, the rows of the batch.
    `rounds`: of the cross-entropy method; 1 is random shooting. `elites`: the best sequences that the next
    round is drawn from. `discount` of rewards by step. ValueError for values out of range."""

    horizon: int = 8
    candidates: int = 16
    rounds: int = 1
    elites: int = 4
    discount: float = 0.99

    def __post_init__(self) -> None:
        for name in ("horizon", "candidates", "rounds", "elites"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.elites > self.candidates or not 0 <= self.discount <= 1:
            raise ValueError(
                f"elites must be at most candidates and discount in 0..1, got {self.elites} of "
                f"{self.candidates} and {self.discount}"
            )


def plan(
    env: WorldModelEnv, table: Sequence[Action], config: PlannerConfig | None = None, *, seed: int = 0
) -> Plan:
    """The best sequence of actions of `table` from where the environment stands, which is left as it is.
    Every candidate imagines its own frames. ValueError for an environment without a reward, or an empty
    table; ResetNeeded before the reset."""
    config, rng = config or PlannerConfig(), np.random.default_rng(seed)
    if env.reward_fn is None:
        raise ValueError("planning needs a reward: make the environment with reward_fn=")
    if not table:
        raise ValueError("planning needs at least one action to choose from")
    rows = env.fork_rows(config.candidates, seed=seed)
    start = rows.get_states()
    probs = np.full((config.horizon, len(table)), 1 / len(table))
    best: Plan | None = None
    for turn in range(config.rounds):
        if turn:
            rows.set_states(start)
        choices = _drawn(probs, config.candidates, rng)
        values = returns(rows, [[table[k] for k in row] for row in choices], config.discount)
        order = np.argsort(-values, kind="stable")
        if best is None or values[order[0]] > best.value:
            found = choices[order[0]]
            best = Plan(found, [table[k] for k in found], float(values[order[0]]), values)
        elite = choices[order[: config.elites]]  # [elites, horizon]
        counts = (elite[..., None] == np.arange(len(table))).mean(axis=0)
        probs = SMOOTHING / len(table) + (1 - SMOOTHING) * counts
    assert best is not None
    return Plan(best.choices, best.actions, best.value, values)


def returns(
    rows: WorldModelVectorEnv, sequences: Sequence[Sequence[Action]], discount: float = 1.0
) -> np.ndarray:
    """The sums of discounted rewards [n] of one sequence of actions for each row, which goes on from where it
    stands. What comes after the end of an episode counts nothing. ValueError for another number of
    sequences than rows, or sequences of unequal length."""
    if len(sequences) != rows.num_envs or len({len(some) for some in sequences}) > 1:
        raise ValueError(f"{rows.num_envs} rows need as many sequences of one length, got {len(sequences)}")
    total, running = np.zeros(rows.num_envs), np.ones(rows.num_envs, dtype=bool)
    for step in range(len(sequences[0])):
        given = [some[step] if alive else None for some, alive in zip(sequences, running, strict=True)]
        found = rows.episodes.step(given, rows.generators.rows)
        for row, result in enumerate(found):
            if result is not None:
                total[row] += discount**step * result.reward
                running[row] = not (result.terminated or result.truncated)
        if not running.any():
            break
    return total


def _drawn(probs: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """[count, horizon]: numbers drawn from probs [horizon, actions]."""
    columns = [rng.choice(probs.shape[1], size=count, p=row / row.sum()) for row in probs]
    return np.stack(columns, axis=1)
