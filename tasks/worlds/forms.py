"""What a clip asks: the frames that actions lead to, the actions between frames, or to play.

Each form turns a clip into a conversation in which every assistant turn is one step, and scores an answer.
An answer may hold the last step alone or any number of steps up to all of them.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from unified.tasks.sample import Sample
from unified.tasks.worlds.clips import Clip
from unified.tasks.worlds.scoring import score_actions, score_frames

Content = list[dict[str, Any]]
Messages = list[dict[str, Any]]


class Form(Protocol):
    """A way to ask about a clip."""

    def messages(self, clip: Clip) -> Messages: ...

    def score(self, sample: Sample, answer: Content) -> dict[str, float]: ...


class Frames:
    """user [frame 0, action 0] -> assistant [frame 1], user [action 1] -> assistant [frame 2], ..."""

    def messages(self, clip: Clip) -> Messages:
        found: Messages = []
        for action, frame in zip(clip.actions, clip.frames[1:], strict=True):
            asked = [_action(action)] if found else [_image(clip.frames[0]), _action(action)]
            found += _exchange(asked, [_image(frame)])
        return found

    def score(self, sample: Sample, answer: Content) -> dict[str, float]:
        return score_frames(_chosen(answer, "image"), _truth(sample, "image"))


class Actions:
    """user [frame 0, frame 1] -> assistant [action 0], user [frame 2] -> assistant [action 1], ..."""

    def messages(self, clip: Clip) -> Messages:
        found: Messages = []
        for action, frame in zip(clip.actions, clip.frames[1:], strict=True):
            asked = [_image(frame)] if found else [_image(clip.frames[0]), _image(frame)]
            found += _exchange(asked, [_action(action)])
        return found

    def score(self, sample: Sample, answer: Content) -> dict[str, float]:
        return score_actions(_chosen(answer, "action"), _truth(sample, "action"))


class Play:
    """user [task, frame 0] -> assistant [action 0], user [frame 1] -> assistant [action 1], ..."""

    def messages(self, clip: Clip) -> Messages:
        found: Messages = []
        for action, frame in zip(clip.actions, clip.frames[:-1], strict=True):
            asked = [_image(frame)] if found else [{"type": "text", "text": clip.text}, _image(frame)]
            found += _exchange(asked, [_action(action)])
        return found

    def score(self, sample: Sample, answer: Content) -> dict[str, float]:
        return score_actions(_chosen(answer, "action"), _truth(sample, "action"))


FORMS: dict[str, Form] = {"frames": Frames(), "actions": Actions(), "play": Play()}


def _exchange(asked: Content, answered: Content) -> Messages:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]


def _image(frame: np.ndarray) -> dict[str, Any]:
    return {"type": "image", "image": frame}


def _action(action: dict[str, Any]) -> dict[str, Any]:
    return {"type": "action", "action": action}


def _truth(sample: Sample, kind: str) -> list[Any]:
    """What the assistant turns of a sample hold of this kind, in order."""
    turns = [message["content"] for message in sample.messages if message["role"] == "assistant"]
    return [item[kind] for content in turns for item in content if item["type"] == kind]


def _chosen(answer: Content, kind: str) -> list[Any]:
    good = isinstance(answer, list) and all(
        isinstance(item, dict) and isinstance(item.get("type"), str) and item["type"] in item
        for item in answer
    )
    if not good:
        raise ValueError(f'an answer is a list of {{"type": "{kind}", "{kind}": ...}} and other items')
    return [item[kind] for item in answer if item["type"] == kind]
