"""Mazes by other hands: one hand per trace, requests in other words, walls where they are."""

import numpy as np
from unified.tasks.mazes.maze import random_maze, random_walls, route
from unified.tasks.mazes.varied import VariedMaze
from unified.tasks.packing import content_digest
from unified.tasks.registry import make


def test_a_path_changes_nothing_but_its_cells():
    rng = np.random.default_rng(0)
    for seed in range(8):
        maze, hand = random_maze(rng, random_walls(rng, 5, 4)), VariedMaze(seed)
        hand.quality = 0
        before, after = hand.draw(maze, 64), hand.draw(maze, 64, route(maze))
        assert before.shape == (64, 64, 3)
        changed = (before != after).any(axis=-1).mean()
        assert 0.01 < changed < 0.08 * len(route(maze))


def test_a_wall_is_seen_where_it_stands():
    rng = np.random.default_rng(1)
    for seed in range(8):
        maze, hand = random_maze(rng, random_walls(rng, 5, 5)), VariedMaze(seed)
        hand.quality = 0
        cells = [[int(cell, 16) for cell in row] for row in maze.cells]
        cells[2][2] ^= 2  # its right side, and the left one of its neighbour
        cells[2][3] ^= 8
        other = type(maze)(
            cells=tuple("".join(f"{c:x}" for c in row) for row in cells),
            start=maze.start, heading=maze.heading, goal=maze.goal,
        )  # fmt: skip
        rows, columns = np.nonzero((hand.draw(maze, 64) != hand.draw(other, 64)).any(axis=-1))
        assert len(rows)
        assert np.ptp(columns) <= 5
        assert np.ptp(rows) <= 18


def test_samples_are_the_same_every_time_and_worded_differently():
    options = {"wording": "free", "renderer": "varied", "charted": True, "sizes": [[3, 3], [5, 5]]}
    first, second = (make("maze", **options) for _ in range(2))
    assert content_digest(first.sample(4)) == content_digest(second.sample(4))
    asked = {first.sample(index).messages[0]["content"][1]["text"].strip() for index in range(30)}
    assert len(asked) > 6
    assert first.sample(4).meta["actions"] == first.sample(4).meta["actions"]
