"""The requests of the tour and of the chat, each with the rule that judges the answer.

They are worded freely; none was chosen or changed for its answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from unified.tasks.scenes.drawing import Demand, Prompt, score_drawing
from unified.tasks.scenes.parser import parse
from unified.tasks.scenes.scene import COLOURS, Filter, Scene

Judge = Callable[[str, np.ndarray | None], bool]  # of an answer's text and its picture, uint8 [H, W, 3]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A line that a user types, and whether an answer to it is right."""

    words: str
    judge: Judge


def shows(*wanted: Filter) -> Judge:
    """Right if the picture has these objects and no others, as the scene parser reads it."""
    prompt = Prompt(category="two_objects", demands=tuple(Demand(wanted=one) for one in wanted))

    def judge(text: str, picture: np.ndarray | None) -> bool:
        return picture is not None and score_drawing(prompt, parse(picture))["all"] == 1

    return judge


def says(pattern: str) -> Judge:
    """Right if the answer has the pattern, in any case of letters, and draws nothing."""

    def judge(text: str, picture: np.ndarray | None) -> bool:
        return picture is None and re.search(pattern, text, re.IGNORECASE) is not None

    return judge


def counted(scene: Scene) -> Request:
    """How many objects a picture shows."""
    number = len(scene.objects)
    words = ("no|none", "one|a single", "two", "three", "four", "five", "six")[number]
    return Request(words="Count the things in this picture for me.", judge=says(rf"\b({number}|{words})\b"))


def repainted(scene: Scene) -> Request:
    """The first object in another colour, the others as they are."""
    first, *others = scene.objects
    colour = next(name for name in COLOURS if all(name != item.colour for item in scene.objects))
    wanted = [Filter(shape=first.shape, colour=colour)]
    wanted += [Filter(shape=item.shape, colour=item.colour) for item in others]
    return Request(words=f"Could you turn the {first.colour} {first.shape} {colour}?", judge=shows(*wanted))


DRAWN = Request(
    words="Please paint me two blue stars.",
    judge=shows(Filter(shape="star", colour="blue"), Filter(shape="star", colour="blue")),
)
CHAT = (
    Request(words="Hello! What can you do?", judge=says(r"draw|picture|question")),
    Request(
        words="/draw Draw a large red circle and a small blue star.",
        judge=shows(
            Filter(shape="circle", colour="red", size="large"),
            Filter(shape="star", colour="blue", size="small"),
        ),
    ),
    Request(words="What colour is the star?", judge=says(r"^\W*(it is |the star is )?blue\b")),
    Request(
        words="/edit Make the star green.",
        judge=shows(
            Filter(shape="circle", colour="red", size="large"),
            Filter(shape="star", colour="green", size="small"),
        ),
    ),
    Request(words="Get rid of the circle, please.", judge=shows(Filter(shape="star", colour="green"))),
)
