"""Rows of imagined episodes of one model: what the environment and the vector environment have in common."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from unified.envs.action_space import ActionSpace
from unified.envs.vector_rows import Action, Step, check_running
from unified.envs.world_model.config import WorldModelConfig
from unified.envs.world_model.starts import Starts
from unified.tokenizers.environment_action import complete

from unified.apps.assistant import Assistant
from unified.apps.dream import DreamState
from unified.apps.loading import load
from unified.finite import check_number

RewardFn = Callable[[np.ndarray, dict[str, Any], np.ndarray], Any]


@dataclass(frozen=True)
class EpisodeState:
    """All that an episode depends on, a few kilobytes that can be pickled: the dream, the frame shown
    (uint8 [H, W, 3]), the steps taken, whether the episode has ended, and the state of the random numbers
    that later resets draw from."""

    dream: DreamState
    frame: np.ndarray
    steps: int
    ended: bool
    rng: dict[str, Any]


class Episodes:
    """`rows` episodes of `model`: an assistant, a folder, a hub name or None (the shipped model). `start`:
    see `Starts`. `reward_fn(previous, action, frame)`: the reward of a step, or (reward, terminated), from
    frames uint8 [H, W, 3] and the whole action. ValueError for a model that draws no frames or takes no
    actions."""

    def __init__(
        self,
        model: Assistant | str | Path | None,
        start: Any,
        config: WorldModelConfig,
        rows: int = 1,
        reward_fn: RewardFn | None = None,
    ) -> None:
        if reward_fn is not None and not callable(reward_fn):
            raise ValueError(f"reward_fn must be a function, got {type(reward_fn).__name__}")
        self.assistant = load(model) if model is None or isinstance(model, str | Path) else model
        if self.assistant.processor.action is None:
            raise ValueError("this model has no action tokenizer: it cannot be stepped")
        self.config, self.reward_fn = config, reward_fn
        self.size = _size(self.assistant, start, config)
        self.dream = self.assistant.dream(
            self.size, rows=rows, window=config.window, sampler=config.decoding, mean=config.mean
        )
        self.starts = Starts(self.assistant, self.size, start, config.window)
        pov = spaces.Box(0, 255, shape=(*self.size, 3), dtype=np.uint8)
        self.observation_space = spaces.Dict({"pov": pov})
        self.action_space = ActionSpace()
        self.frames: list[np.ndarray | None] = [None] * rows
        self.steps, self.ended = [0] * rows, [False] * rows
        self.past: list[deque[EpisodeState]] = [deque(maxlen=config.undo) for _ in range(rows)]
        self.closed = False

    def reset(
        self,
        rows: Sequence[int],
        rngs: Sequence[np.random.Generator],
        options: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Start some rows; their infos. ValueError for what is no start, the episodes unchanged."""
        self.check_open()
        starts = [self.starts.draw(rng, options) for rng in rngs]
        seeds = [int(rng.integers(2**31)) for rng in rngs]
        self.dream.start(rows, [s.frames for s in starts], [s.actions for s in starts], seeds)
        for row, start in zip(rows, starts, strict=True):
            self.frames[row], self.steps[row], self.ended[row] = start.frames[-1], 0, False
            self.past[row].clear()
        return [{"known_frames": len(start.frames)} for start in starts]

    def step(
        self, actions: Sequence[Action | None], rngs: Sequence[np.random.Generator]
    ) -> list[Step | None]:
        """One step of every row that has an action. ValueError for a bad action and ResetNeeded before the
        start and after the end of an episode, and whatever `reward_fn` raises; the episodes unchanged."""
        self.check_open()
        whole = [None if action is None else complete(action) for action in actions]
        acting = [row for row, action in enumerate(whole) if action is not None]
        for row in acting:
            check_running(self.frames[row], self.ended[row])
        if not acting:
            return [None] * len(whole)
        before = {row: self.state(row, rngs[row]) for row in acting}
        found = self.dream.step(whole)
        try:
            earned = [
                self.reward(self.frames[row], whole[row], found.images[number])
                for number, row in enumerate(acting)
            ]
        except BaseException:  # an interrupt too: no row may show one frame and dream on from another
            self.dream.load(acting, [before[row].dream for row in acting])
            raise
        for row, state in before.items():
            self.past[row].append(state)
        steps: list[Step | None] = [None] * len(whole)
        for number, row in enumerate(acting):
            info = {
                "steps": self.steps[row] + 1,
                "codes": found.read[number],
                "log_prob": float(found.log_probs[number]),
                "entropy": float(found.entropies[number]),
            }
            steps[row] = self._finished(row, found.images[number], earned[number], info)
        return steps

    def _finished(
        self, row: int, frame: np.ndarray, earned: tuple[float, bool], info: dict[str, Any]
    ) -> Step:
        reward, terminated = earned
        self.frames[row], self.steps[row] = frame, info["steps"]
        truncated = not terminated and 0 < self.config.max_steps <= self.steps[row]
        self.ended[row] = terminated or truncated
        return Step(frame.copy(), reward, terminated, truncated, info)

    def reward(self, previous: Any, action: Any, frame: np.ndarray) -> tuple[float, bool]:
        """What `reward_fn` gives for a step, and whether it ends the episode; 0 and False without one.
        ValueError for what is neither a finite number nor a pair (number, ended)."""
        if self.reward_fn is None:
            return 0.0, False
        found = self.reward_fn(previous.copy(), action, frame.copy())
        pair = found if isinstance(found, tuple) else (found, False)
        try:
            reward, ended = pair
            check_number("the reward", reward)
            return float(reward), bool(ended)
        except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of many values
            raise ValueError(
                f"reward_fn must return a finite number, or (number, ended), got {found!r:.60}"
            ) from None

    def state(self, row: int, rng: np.random.Generator) -> EpisodeState:
        """The state of a row, for `load`. ResetNeeded before it has started."""
        self.check_open()
        frame = self.frames[row]
        if frame is None:
            raise ResetNeeded("call reset() first")
        return EpisodeState(
            dream=self.dream.state(row),
            frame=frame,
            steps=self.steps[row],
            ended=self.ended[row],
            rng=deepcopy(dict(rng.bit_generator.state)),
        )

    def load(self, rows: Sequence[int], states: Sequence[EpisodeState]) -> None:
        """Restore states in some rows; what could be taken back in them no longer can. ValueError for rows
        that do not exist or twice the same, what is no state, or one of another model or size, the episodes
        unchanged."""
        self.check_open()
        known = range(len(self.frames))
        if len(set(rows)) != len(rows) or any(row not in known for row in rows):
            raise ValueError(f"rows must be different numbers of 0 to {len(known) - 1}, got {list(rows)}")
        for state in states:
            if not isinstance(state, EpisodeState):
                raise ValueError(f"a state must be what get_state() returned, got {type(state).__name__}")
            if state.frame.shape[:2] != self.size:
                raise ValueError(f"a state of frames {state.frame.shape[:2]}, these have {self.size}")
        self.dream.load(rows, [state.dream for state in states])
        for row, state in zip(rows, states, strict=True):
            self.frames[row], self.steps[row], self.ended[row] = state.frame, state.steps, state.ended
            self.past[row].clear()

    def step_back(self, row: int) -> EpisodeState:
        """Take the latest step of a row back; its state is restored and returned. ValueError when there is
        none, or it is longer ago than `undo` steps."""
        self.check_open()
        if not self.past[row]:
            raise ValueError(f"no step to take back: at most {self.config.undo} are kept since a reset")
        earlier = list(self.past[row])
        self.load([row], [earlier[-1]])
        self.past[row].extend(earlier[:-1])
        return earlier[-1]

    def close(self) -> None:
        """Let the model go."""
        self.closed = True
        for name in ("assistant", "dream", "starts"):
            setattr(self, name, None)

    @property
    def opened(self) -> Assistant:
        """The model. ClosedEnvironmentError after `close`."""
        self.check_open()
        return self.assistant

    def check_open(self) -> None:
        """ClosedEnvironmentError after `close`."""
        if self.closed:
            raise ClosedEnvironmentError("the environment is closed: make another one")


def _size(assistant: Assistant, start: Any, config: WorldModelConfig) -> tuple[int, int]:
    """(height, width) of the frames. ValueError for a size that the model cannot draw."""
    size = config.size
    if size is None and hasattr(start, "__array__") and np.ndim(start) == 3:
        size = assistant.picture(start).shape[:2]
    size = size or (assistant.side, assistant.side)
    whole = isinstance(size, Sequence) and all(isinstance(side, int | np.integer) for side in size)
    if not whole or len(size) != 2:  # type: ignore[arg-type]
        raise ValueError(f"size must be (height, width) in pixels, got {size!r}")
    assistant.shapes((size[0], size[1]))
    return size[0], size[1]
