"""Dead-end filling and the walk, as states and as pictures of tiles."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unified.tasks.mazes.filling import begin, fill, filling, step, walking
from unified.tasks.mazes.maze import Maze, plan, random_maze, random_walls, route
from unified.tasks.mazes.tiles import TILE, draw_tiles, patches, room, tile

SIZES = st.tuples(st.integers(3, 8), st.integers(3, 8))
SEEDS = st.integers(0, 2**32 - 1)


def make(seed, size):
    rng = np.random.default_rng(seed)
    return random_maze(rng, random_walls(rng, *size))


@settings(max_examples=60, deadline=None)
@given(SEEDS, SIZES, st.integers(1, 3))
def test_filling_leaves_the_way_and_nothing_else(seed, size, rounds):
    maze = make(seed, size)
    states = list(filling(maze, rounds))
    cells = set(product(range(maze.rows), range(maze.columns)))
    assert cells - states[-1].filled == set(route(maze))
    assert not states[-1].fresh
    assert all(state.fresh for state in states[:-1])
    for before, after in pairwise(states):
        assert after.filled == before.filled | before.fresh


@settings(max_examples=60, deadline=None)
@given(SEEDS, SIZES)
def test_the_walk_says_the_shortest_plan(seed, size):
    maze = make(seed, size)
    *_, filled = filling(maze)
    states = list(walking(filled))
    assert [state.action for state in states if state.action] == plan(maze)
    assert states[-1].passed == frozenset(route(maze)[:-1])
    moved = sum(after.pose.cell != before.pose.cell for before, after in pairwise([filled, *states]))
    assert moved == len(route(maze)) - 1


def test_two_rounds_a_sketch_halve_their_number():
    mazes = [make(seed, (5, 5)) for seed in range(40)]
    one, two = (np.mean([len(list(filling(maze, rounds))) for maze in mazes]) for rounds in (1, 2))
    assert two < 0.7 * one


def test_the_rule_is_local():
    """Where two mazes, or two states, agree on a cell and those around it, one round of filling does."""
    found, repeated = {}, 0
    for seed in range(60):
        maze = make(seed, (5, 5))
        for state in (begin(maze), *filling(maze, 1)):
            after = fill(state, 1)
            for row, column in product(range(5), range(5)):
                seen = around(state, row, column)
                repeated += seen in found
                assert found.setdefault(seen, (row, column) in after.fresh) == ((row, column) in after.fresh)
    assert repeated > 100


def around(state, row, column):
    """What a state shows of a cell and its neighbours."""
    near = product(range(row - 1, row + 2), range(column - 1, column + 2))
    return tuple(
        (
            state.maze.cells[r][c],
            (r, c) in state.filled | state.fresh,
            (r, c) in (state.maze.start, state.maze.goal),
        )
        if 0 <= r < 5 and 0 <= c < 5
        else None
        for r, c in near
    )


def test_the_walk_needs_a_single_way():
    maze = Maze(cells=("6ec", "555", "111"), start=(2, 0), heading=0, goal=(2, 1))
    *_, filled = filling(maze)
    *_, arrived = walking(filled)
    with pytest.raises(ValueError, match="0 ways lead on"):
        step(arrived)
    comb = Maze(cells=("6ec", "555", "111"), start=(0, 1), heading=0, goal=(2, 1))
    with pytest.raises(ValueError, match=r"3 ways lead on.*fill every dead end"):
        step(begin(comb))


@settings(max_examples=30, deadline=None)
@given(SEEDS, SIZES)
def test_every_patch_of_a_picture_is_in_the_codebook(seed, size):
    maze = make(seed, size)
    states = [begin(maze), *filling(maze)]
    states += walking(states[-1])
    known = {patch.tobytes() for patch in patches()}
    down, right = room(64, *size)
    for state in states:
        image = draw_tiles(state, 64, (down * TILE, right * TILE))
        cut = image.reshape(16, 4, 16, 4, 3).swapaxes(1, 2).reshape(-1, 4, 4, 3)
        assert all(patch.tobytes() in known for patch in cut)


def test_states_look_different():
    maze = make(0, (5, 5))
    states = [begin(maze), *filling(maze)]
    states += walking(states[-1])
    pictures = {draw_tiles(state, 40).tobytes() for state in states}
    assert len(pictures) == len(states)


def test_a_tile_shows_its_open_sides():
    closed, opened = tile(0, "free"), tile(0b0010, "free")
    assert (closed[1:7, 7] == 0).all()
    assert (opened[1:7, 7] == 255).all()
    assert (opened[1:7, 0] == 0).all()
    assert (opened[[0, 0, 7, 7], [0, 7, 0, 7]] == 0).all()  # posts


def test_a_picture_without_room_is_refused():
    assert room(64, 8, 5) == (0, 3)
    for size in (32, 60):
        with pytest.raises(ValueError, match="no room for 5x5 cells"):
            room(size, 5, 5)
