"""Mazes by other hands: one hand per trace, requests in other words, walls where they are."""

import numpy as np
from unified.tasks.mazes.maze import HEADINGS, random_maze, random_walls, route
from unified.tasks.mazes.render import BLACK, WHITE
from unified.tasks.mazes.trace import free_prompt
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


def test_walls_are_seen_where_they_stand_and_nowhere_else():
    rng = np.random.default_rng(1)
    for seed in range(12):
        maze, hand = random_maze(rng, random_walls(rng, 5, 4)), VariedMaze(seed)
        floor, wall = hand.tones[WHITE].clip(0, 255), hand.tones[BLACK].clip(0, 255)
        hand.quality, hand.outside = 0, floor
        towards = (hand.draw(maze, 64) - floor) @ (wall - floor) / ((wall - floor) ** 2).sum()  # 1 at a wall
        rows, columns = (np.flatnonzero((towards > 0.3).any(axis=axis)) for axis in (1, 0))
        height, width = np.ptp(rows) / maze.rows, np.ptp(columns) / maze.columns
        for r in range(maze.rows):
            for c in range(maze.columns - 1):
                if {(r, c), (r, c + 1)} & {maze.start, maze.goal}:
                    continue  # an arrow may be as dark as a wall
                y, x = round(rows[0] + (r + 0.5) * height), round(columns[0] + (c + 1) * width)
                seen = towards[y, x - 2 : x + 3].max() > 0.3
                assert seen != maze.is_open((r, c), HEADINGS.index("right")), (seed, r, c)


def test_samples_are_the_same_every_time_and_worded_differently():
    options = {"wording": "free", "renderer": "varied", "charted": True, "sizes": [[3, 3], [5, 5]]}
    first, second = (make("maze", **options) for _ in range(2))
    assert content_digest(first.sample(4)) == content_digest(second.sample(4))
    rng = np.random.default_rng(2)
    assert len({free_prompt(rng) for _ in range(60)}) > 15
