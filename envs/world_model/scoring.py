"""How likely known clips are in the dream, and what they earn: teacher forcing, all clips in one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from unified.tokenizers.environment_action import complete

if TYPE_CHECKING:
    from unified.envs.world_model.env import WorldModelEnv

Action = Mapping[str, Any]
Clip = tuple[Sequence[Any], Sequence[Action]]


@dataclass(frozen=True)
class ClipScore:
    """Of each of the n frames after an action: `log_probs` [n] of all its codes under the predicted
    distribution (nats, before temperature and filters) given the frames before it, `rewards` [n] and whether
    the episode would have `ended` there [n]. `codes`: how many one frame has."""

    log_probs: np.ndarray
    rewards: np.ndarray
    ended: np.ndarray
    codes: int

    @property
    def bits_per_code(self) -> float:
        """The mean negative log-probability of a code in bits: 0 for what is certain."""
        return float(-self.log_probs.sum() / (len(self.log_probs) * self.codes * np.log(2)))


def score(env: WorldModelEnv, clips: Sequence[Clip]) -> list[ClipScore]:
    """Scores of clips (frames, actions) of n + 1 frames and the n actions between them, n at least 1; what
    they show is not drawn, and the environment is left as it is. Rewards are those of its `reward_fn`, else
    0. ValueError for clips of other lengths and malformed actions."""
    model = env.assistant  # before all else: it says so where the environment is closed
    known = [_whole(env, *clip) for clip in clips]
    if not known:
        return []
    config, episodes = env.config, env.episodes
    dream = model.dream(
        episodes.size, rows=len(known), window=config.window, sampler=config.decoding, mean=config.mean
    )
    dream.start(range(len(known)), [frames[:1] for frames, _ in known], [[]] * len(known), [0] * len(known))
    log_probs: list[list[float]] = [[] for _ in known]
    for step in range(max(len(actions) for _, actions in known)):
        rows = [row for row, (_, actions) in enumerate(known) if step < len(actions)]
        given: list[Action | None] = [None] * len(known)
        for row in rows:
            given[row] = known[row][1][step]
        found = dream.step(given, {row: known[row][0][step + 1] for row in rows})
        for row, value in zip(rows, found.log_probs, strict=True):
            log_probs[row].append(float(value))
    rewarded = [_rewards(env, frames, actions) for frames, actions in known]
    return [
        ClipScore(np.array(likely), *earned, codes=dream.plan.length)
        for likely, earned in zip(log_probs, rewarded, strict=True)
    ]


def _whole(env: WorldModelEnv, frames: Sequence[Any], actions: Sequence[Action]) -> tuple[list, list]:
    if len(actions) < 1 or len(frames) != len(actions) + 1:
        raise ValueError(
            f"a clip has n + 1 frames and n actions between them, got {len(frames)} and {len(actions)}"
        )
    return [env.episodes.starts.image(frame) for frame in frames], [complete(action) for action in actions]


def _rewards(
    env: WorldModelEnv, frames: Sequence[np.ndarray], actions: Sequence[Action]
) -> tuple[np.ndarray, np.ndarray]:
    steps = zip(frames, actions, frames[1:], strict=False)
    found = [env.episodes.reward(previous, action, frame) for previous, action, frame in steps]
    return np.array([reward for reward, _ in found]), np.array([ended for _, ended in found])
