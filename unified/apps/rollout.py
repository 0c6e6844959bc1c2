"""Worlds step by step: frames imagined from actions, and actions chosen from frames.

    frames:  user [frame 0, action 0] -> assistant [frame 1], user [action 1] -> assistant [frame 2], ...
    play:    user [task, frame 0] -> assistant [action 0], user [frame 1] -> assistant [action 1], ...

Only the latest `window` steps are remembered, so the cost of a step does not grow with the episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.cache.policy import Window
from unified.decoding.drawing import Generator
from unified.decoding.guidance import check_contrast
from unified.decoding.minimum_risk import alike_codes
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.extras.references import ActionContrast
from unified.layout.patch_merging import positions_of
from unified.orders import Plan
from unified.orders.shapes import Shapes, as_shapes
from unified.stream.processor import Processor
from unified.stream.vocabulary import Vocabulary
from unified.tokenizers.action import complete
from unified.tokenizers.images import Picture, to_uint8

WINDOW = 4  # steps remembered: the default model is trained on clips of five frames
ALIKE = 1.5  # width (`minimum_risk`) for what is gone on from: errors of sixteen steps add up more slowly
CONTRAST = 0.2  # with the opposite keys; more obeys them better and errs more after many steps
BORDERS = 6  # positions of a step beside its image and action: roles, ends, and the two of its READ segment
Action = Mapping[str, Any]


class Rollout:
    """Frames imagined in one or more rows at once. `history[b]` are the known frames of row b (equally many
    in every row, all of one size) and `taken[b]` the actions between them, one fewer. Without a `sampler` the
    likeliest codes are chosen, those within `ALIKE` counted together, and a step goes on from what the
    model's transition made of the one before (`Writer.carried`); with one, from the codes drawn.
    With `mean` the mean over all codes of a place is shown: the picture with the least squared error to be
    expected, blurred where much may come; without it the codes. None: where nothing is drawn at random and
    there is a mean. With `contrast` (None: `CONTRAST`, where nothing is drawn at random) what is gone on from
    is set off against what the opposite keys would show, by so many times the difference: where it is not
    certain how far things move, the likeliest is often that they do not."""

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
        self.processor, self.sampler = processor, sampler or Sampler(temperature=0)
        items = [[_drawn(processor, frame) for frame in frames] for frames in history]
        self.shapes = _one_shape(items)
        if contrast is None:
            contrast = 0.0 if self.sampler.temperature else CONTRAST
        check_contrast(contrast)
        if contrast and self.sampler.temperature:
            raise ValueError("a contrast needs the likeliest codes: temperature 0")
        words, read = model.vocabulary, processor.image_item(history[0][0])
        has_mean = model.head.symbols == 1 and len(read["shapes"]) == 1
        self.mean = has_mean and self.sampler.temperature == 0 if mean is None else mean
        self.contrast = contrast
        self.alike = alike_codes(model, processor, self.sampler, ALIKE)
        if self.mean and not has_mean:
            raise ValueError(
                "the mean over codes needs a softmax over one codebook and a single map that is read"
            )
        step = _step(read, words)
        policy = Window(window * step, keep=1)
        self.session = Session(model, rows=len(history), seed=seed, policy=policy)
        self.started = False
        self.first = [processor.image_item(frames[0]) for frames in history]
        for number in range(len(history[0]) - 1):
            self._ask([actions[number] for actions in taken])
            self.session.feed([processor.stream.content([frames[number + 1]]) for frames in items])

    @torch.no_grad()
    def step(self, actions: Sequence[Action]) -> np.ndarray:
        """The frames after one action per row: uint8 [B, H, W, 3]. ValueError for a malformed action, with
        nothing changed."""
        self._ask(actions)
        contrast = self._contrast()
        visual: Any = self.processor.visual
        if visual is None:
            raise ValueError("this model has no visual tokenizer: it cannot imagine frames")
        codebook, vectors = visual.codebook(), []
        images = self.session.image(
            self.shapes,
            order=self.processor.order,
            sampler=self.sampler,
            alike=self.alike,
            contrast=contrast,
            onward=self.sampler.temperature == 0,
        )
        for choice in images:
            if self.mean:
                vectors.append(choice.logits[:, :, 0].softmax(dim=-1).to(codebook) @ codebook)
        drawing = self.session.drawing
        shapes = drawing.plan.read_shapes
        if self.mean:
            return to_uint8(visual.decode_vectors(_map(vectors, drawing.plan)))
        maps = drawing.read().to(codebook.device).split([height * width for height, width in shapes], dim=1)
        return to_uint8(visual.decode_maps(list(maps), shapes))

    def _contrast(self) -> ActionContrast | None:
        """With the opposite of the keys just pressed."""
        if not self.contrast:
            return None
        slots = self.session.vocabulary.action_slots
        pressed = torch.tensor([row.acted for row in self.session.rows]).unflatten(1, (-1, slots))
        return ActionContrast(self.processor.opposite(pressed).flatten(1).tolist(), self.contrast)

    def _ask(self, actions: Sequence[Action]) -> None:
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
            asked = [[words.end, *turn, words.assistant] for turn in turns]
        self.session.feed(asked, defer=True)
        self.started = True


class Player:
    """Chooses actions for what it sees. `task` says in words what to do."""

    def __init__(
        self,
        model: Generator,
        processor: Processor,
        task: str = "Explore.",
        *,
        window: int = WINDOW,
        seed: int = 0,
        sampler: Sampler | None = None,
    ) -> None:
        if processor.action is None:
            raise ValueError("this model has no action tokenizer: it cannot act")
        self.model, self.processor, self.task = model, processor, task
        self.window, self.seed, self.sampler = window, seed, sampler or Sampler(temperature=0)
        self.session: Session | None = None

    def act(self, frame: Picture) -> dict[str, Any]:
        """The action for the next frame: 23 buttons and `camera` in degrees."""
        image = self.processor.image_item(frame)
        words = self.model.vocabulary
        if self.session is None:
            policy = Window(self.window * _step(image, words), keep=1)
            self.session = Session(self.model, seed=self.seed, policy=policy)
            content = [{"type": "text", "text": self.task}, image]
            self.session.feed(self.processor.encode([{"role": "user", "content": content}], prompt=True))
        else:
            turn = self.processor.turn({"role": "user", "content": [image]})
            self.session.feed([words.end, *turn, words.assistant])
        taken = self.session.action(sampler=self.sampler, choices=self._choices)
        return self.processor.actions(taken.tolist())[0]

    def _choices(self, slot: int) -> list[int]:
        action: Any = self.processor.action
        offset = getattr(getattr(action, "config", None), "offset", 0)
        return [number - offset for number in action.choices(slot)]


def _map(vectors: Sequence[Tensor], plan: Plan) -> Tensor:
    """The vectors of every step [B, n, C] as the map that is read [B, C, h, w]."""
    slots = torch.cat([step.decide for step in plan.steps]).argsort().to(vectors[0].device)
    read = torch.cat(list(vectors), dim=1)[:, slots[plan.read.to(slots.device)]]
    return read.transpose(1, 2).unflatten(2, plan.read_shapes[0])


def _drawn(processor: Processor, frame: Picture) -> dict[str, Any]:
    return processor.image_item(frame, drawn=True, frame=True)


def _step(image: Mapping[str, Any], words: Vocabulary) -> int:
    """Positions of a step: an image that is read, an action, and what borders them."""
    shapes = as_shapes(image["shapes"])
    return positions_of(shapes, words.merge) + 2 * len(shapes) + words.action_slots + BORDERS


def _one_shape(items: Sequence[Sequence[Mapping[str, Any]]]) -> Shapes:
    found = {tuple(map(tuple, item["shapes"])) for row in items for item in row}
    lengths = {len(row) for row in items}
    if len(found) > 1 or len(lengths) > 1:
        raise ValueError("all rows need equally many frames of one size")
    return found.pop()
