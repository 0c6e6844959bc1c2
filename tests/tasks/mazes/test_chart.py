"""The chart in words: it says what the maze is, and the way it names is the way."""

import re
from itertools import product

import numpy as np
import pytest
from unified.tasks.mazes import MazeConfig, MazeTask
from unified.tasks.mazes.chart import JUNCTION, NAMES, SIDES, chart, name
from unified.tasks.mazes.maze import (
    FORWARD,
    HEADINGS,
    TURN_LEFT,
    TURN_RIGHT,
    Maze,
    neighbour,
    plan,
    random_maze,
    random_walls,
    route,
)
from unified.tasks.mazes.maze_task import MazeTextTask

MAZES = [
    random_maze(rng, random_walls(rng, rows, columns))
    for rng in [np.random.default_rng(5)]
    for rows, columns in ((3, 3), (3, 5), (5, 4), (5, 5), (8, 8))
    for _ in range(6)
]


def cells_by_name(maze):
    return {name(cell): cell for cell in product(range(maze.rows), range(maze.columns))}


def test_every_cell_has_its_own_name():
    assert len(set(NAMES)) == len(NAMES) == 64
    assert len({name(cell) for cell in product(range(8), range(8))}) == 64


@pytest.mark.parametrize("maze", MAZES, ids=range(len(MAZES)))
def test_the_map_alone_rebuilds_the_maze(maze):
    first, goal, start = chart(maze).splitlines()
    rows, columns, sides = re.fullmatch(r"Map of (\d) rows and (\d) columns:(.*)", first).groups()
    opened = re.findall(r"(\w|%|&)([\^>_<]+)", sides)
    assert len(opened) == int(rows) * int(columns)
    digits = [f"{sum(1 << SIDES.index(side) for side in found):x}" for _, found in opened]
    names = cells_by_name(maze)
    ends = re.match(r"To the goal \((.)\) from the start \((.)\):", goal).groups()
    assert start.startswith(f"From the start ({ends[1]}), facing ")
    said = Maze(
        cells=tuple(
            "".join(digits[row * maze.columns : (row + 1) * maze.columns]) for row in range(int(rows))
        ),
        goal=names[ends[0]],
        start=names[ends[1]],
        heading=HEADINGS.index(re.search(r"facing (\w+):", start)[1]),
    )
    assert said == maze


@pytest.mark.parametrize("maze", MAZES, ids=range(len(MAZES)))
def test_entries_lead_to_the_goal_and_the_way_follows_them(maze):
    _, goal, start = chart(maze).splitlines()
    names, known = cells_by_name(maze), {maze.goal}
    for cell, side, after in re.findall(r"(.)([\^>_<])(.);", goal.partition(":")[2]):
        assert neighbour(names[cell], SIDES.index(side)) == names[after]
        assert maze.is_open(names[cell], SIDES.index(side))
        assert names[after] in known
        known.add(names[cell])
    assert names[cell] == maze.start
    way = re.findall(r"(\w|%|&)(\+?)([\^>_<]?)([()]*)", start.partition(":")[2])
    assert [names[cell] for cell, *_ in way] == route(maze)
    turns = [{"(": TURN_LEFT, ")": TURN_RIGHT}[mark] for *_, marks in way for mark in marks]
    assert turns == [action for action in plan(maze) if action != FORWARD]
    for cell, mark, *_ in way:
        sides = sum(maze.is_open(names[cell], side) for side in range(4))
        assert bool(mark) == (sides >= JUNCTION)


def test_a_chart_is_wanted_or_not():
    with pytest.raises(ValueError, match="charted must be true or false"):
        MazeConfig(charted="yes")


def test_charted_traces_begin_with_the_chart_and_are_scored_alike():
    for make in (MazeTask, MazeTextTask):
        plain, charted = (make(MazeConfig(charted=flag)) for flag in (False, True))
        for index in range(4):
            sample, longer = plain.sample(index), charted.sample(index)
            answer, extended = (s.messages[1]["content"] for s in (sample, longer))
            maze = Maze.from_json(sample.meta["maze"])
            texts, told = ([item["text"] for item in c if item["type"] == "text"] for c in (answer, extended))
            assert len(extended) == len(answer)
            assert told[0].startswith(f"{chart(maze)}Next:")
            assert [re.sub(r"Next:.*\n", "", text.removeprefix(chart(maze))) for text in told] == texts
            assert charted.score(longer, extended) == plain.score(sample, answer)


def test_every_part_repeats_its_stretch_of_the_way():
    task, several = MazeTextTask(MazeConfig(charted=True, sizes=((5, 5),))), 0
    for index in range(12):
        sample = task.sample(index)
        text = sample.messages[1]["content"][0]["text"]
        way = re.search(r"facing \w+:(.*)\n", text)[1]
        parts = re.findall(r"Next:(.)(.*)\n.*\nFacing (\w+).*\n.*<actions>(.*)</actions>", text)
        joined = parts[0][1]
        for _, stretch, _, _ in parts[1:]:
            first = re.match(r"(\w|%|&)\+?", stretch)[0]
            assert joined.endswith(first)  # where the part before ended
            joined += stretch.removeprefix(first)
        assert joined == way
        for side, stretch, facing, actions in parts:
            turns = [{"(": TURN_LEFT, ")": TURN_RIGHT}[mark] for mark in stretch if mark in "()"]
            assert turns == [action for action in actions.split(", ") if action != FORWARD]
            assert HEADINGS[SIDES.index(side)] == facing
        several += len(parts) > 1
    assert several > 6
