"""Interleaved traces: text with an `<actions>` tag, the picture of the state reached, and so on to the
answer.

The form is that of Latent Sketchpad (arXiv 2510.24514): every part announces its number of steps, describes
the way ahead, lists its actions and is followed by a state image; a fixed sentence closes the trace. A part
has 3 to 6 actions (the paper says 4 to 6, the released prompts show 3). The text before an image ends with
`</actions>`, where the published model is forced to draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from unified.tasks.grammar import one_of
from unified.tasks.hand import typed
from unified.tasks.mazes.chart import stretch
from unified.tasks.mazes.lake import Lake, cross
from unified.tasks.mazes.maze import FORWARD, HEADINGS, TURN_LEFT, Cell, Maze, Pose, go_forward, place, walk
from unified.tasks.mazes.render import draw_lake, draw_maze

CLOSING = "The inference process is complete."
FEWEST, MOST = 3, 6
Draw = Callable[[Maze, int, Sequence[Cell], Pose | None], np.ndarray]  # as `draw_maze`

MAZE_PROMPT = (
    "Find the actions that lead from the green arrow to the red disc in this maze. "
    "Black lines are walls, white is free. "
    'Each action is one of: "go forward" (move straight until the next turn or junction), '
    '"turn left" and "turn right" (rotate in place).'
)
LAKE_PROMPT = (
    "Find the actions that lead from the green disc to the red disc over this frozen lake "
    "of {rows}x{columns} tiles. Black discs are holes, white is ice. "
    'Each action is one of: "left", "down", "right", "up" (move one tile).'
)
FREE_PROMPTS = (
    "[solve|please solve|can you solve|could you solve|help me solve] [this|the] [maze|labyrinth]",
    (
        "[find|show me|what is|search for] the way [from the [start|arrow|green arrow] to the "
        "[goal|end|red disc]|out|through][ in this maze|]"
    ),
    "how do I get [to the goal|from the start to the goal|to the red disc|out of this maze]?",
    "[which|what] [actions|steps|moves] lead to the [goal|red disc|end]?",
    "[find|give me] the [path|route|way][ through the maze| to the goal|]",
    "[lead|guide|bring] [me|the arrow] to the [goal|red disc|end]",
    "[navigate|go through] [this|the] maze",
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One state of a trace: its actions, the way they take in words, the picture afterwards [H, W, 3] uint8,
    and its stretch of the chart's way, if there is one."""

    actions: list[str]
    description: str
    sketch: np.ndarray
    stretch: str = ""


def free_prompt(rng: np.random.Generator) -> str:
    """The request of a maze, half of the time in other words."""
    return MAZE_PROMPT if rng.random() < 0.5 else typed(rng, one_of(rng, FREE_PROMPTS))


def cut(rng: np.random.Generator, actions: Sequence[str], stops: Sequence[bool]) -> list[int]:
    """Random lengths of the parts: 3 to 6 each, ending where `stops` (per action) allows it. Up to 6
    actions are one part; only then, or where `stops` leaves no other choice, can a part be outside 3 to
    6."""
    lengths: list[int] = []
    while (done := sum(lengths)) < len(actions):
        left = len(actions) - done
        fits = [n for n in range(FEWEST, MOST + 1) if n <= left - FEWEST and stops[done + n - 1]]
        lengths.append(int(rng.choice(fits)) if left > MOST and fits else left)
    return lengths


def cut_maze(rng: np.random.Generator, actions: Sequence[str]) -> list[int]:
    """Parts end after a `go forward`, so that every state image differs from the one before."""
    return cut(rng, actions, [action == FORWARD for action in actions])


def cut_lake(rng: np.random.Generator, actions: Sequence[str]) -> list[int]:
    return cut(rng, actions, [True] * len(actions))


