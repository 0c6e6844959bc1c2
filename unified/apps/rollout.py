"""World model rollouts: frames predicted from actions, and actions predicted from frames.

    frames:  user [frame 0, action 0] -> assistant [frame 1], user [action 1] -> assistant [frame 2], ...
    play:    user [task, frame 0] -> assistant [action 0], user [frame 1] -> assistant [action 1], ...

The cache holds the latest `window` frames with their actions, so the cost of a frame does not grow with the
length of the episode. A frame and its action are one environment step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from unified.apps.frame_writer import FrameWriter
from unified.cache.policy import Window
from unified.decoding.drawing import Generator
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.finite import check_count
from unified.layout.patch_merging import positions_of
from unified.orders.shapes import Shapes, as_shapes
from unified.stream.processor import Processor
from unified.stream.vocabulary import Vocabulary
from unified.tokenizers.environment_action import complete
from unified.tokenizers.images import Picture

WINDOW = 4  # frames that stay in the cache: the default model is trained on clips of five frames
BORDERS = 6  # positions of a frame beside its image and action: roles, ends, and the two of its READ segment
Action = Mapping[str, Any]


class Rollout:
    """Autoregressive prediction of frames from actions, for one or more rows at once.

    `history[b]`: the known frames of row b, equally many in every row and all of one size. `taken[b]`: the
    actions between them, one fewer. `window`: frames that stay in the cache. `sampler`: None is greedy, with
    minimum-risk decoding of the codes, and carries embeddings: each frame is made from what the model's
    transition gave for the one before (`Session.image(carry=)`), otherwise from the codes drawn.
    `mean`: `step` returns the decoding of the mean codebook vector under the predicted distribution, which
    has the least expected squared error and is blurred where much is possible, instead of the decoding of
    the chosen codes; None: where decoding is greedy and the model has one codebook and one map to read.
    `contrast`: weight of contrastive guidance of the carried embeddings by the opposite actions, 0 is off,
    None is `frame_writer.CONTRAST` where decoding is greedy, otherwise 0. Without it, the likeliest frame
    after an uncertain movement is often one without movement. ValueError for unequal histories or options
    that exclude each other."""

    def __init__(
        self,
        model: Generator,
        processor: Processor,
        history: Sequence[Sequence[Picture]],
        taken: Sequence[Sequence[Action]] | None = None,
        *,
        window: int = WINDOW,
        seed: int | Sequence[int] = 0,
        sampler: Sampler | None = None,
        mean: bool | None = None,
        contrast: float | None = None,
    ) -> None:
        taken = taken or [[] for _ in history]
        if not history or any(not frames for frames in history):
            raise ValueError("imagining needs at least one frame to start from")
        if any(len(frames) != len(actions) + 1 for frames, actions in zip(history, taken, strict=True)):
            raise ValueError("n known frames have n - 1 actions between them")
        items = [[_drawn(processor, frame) for frame in frames] for frames in history]
        self.shapes = _one_shape(items)
        check_count("window", window, 1)
        self.processor = processor
        self.writer = FrameWriter(model, processor, sampler=sampler, mean=mean, contrast=contrast)
        read = processor.image_item(history[0][0])
        policy = Window(window * frame_positions(read, model.vocabulary), keep=1)
        self.session = Session(model, rows=len(history), seed=seed, policy=policy)
        self.started = False
        self.first = [processor.image_item(frames[0]) for frames in history]
        for number in range(len(history[0]) - 1):
            self._ask([actions[number] for actions in taken])
            self.session.feed([processor.stream.content([frames[number + 1]]) for frames in items])

    @property
    def mean(self) -> bool:
        """Whether frames are shown as means."""
        return self.writer.mean

    @torch.no_grad()
    def step(self, actions: Sequence[Action]) -> np.ndarray:
        """The next frames after one action per row: uint8 [B, H, W, 3]. ValueError for a malformed action,
        with nothing changed."""
        self._ask(actions)
        rows = [True] * len(self.session.rows)
        return self.writer.show(self.writer.draw(self.session, self.shapes, rows), scored=False).images

    def _ask(self, actions: Sequence[Action]) -> None:
        """Append the turn that asks for the next frame after one action per row; its prefill is deferred."""
        if len(actions) != len(self.session.rows):
            raise ValueError(f"{len(self.session.rows)} rows need as many actions, got {len(actions)}")
        words = self.session.vocabulary
        items = [{"type": "action", "action": complete(action)} for action in actions]
        if not self.started:
            pairs = zip(self.first, items, strict=True)
            chats = [[{"role": "user", "content": [image, action]}] for image, action in pairs]
            asked = [self.processor.encode(chat, prompt=True) for chat in chats]
        else:
            turns = [self.processor.turn({"role": "user", "content": [item]}) for item in items]
            asked = [[words.end, *turn, *words.opening("assistant")] for turn in turns]
        self.session.feed(asked, defer=True)
        self.started = True


class Player:
    """Predicts an action for each frame of `rows` episodes at once. `task`: text that says what to do, or one
    for each row; `window`: frames that stay in the cache. `sampler`: None samples actions at temperature 1 as
    they were learned: the likeliest one is often to press nothing, for ever. Row b draws with the seed
    `seed` + b, the same actions as alone. ValueError for a model without an action tokenizer, and for another
    number of tasks than rows."""

    def __init__(
        self,
        model: Generator,
        processor: Processor,
        task: str | Sequence[str] = "Explore.",
        *,
        rows: int = 1,
        window: int = WINDOW,
        seed: int = 0,
        sampler: Sampler | None = None,
    ) -> None:
        if processor.action is None:
            raise ValueError("this model has no action tokenizer: it cannot act")
        check_count("rows", rows, 1)
        check_count("window", window, 1)
        self.tasks = [task] * rows if isinstance(task, str) else list(task)
        if len(self.tasks) != rows:
            raise ValueError(f"{rows} rows need as many tasks, got {len(self.tasks)}")
        self.model, self.processor, self.window = model, processor, window
        self.sampler, self.seeds = sampler or Sampler(), [seed + row for row in range(rows)]
        self.session: Session | None = None
        self.playing = [False] * rows

    def act(self, frame: Picture) -> dict[str, Any]:
        """The action after the next frame of the episode of the only row: 23 buttons (0 or 1) and `camera` in
        degrees."""
        found = self.act_rows([frame])[0]
        assert found is not None
        return found

    def act_rows(self, frames: Sequence[Picture | None]) -> list[dict[str, Any] | None]:
        """The actions after the next frame of each row. None for a row without a frame: its episode is over,
        and its next frame starts another. ValueError for another number of frames than rows."""
        if len(frames) != len(self.playing):
            raise ValueError(f"{len(self.playing)} rows need as many frames, got {len(frames)}")
        items = [None if frame is None else self.processor.image_item(frame) for frame in frames]
        given = [item for item in items if item is not None]
        if not given:
            self._forget([row.place for row in self.session.rows] if self.session else [])
            return [None] * len(items)
        session = self._opened(given[0])
        session.feed([[] if item is None else self._told(row, item) for row, item in enumerate(items)])
        self.playing = [item is not None for item in items]
        places = [row.place for row in session.rows]
        taken = session.action(sampler=self.sampler, choices=self.processor.action_choices)
        self._forget([place if item is None else None for place, item in zip(places, items, strict=True)])
        actions = self.processor.actions(taken.tolist())
        return [action if playing else None for action, playing in zip(actions, self.playing, strict=True)]

    def _forget(self, places: Sequence[int | None]) -> None:
        """Let rows forget their episode; what they say next stands at these places of the noise."""
        for row, place in enumerate(places):
            if place is not None and self.session is not None:
                self.session.restart(row, place)
                self.playing[row] = False

    def _told(self, row: int, image: Mapping[str, Any]) -> list[int]:
        """Ids of the next frame of a row."""
        if not self.playing[row]:
            content = [{"type": "text", "text": self.tasks[row]}, image]
            return self.processor.encode([{"role": "user", "content": content}], prompt=True)
        words, turn = self.model.vocabulary, self.processor.turn({"role": "user", "content": [image]})
        return [words.end, *turn, *words.opening("assistant")]

    def _opened(self, image: Mapping[str, Any]) -> Session:
        if self.session is None:
            policy = Window(self.window * frame_positions(image, self.model.vocabulary), keep=1)
            self.session = Session(self.model, rows=len(self.playing), seed=self.seeds, policy=policy)
        return self.session


def _drawn(processor: Processor, frame: Picture) -> dict[str, Any]:
    return processor.image_item(frame, drawn=True, frame=True)


def frame_positions(image: Mapping[str, Any], words: Vocabulary) -> int:
    """Positions of one environment step: an image that is read, an action, and the ids that delimit them."""
    shapes = as_shapes(image["shapes"])
    return positions_of(shapes, words.merge) + 2 * len(shapes) + words.action_slots + BORDERS


def _one_shape(items: Sequence[Sequence[Mapping[str, Any]]]) -> Shapes:
    found = {tuple(map(tuple, item["shapes"])) for row in items for item in row}
    lengths = {len(row) for row in items}
    if len(found) > 1 or len(lengths) > 1:
        raise ValueError("all rows need equally many frames of one size")
    return found.pop()
