from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from unified.tasks.mazes.maze import (
    ACTIONS,
    FORWARD,
    TURN_LEFT,
    TURN_RIGHT,
    Maze,
    go_forward,
    place,
    plan,
    random_maze,
    random_walls,
    route,
    walk,
)

SIZES = st.tuples(st.integers(3, 8), st.integers(3, 8))
SEEDS = st.integers(0, 2**32 - 1)

# Start bottom left facing up. The first column is a corridor up to a corner; the top row has a junction in
# its middle, which leads down to the goal at the end of the middle column.
#   +-----------+
#   |           |
#   |   |   |   |
#   | S |   |   |
#   |   | G |   |
COMB = Maze(cells=("6ec", "555", "111"), start=(2, 0), heading=0, goal=(2, 1))


def make(seed, size):
    rng = np.random.default_rng(seed)
    return random_maze(rng, random_walls(rng, *size))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, size=SIZES)
def test_a_random_maze_is_a_spanning_tree_and_its_plan_reaches_the_goal(seed, size):
    maze = make(seed, size)
    doors = sum(maze.is_open((r, c), h) for r in range(size[0]) for c in range(size[1]) for h in range(4))
    assert doors == 2 * (size[0] * size[1] - 1)
    actions = plan(maze)
    done = walk(maze, actions)
    assert done.reached
    assert done.fault is None
    assert done.cells == route(maze)
    assert len(set(done.cells)) == len(done.cells)
    assert len(actions) >= 3
    assert Maze.from_json(maze.to_json()) == maze


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, size=SIZES)
def test_forward_stops_where_the_path_decides_and_nowhere_else(seed, size):
    maze = make(seed, size)
    for r in range(size[0]):
        for c in range(size[1]):
            for heading in range(4):
                passed = go_forward(maze, (r, c), heading)
                kinds = [place(maze, cell, heading) for cell in passed]
                assert set(kinds[:-1]) <= {"corridor"}
                assert "corridor" not in kinds[-1:]
                assert bool(passed) == maze.is_open((r, c), heading)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_no_other_action_list_is_as_short(seed):
    maze = make(seed, (3, 3))
    label = plan(maze)
    assume(len(label) <= 7)
    shortest, frontier = [], [[]]
    while not shortest:
        frontier = [[*actions, action] for actions in frontier for action in ACTIONS]
        walks = [(actions, walk(maze, actions)) for actions in frontier]
        shortest = [actions for actions, done in walks if done.reached and len(done.steps) == len(actions)]
        frontier = [actions for actions, done in walks if done.fault is None and not done.reached]
    assert shortest == [label]


def test_actions_in_a_hand_made_maze():
    assert plan(COMB) == [FORWARD, TURN_RIGHT, FORWARD, TURN_RIGHT, FORWARD]
    assert walk(COMB, plan(COMB)).steps == [2, 0, 1, 0, 2]
    blocked = walk(COMB, [TURN_LEFT, FORWARD, FORWARD])
    assert (blocked.reached, blocked.steps, blocked.fault) == (False, [0], "wall ahead of (2, 0)")
    assert walk(COMB, ["fly"]).fault == "unknown action 'fly'"
    surplus = walk(COMB, [*plan(COMB), TURN_LEFT, "fly"])
    assert surplus.reached
    assert surplus.fault is None
    assert not walk(COMB, plan(COMB)[:-1]).reached


def test_turning_back_is_two_left_turns():
    away = Maze(cells=COMB.cells, start=(2, 0), heading=2, goal=(2, 1))
    assert plan(away)[:3] == [TURN_LEFT, TURN_LEFT, FORWARD]
    assert walk(away, plan(away)).reached


def test_all_192_small_mazes_are_equally_likely():
    rng = np.random.default_rng(0)
    counts = Counter(random_walls(rng, 3, 3) for _ in range(192 * 40))
    assert len(counts) == 192
    chi_square = sum((count - 40) ** 2 / 40 for count in counts.values())
    assert chi_square < 191 + 4 * np.sqrt(2 * 191)  # four standard deviations above the mean


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": ("6ec", "555")}, "3x3 to 8x8"),
        ({"cells": ()}, "3x3 to 8x8"),
        ({"cells": ("6ec", "555", "11")}, "equal length"),
        ({"cells": ("6ec", "555", "11g")}, "hexadecimal"),
        ({"cells": ("6ec", "555", "113")}, "leads nowhere"),
        ({"cells": ("6ec", "7d5", "111")}, "not a perfect maze"),
        ({"cells": ("6c4", "395", "2a9")}, "not a perfect maze"),
        ({"cells": ("68c", "545", "111")}, "leads nowhere"),
        ({"cells": ("4ac", "555", "111")}, "leads nowhere"),
        ({"start": (3, 0)}, "outside"),
        ({"goal": (2, 0)}, "same cell"),
        ({"heading": 4}, "heading"),
    ],
)
def test_bad_mazes_are_refused(change, message):
    good = {"cells": COMB.cells, "start": COMB.start, "heading": 0, "goal": COMB.goal}
    with pytest.raises(ValueError, match=message) as caught:
        Maze(**{**good, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data", [{}, {"cells": 3}, {**COMB.to_json(), "heading": "north"}, {**COMB.to_json(), "start": [1]}]
)
def test_bad_json_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        Maze.from_json(data)


def test_size_limits():
    rng = np.random.default_rng(0)
    for size in ((2, 3), (3, 9)):
        with pytest.raises(ValueError, match="3x3 to 8x8"):
            random_walls(rng, *size)
    with pytest.raises(ValueError, match="ask for fewer"):
        random_maze(rng, COMB.cells, min_actions=50)