def maze_parts(
    maze: Maze,
    actions: Sequence[str],
    lengths: Sequence[int],
    image_size: int,
    charted: bool = False,
    draw: Draw = draw_maze,
) -> list[Part]:
    """The parts of a maze trace; `actions` must reach the goal. `draw` makes the sketches."""
    parts: list[Part] = []
    done = 0
    for length in lengths:
        before = walk(maze, list(actions[:done]))
        after = walk(maze, list(actions[: done + length]))
        part = list(actions[done : done + length])
        sketch = draw(maze, image_size, after.cells, None if after.reached else after.pose)
        words = _describe_corridor(maze, before.pose, part)
        cells = after.cells[len(before.cells) - 1 :]
        way = stretch(maze, cells, before.pose.heading) if charted else ""
        parts.append(Part(actions=part, description=words, sketch=sketch, stretch=way))
        done += length
    return parts


def lake_parts(lake: Lake, actions: Sequence[str], lengths: Sequence[int], image_size: int) -> list[Part]:
    """The parts of a lake trace; `actions` must reach the goal."""
    cells = cross(lake, list(actions)).cells
    parts: list[Part] = []
    done = 0
    for length in lengths:
        part = list(actions[done : done + length])
        done += length
        here = None if cells[done] == lake.goal else cells[done]
        sketch = draw_lake(lake, image_size, cells[: done + 1], here)
        parts.append(
            Part(actions=part, description=_describe_crossing(lake, cells[done], part), sketch=sketch)
        )
    return parts


def user_content(prompt: str, picture: np.ndarray) -> list[dict[str, Any]]:
    return [{"type": "image", "image": picture}, {"type": "text", "text": f"\n{prompt}\n"}]


def assistant_content(parts: Sequence[Part], opening: str = "") -> list[dict[str, Any]]:
    """Alternating text and image items, then the answer and the closing sentence. `opening` comes first."""
    content: list[dict[str, Any]] = []
    for index, part in enumerate(parts):
        text = part_text(part)
        content.append({"type": "text", "text": f"\n{text}" if index else opening + text})
        content.append({"type": "image", "image": part.sketch})
    answer = ", ".join(action for part in parts for action in part.actions)
    content.append({"type": "text", "text": f"\n<answer>{answer}</answer>\n{CLOSING}"})
    return content


def part_text(part: Part) -> str:
    way = f"Next:{part.stretch}\n" if part.stretch else ""
    return (
        f"{way}Now, let's reason through the next {len(part.actions)} steps.\n{part.description}\n"
        f"The actions of this part are <actions>{', '.join(part.actions)}</actions>"
    )


def without_sketches(content: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same text as one item, images left out."""
    return [{"type": "text", "text": text_of(content)}]


def text_of(content: Sequence[dict[str, Any]]) -> str:
    return "".join(item["text"] for item in content if item["type"] == "text")


def images_of(content: Sequence[dict[str, Any]]) -> list[np.ndarray]:
    return [item["image"] for item in content if item["type"] == "image"]


def _describe_corridor(maze: Maze, pose: Pose, actions: Sequence[str]) -> str:
    """What the part passes: "Facing up, the path turns left, goes 2 cells to a corner." """
    facing, phrases = HEADINGS[pose.heading], []
    for action in actions:
        if action == FORWARD:
            passed = go_forward(maze, pose.cell, pose.heading)
            where = place(maze, passed[-1], pose.heading)
            target = "the goal" if where == "goal" else f"a {where}"
            phrases.append(f"goes {_count(len(passed), 'cell')} to {target}")
            pose = Pose(cell=passed[-1], heading=pose.heading)
        else:
            turn = -1 if action == TURN_LEFT else 1
            phrases.append(action.replace("turn", "turns"))
            pose = Pose(cell=pose.cell, heading=(pose.heading + turn) % 4)
    return f"Facing {facing}, the path {', '.join(phrases)}."


def _describe_crossing(lake: Lake, end: tuple[int, int], actions: Sequence[str]) -> str:
    """Runs of equal moves and where they end: "The path goes 2 tiles down, 1 tile right, to row 3, column
    2." """
    moves = ", ".join(f"{_count(len(list(run)), 'tile')} {action}" for action, run in groupby(actions))
    target = "the goal" if end == lake.goal else f"row {end[0] + 1}, column {end[1] + 1}"
    return f"The path goes {moves}, to {target}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
