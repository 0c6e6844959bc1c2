"""The verbs of the world model: imagine and act, and what environments and players run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unified.apps.base import Base
from unified.apps.dream import WINDOW as DREAM_WINDOW
from unified.apps.dream import Dream
from unified.apps.frame_writer import FrameWriter
from unified.apps.questions import Source
from unified.apps.rollout import WINDOW, Player, Rollout
from unified.decoding.sampling import Sampler


class Imagining(Base):
    """Frames that follow from frames and actions, and actions that follow from frames."""

    def imagine(
        self, frames: Source | Sequence[Source], actions: Sequence[Mapping[str, Any]], *, window: int = WINDOW
    ) -> np.ndarray:
        """The n predicted frames after actions, uint8 [n, H, W, 3]. Of n + m - 1 actions for m known frames
        the first m - 1 are those between the known frames. `window`: frames that stay in the cache."""
        many = isinstance(frames, (list, tuple)) or (isinstance(frames, np.ndarray) and frames.ndim == 4)
        known = [self.picture(frame) for frame in (frames if many else [frames])]  # type: ignore[arg-type,union-attr]
        taken, coming = list(actions[: len(known) - 1]), list(actions[len(known) - 1 :])
        rollout = Rollout(self.model, self.processor, [known], [taken], window=window, seed=self.seed)
        found = [rollout.step([action])[0] for action in coming]
        height, width = rollout.shapes[-1]
        stride = self.visual.stride
        return np.stack(found) if found else np.zeros((0, height * stride, width * stride, 3), np.uint8)

    def act(self, frame: Source, task: str = "Explore.") -> dict[str, Any]:
        """The likeliest action for a frame: 23 buttons (0 or 1) and `camera` in degrees. For an episode use
        `player`, which samples."""
        return self.player(task, sampler=Sampler(temperature=0)).act(self.picture(frame))

    def dream(self, size: tuple[int, int], *, rows: int = 1, window: int = DREAM_WINDOW,
              sampler: Sampler | None = None, mean: bool | None = None) -> Dream:  # fmt: skip
        """Rows of imagined frames of `size` (height, width) pixels that are started, stepped and restored one
        by one; what the environments run on."""
        writer = FrameWriter(self.model, self.processor, sampler=sampler, mean=mean)
        grid = self.shapes(size)[-1]
        return Dream(writer, self.processor.schedule(grid, frame=True), rows=rows, window=window)

    def player(self, task: str | Sequence[str] = "Explore.", *, rows: int = 1,
               sampler: Sampler | None = None) -> Player:  # fmt: skip
        """A player that chooses an action for each frame of an episode, or of `rows` episodes at once; None
        samples."""
        return Player(self.model, self.processor, task, rows=rows, seed=self.seed, sampler=sampler)
