"""A maze solved with sketches: the request, its settings, and what an answer comes to."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from unified.apps.answering import GREEDY, Content, GenerationSettings, images_of, text_of
from unified.apps.conversation import Conversation, Event, Painted, note
from unified.apps.sketching import SketchLimits

MAZE_PROMPT = (  # the words of the task `maze`, which the model was trained on
    "\nFind the actions that lead from the green arrow to the red disc in this maze. "
    "Black lines are walls, white is free. "
    'Each action is one of: "go forward" (move straight until the next turn or junction), '
    '"turn left" and "turn right" (rotate in place).\n'
)
SOLVING = GenerationSettings(allow_images=False, image_after="</actions>", max_tokens=1024, max_images=12,
                 image_sampler=GREEDY)  # fmt: skip
SKETCHING = GenerationSettings(sketches=SketchLimits(), max_tokens=1024, image_sampler=GREEDY)

NO_MAZE = "this is no maze of the kind that is solved here: black walls on white, a green arrow, a red disc"


@dataclass(frozen=True)
class Solution:
    """A solved maze: `actions` in order, `sketches` drawn on the way, each uint8 [H, W, 3], and all `text`.
    `content`: the items of the answer in order; `cut`: why it was cut, "" where the model ended it."""

    actions: list[str]
    sketches: list[np.ndarray]
    text: str
    content: Content = field(default_factory=list)
    cut: str = ""

    @staticmethod
    def of(content: Content, cut: str = "") -> Solution:
        text = text_of(content)
        parts = re.findall(r"<actions>(.*?)</actions>", text, re.DOTALL)
        actions = [action.strip() for part in parts for action in part.split(",")]
        return Solution(actions, images_of(content), text, content, cut)


def solving(sketches: bool, limits: SketchLimits | None) -> GenerationSettings:
    """The settings of an answer with sketches or without, the model deciding on them where there are
    `limits`."""
    if not sketches:
        return replace(SOLVING, image_after="")
    return SOLVING if limits is None else replace(SKETCHING, sketches=limits)


def solve_pages(
    converse: Callable[[np.ndarray, GenerationSettings], Conversation],
    picture: np.ndarray,
    prompt: str,
    *,
    sketches: bool,
    limits: SketchLimits | None,
    page: int | None,
    hear: Callable[[Event], None] | None,
) -> Solution:
    """An answer in a conversation or, with `page`, in several: after so many sketches another one that
    `converse` opens begins with the latest as its picture. The other arguments as of `Assistant.solve`."""
    content: Content = []
    left = 0 if limits is None else limits.images
    while True:
        most = limits and replace(limits, images=left if page is None else min(page, left))
        talk = converse(picture, solving(sketches, most))
        drawn = 0
        for event in talk.say(prompt, [picture]):
            note(content, event)
            if isinstance(event, Painted):
                picture, drawn = event.image, drawn + 1
            if hear is not None:
                hear(event)
        left -= drawn
        if page is None or not talk.full or left <= 0:
            return Solution.of(content, talk.cut)


def is_maze(picture: np.ndarray) -> bool:
    """Whether an image uint8 [H, W, 3] has the colours of what `MAZE_PROMPT` describes: nearly all of it
    white or black, both of them there, and some green and red."""
    red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    darkest, brightest = picture.min(axis=2), picture.max(axis=2)
    white, black = float((darkest > 200).mean()), float((brightest < 90).mean())
    greens, reds = green - np.maximum(red, blue) > 40, red - np.maximum(green, blue) > 40
    marked = bool(greens.any() and reds.any()) and float((greens | reds).mean()) < 0.25
    return marked and white > 0.3 and black > 0.03 and white + black > 0.6
