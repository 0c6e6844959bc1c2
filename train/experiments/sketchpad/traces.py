"""The same mazes and pictures, told in four ways: words alone, a chart in words, paths, and filled dead ends.

A piece of a sketched trace begins at any of its sketches as if it had been given: a sketch holds all there is
to know, so that short pieces teach what long traces need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from unified.tasks.mazes.chart import chart
from unified.tasks.mazes.fill_task import MazeFillTask, corner_of, said, spoken, trace
from unified.tasks.mazes.filling import State
from unified.tasks.mazes.maze import Maze
from unified.tasks.mazes.maze_task import maze_of
from unified.tasks.mazes.tiles import draw_tiles
from unified.tasks.mazes.trace import cut_maze, user_content
from unified.tasks.sample import Sample
from unified.train.experiments.sketchpad.codec import PATCH, codes_of

from unified.stream.messages import Message, Stream

Content = list[dict[str, Any]]
PROMPTS = {
    "words": "Say the way from the green arrow to the red disc.",
    "chart": "Chart the maze, then say the way from the green arrow to the red disc.",
    "path": "Draw the way from the green arrow to the red disc, stretch by stretch.",
    "fill": "Find the way from the green arrow to the red disc: fill the dead ends, then walk.",
}


def words(sample: Sample, rng: np.random.Generator) -> Content:
    """All actions at once."""
    return [{"type": "text", "text": said(", ".join(sample.meta["actions"]))}]


def charted(sample: Sample, rng: np.random.Generator) -> Content:
    """A map, a search and the way in words, then all actions."""
    return [{"type": "text", "text": chart(maze_of(sample)) + words(sample, rng)[0]["text"]}]


def path(sample: Sample, rng: np.random.Generator) -> Content:
    """A sketch for each stretch of 3 to 6 actions, the cells passed grey, then the actions of the stretch."""
    maze = maze_of(sample)
    content: Content = []
    states = runs(maze)
    done = 0
    for length in cut_maze(rng, sample.meta["actions"]):
        picture = draw_tiles(states[done + length - 1], sample.meta["image_size"], corner_of(sample))
        told = ", ".join(sample.meta["actions"][done : done + length])
        content += [{"type": "image", "image": picture}, {"type": "text", "text": said(told)}]
        done += length
    return content


def fill(sample: Sample, rng: np.random.Generator) -> Content:
    """Dead ends are filled, then the way is walked (`tasks.mazes.fill_task`)."""
    states = trace(maze_of(sample), sample.meta["rounds"])
    pictures = [draw_tiles(one, sample.meta["image_size"], corner_of(sample)) for one in states]
    return spoken(states, pictures)


FORMS: dict[str, Callable[[Sample, np.random.Generator], Content]] = {
    "words": words,
    "chart": charted,
    "path": path,
    "fill": fill,
}


def runs(maze: Maze) -> list[State]:
    """For each action of the solution, the state in which it is done, with nothing filled."""
    found: list[State] = []
    for state in trace(maze, 2):
        if state.mark == "start":
            continue
        plain = replace(state, filled=frozenset())
        found = [*found, plain] if state.action else [*found[:-1], plain]
    return found


def question(form: str, picture: Any) -> list[Message]:
    """The request of a form about a picture, pixels or an item of codes."""
    content = user_content(PROMPTS[form], picture)
    if isinstance(picture, dict):
        content[0] = picture
    return [{"role": "user", "content": content}]


@dataclass(frozen=True)
class Told:
    """A trace in codes: the `question`'s picture and those of the sketches [n + 1, R], and the words said
    before the first sketch, between two and after the last (n + 1 texts, "" for none)."""

    pictures: np.ndarray
    texts: list[str]

    def __len__(self) -> int:
        return len(self.pictures) - 1


def told(form: str, task: MazeFillTask, index: int, split: str = "train") -> Told:
    """The trace of one sample in codes."""
    sample = task.sample(index, split)
    rng = np.random.default_rng([index, 7])
    picture = sample.messages[0]["content"][0]["image"]
    pictures, texts = [codes_of(picture)], [""]
    for item in FORMS[form](sample, rng):
        if item["type"] == "image":
            pictures.append(codes_of(item["image"]))
            texts.append("")
        else:
            texts[-1] += item["text"]
    return Told(np.stack(pictures), texts)


def sketches(form: str, sample: Sample) -> list[np.ndarray]:
    """The codes of the sketches of a sample's own trace."""
    rng = np.random.default_rng(0)
    return [codes_of(item["image"]) for item in FORMS[form](sample, rng) if item["type"] == "image"]


@dataclass(frozen=True)
class Piece:
    """Ids of a piece of a trace, and from which place on they are no targets: the turn of an unfinished piece
    ends there, where the trace begins its next sketch."""

    ids: list[int]
    stop: int


def parts(one: Told, first: int, most: int) -> tuple[list[int | str], bool]:
    """Numbers of pictures and words, as they follow picture `first`, of at most `most` sketches; and whether
    the trace ends there. What is said after the picture that a piece begins with belongs to the piece
    before, unless it leads to the next sketch."""
    last = min(first + most, len(one))
    found: list[int | str] = []
    for number in range(first, last + 1):
        if number > first:
            found.append(number)
        spoken_on = number > first or first == 0 or not is_read_off(one.texts[number])
        if one.texts[number] and spoken_on:
            found.append(one.texts[number])
    return found, last == len(one)


def piece(stream: Stream, form: str, one: Told, first: int, most: int) -> Piece:
    """From picture `first` on, at most `most` sketches."""
    found, ends = parts(one, first, most)
    content: Content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else image_item(one.pictures[part], drawn=True)
        for part in found
    ]
    asked = question(form, image_item(one.pictures[first]))
    ids = stream.encode([*asked, {"role": "assistant", "content": content}])
    return Piece(ids, len(ids) if ends else len(ids) - 1)


def image_item(codes: np.ndarray, *, drawn: bool = False) -> dict[str, Any]:
    """A square picture by its codes, as the stream takes it."""
    side = round(len(codes) ** 0.5)
    item = {"type": "image", "codes": codes.tolist(), "shapes": [[side, side]]}
    return {**item, "order": "next_scale"} if drawn else item


def pairs(traces: Sequence[Told]) -> Iterator[tuple[np.ndarray, str, np.ndarray]]:
    """Every sketch with the picture before it and the words between: (codes, words, codes)."""
    for one in traces:
        for number in range(len(one)):
            yield one.pictures[number], one.texts[number], one.pictures[number + 1]


def side_of(task: MazeFillTask) -> int:
    """Codes a side of the task's pictures."""
    return task.config.image_size // PATCH


def is_read_off(text: str) -> bool:
    """Whether a text says what the picture before it shows."""
    return text.startswith("<actions>")
