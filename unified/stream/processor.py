"""Pixels, strings and environment actions <-> ids: the tokenizers of all sorts behind one pair of calls.

The messages are those of `unified.stream`, with pixels in place of codes: `{"type": "image", "image":
picture}` (anything that `tokenizers.images` takes) and `{"type": "action", "action": {...}}`; forms of other
libraries are known too (`stream.message_forms`). An image in an assistant turn is a drawn one. The tokenizers
are frozen and stay outside the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from unified.orders import LINEAR, needs_grid, plan_for, takes_schedule
from unified.orders.shapes import Shape, Shapes, as_shapes
from unified.stream.items import Encoded
from unified.stream.message_forms import plain_messages
from unified.stream.messages import Message, Stream, TextTokenizer, check_messages
from unified.stream.processor_files import load_processor, save_processor
from unified.stream.vocabulary import Vocabulary
from unified.tokenizers.clips import clip_of, clip_pixels
from unified.tokenizers.images import bounded, resized, to_uint8
from unified.tokenizers.reconstruction import frames_of, line_of, side_of
from unified.tokenizers.schedules import ladder
from unified.tokenizers.visual import VisualTokenizer


class ActionCodec(Protocol):
    """What is asked of an action tokenizer."""

    @property
    def size(self) -> int: ...

    @property
    def slots(self) -> int: ...

    def encode(self, actions: Any) -> Tensor: ...

    def decode(self, ids: Any) -> list[dict[str, Any]]: ...


class Processor:
    """Tokenizers that fit one vocabulary; those that do not are refused here. `order` and `sides` (the longer
    sides of the maps before the last) say how drawn images are laid out; `frame_sides`, if not None, takes
    the place of `sides` for frames: images drawn after an action. `max_pixels`: larger images are scaled down
    to at most so many, as in the image processors of Qwen-VL; in any case to the longest side that the
    vocabulary has sizes for."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        text: TextTokenizer,
        visual: VisualTokenizer | None = None,
        action: ActionCodec | None = None,
        *,
        order: str = "next_scale",
        sides: Sequence[int] | None = None,
        frame_sides: Sequence[int] | None = None,
        max_pixels: int | None = None,
    ) -> None:
        self.frame_sides, self.max_pixels = frame_sides, max_pixels
        self.vocabulary, self.stream = vocabulary, Stream(vocabulary, text)
        self.visual, self.action, self.order, self.sides = visual, action, order, sides
        if visual is not None and visual.codes != vocabulary.visual:
            raise ValueError(
                f"the visual tokenizer has {visual.codes} codes, the vocabulary {vocabulary.visual}"
            )
        if visual is not None:
            self._check_order(visual)
            self._check_max_pixels(visual.stride**2)
        if action is not None and (action.size, action.slots) != (vocabulary.action, vocabulary.action_slots):
            raise ValueError(
                f"the action tokenizer has {action.size} ids in {action.slots} slots, "
                f"the vocabulary {vocabulary.action} in {vocabulary.action_slots}"
            )

    def _check_order(self, visual: VisualTokenizer) -> None:
        if line_of(visual) and needs_grid(self.order):
            kind = type(visual).__name__
            raise ValueError(
                f"the order {self.order!r} needs a grid, but the codes of {kind} lie in a line of "
                f"{visual.line}: choose one of {', '.join(sorted(LINEAR))}"  # type: ignore[attr-defined]
            )
        if line_of(visual) > self.vocabulary.max_side:
            raise ValueError(
                f"a line of {line_of(visual)} codes needs a vocabulary with max_side of as much, "
                f"got {self.vocabulary.max_side}"
            )
        maps = self.schedule((1, 1) if line_of(visual) else (4, 4))
        if tuple(visual.read_shapes(maps)) != plan_for(self.order, maps).read_shapes:
            kind = type(visual).__name__
            raise ValueError(f"the order {self.order!r} does not read the maps that {kind} is decoded from")

    def _check_max_pixels(self, least: int) -> None:
        most = self.max_pixels
        if most is not None and (type(most) is not int or most < least):
            raise ValueError(f"max_pixels must be none or a whole number of at least {least}, got {most!r}")

    def extended(self, vocabulary: Vocabulary) -> Processor:
        """The same tokenizers with a vocabulary that has more ids at its end, see `grow_vocabulary`."""
        if not vocabulary.extends(self.vocabulary):
            raise ValueError("a vocabulary grows at its end only: use Vocabulary.extended")
        options: Any = {"order": self.order, "sides": self.sides, "frame_sides": self.frame_sides}
        options["max_pixels"] = self.max_pixels
        return Processor(vocabulary, self.stream.text, self.visual, self.action, **options)

    # To ids -------------------------------------------------------------------------------------------------

    def encode(self, messages: Sequence[Message], *, prompt: bool = False) -> list[int]:
        """Ids of a conversation; with `prompt`, an assistant turn is opened for the model. Messages may have
        the forms of other libraries (`stream.message_forms`)."""
        return self.stream.encode(self._all_coded(messages), prompt=prompt)

    def encode_with_values(self, messages: Sequence[Message], *, prompt: bool = False) -> Encoded:
        """Ids of a conversation, and the continuous values of its latents and features."""
        return self.stream.encode_with_values(self._all_coded(messages), prompt=prompt)

    def turn(self, message: Message, *, first: bool = False) -> list[int]:
        """Ids of one whole turn, to go on with a conversation, or the `first` of one; what was said before is
        not known here."""
        return self.stream.turn(self._all_coded([message])[0], first=first)

    def _all_coded(self, messages: Sequence[Message]) -> list[Message]:
        plain = plain_messages(messages)
        return [self._coded(*each) for each in zip(plain, range(len(plain)), frames(plain), strict=True)]

    def _coded(self, message: Message, number: int, frame: Sequence[bool]) -> Message:
        if isinstance(message["content"], str):
            return message
        drawn, content = message["role"] == "assistant", []
        for place, (item, moved) in enumerate(zip(message["content"], frame, strict=True)):
            try:
                content.append(self._coded_item(item, drawn, moved))
            except ValueError as error:
                raise ValueError(f"message {number}, item {place}: {error}") from None
        return {**message, "content": content}

    def _coded_item(self, item: dict[str, Any], drawn: bool, frame: bool) -> dict[str, Any]:
        if "image" in item:
            return self.image_item(item["image"], drawn=drawn, frame=frame)
        if "action" in item:
            return {"type": "action", "ids": self.action_ids(item["action"])}
        return item

    @torch.no_grad()
    def image_item(self, picture: Any, *, drawn: bool = False, frame: bool = False) -> dict[str, Any]:
        """The codes of a picture as a content item: of its own grid, or of a whole schedule if it is drawn,
        of that of a `frame` if it follows an action."""
        visual = self._need(self.visual, "visual")
        images = self.pixels(picture)
        grid = (images.shape[-2] // visual.stride, images.shape[-1] // visual.stride)
        schedule = self.schedule(grid, frame=frame)
        shapes = schedule if drawn else plan_for(self.order, schedule).read_shapes
        codes = torch.cat(visual.encode(images, shapes), dim=1)[0].tolist()
        item = {"type": "image", "codes": codes, "shapes": [list(shape) for shape in shapes]}
        return {**item, "order": self.order} if drawn else item

    def pixels(self, picture: Any) -> Tensor:
        """One picture as the visual tokenizer is given it, float32 [1, 3, H, W] in [-1, 1]: sides are
        multiples of its stride, and no more than `max_pixels` and the vocabulary's `max_side` allow, or the
        one size that it takes. Of a tokenizer of clips, uint8 [T, H, W, 3] -> [1, 3, T, H, W]."""
        visual = self._need(self.visual, "visual")
        if frames_of(visual):
            return clip_of(picture, visual.frames, visual.side)
        if side := side_of(visual):
            return resized(picture, lambda height, width: (side, side))
        stride = visual.stride
        most = self.vocabulary.max_side * stride
        limits: Any = {"most_side": most, "max_pixels": self.max_pixels}
        return resized(picture, lambda height, width: bounded(height, width, stride, **limits))

    def schedule(self, grid: Shape, *, frame: bool = False) -> Shapes:
        """The maps in which an image of this grid is written, or a frame that follows an action. Codes in a
        line have one map for images of their one size, the grid (1, 1)."""
        if line := line_of(self.visual):
            if grid != (1, 1):
                side = side_of(self.visual)
                raise ValueError(f"this visual tokenizer makes images of {side} x {side} pixels only")
            return ((1, line),)
        sides = self.frame_sides if frame and self.frame_sides is not None else self.sides
        if sides == () or not takes_schedule(self.order):
            return (grid,)
        return ladder(grid) if sides is None else ladder(grid, sides)

    # From ids -----------------------------------------------------------------------------------------------

    def decode(self, ids: Sequence[int]) -> list[Message]:
        """Messages with pixels (uint8 [H, W, 3] under "image") and actions where there are tokenizers for
        them."""
        messages = self.stream.decode(ids)
        for message in messages:
            message["content"] = [self._shown(item) for item in message["content"]]
        return messages

    def _shown(self, item: dict[str, Any]) -> dict[str, Any]:
        if item["type"] == "image" and "codes" in item and self.visual is not None:
            return {**item, "image": self.picture(item)}
        if item["type"] == "action" and self.action is not None:
            return {**item, "action": self.actions([item["ids"]])[0]}
        return item

    @torch.no_grad()
    def picture(self, item: dict[str, Any]) -> np.ndarray:
        """uint8 [H, W, 3] of an image item with codes; of a clip [T, H, W, 3]."""
        visual = self._need(self.visual, "visual")
        shapes = as_shapes(item["shapes"])
        codes = torch.tensor([item["codes"]])
        if "order" in item:
            plan = plan_for(item["order"], shapes, tuple(item.get("data", ())))
            codes, shapes = codes[:, plan.read], plan.read_shapes
        maps = list(codes.split([h * w for h, w in shapes], dim=1))
        images = visual.decode_maps(maps, shapes)
        return clip_pixels(images)[0] if frames_of(visual) else to_uint8(images)[0]

    def action_ids(self, action: Any) -> list[int]:
        """The ids of an environment action, counted from 0 [slots]. ValueError for a malformed one."""
        found = torch.as_tensor(self._need(self.action, "action").encode([action])) - self._offset()
        ids: list[int] = found[0].tolist()
        return ids

    def action_choices(self, slot: int) -> list[int]:
        """The ids, counted from 0, that a slot of an action may take: for `Session.action(choices=)`."""
        return [number - self._offset() for number in self._need(self.action, "action").choices(slot)]

    def actions(self, ids: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
        """Environment actions of action ids counted from 0 [N, slots]."""
        action = self._need(self.action, "action")
        return action.decode(torch.as_tensor(ids) + self._offset())

    def opposite(self, ids: Tensor) -> Tensor:
        """Action ids of the stream [..., slots] -> those of the actions with the opposite keys."""
        start = self.vocabulary.action_start - self._offset()
        opposite: Tensor = self._need(self.action, "action").opposite(ids - start)
        return opposite + start

    def _offset(self) -> int:
        """Where the action tokenizer itself starts to count (the published one starts after its visual
        codes)."""
        return getattr(getattr(self.action, "config", None), "offset", 0)

    # Files --------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, **_: object) -> None:
        """Write the tokenizers into a folder, see `stream.processor_files`.
        `Trainer(processing_class=processor)` calls it for every checkpoint, so that `unified.load` reads
        them."""
        save_processor(folder, self)

    @staticmethod
    def from_pretrained(folder: str | Path) -> Processor:
        """The processor of a folder. ValueError, in one line, for what is missing or malformed."""
        return load_processor(folder)

    @staticmethod
    def _need(tokenizer: Any, name: str) -> Any:
        if tokenizer is None:
            raise ValueError(f"this processor has no {name} tokenizer: give it one to use {name} items")
        return tokenizer


def frames(messages: Sequence[Message]) -> list[list[bool]]:
    """For each item of each message whether an action was said since the last image before it: such an image,
    drawn, is a frame. The rule that the layout goes by, too (`WriteGroup.actions`)."""
    check_messages(messages)
    found, acted = [], False
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        row: list[bool] = []
        for item in content if isinstance(content, list) else []:
            kind = item.get("type") if isinstance(item, dict) else None
            row.append(acted)
            acted = kind == "action" or (acted and kind != "image")
        found.append(row)
    return found
