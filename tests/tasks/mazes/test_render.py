import numpy as np
import pytest
from unified.tasks.mazes.image_metrics import (
    last_image_verdict,
    last_image_verdict_corrected,
    layout_consistent,
)
from unified.tasks.mazes.lake import cross, plan, random_lake
from unified.tasks.mazes.maze import Pose, random_maze, random_walls, route, walk
from unified.tasks.mazes.render import BLACK, GOAL, PATH, START, WHITE, draw_lake, draw_maze, make_canvas
from unified.tasks.mazes.scoring import enlarge

COLOURS = {WHITE, BLACK, START, GOAL, PATH}


def mazes(count, shape, seed=0):
    rng = np.random.default_rng(seed)
    return [random_maze(rng, random_walls(rng, *shape)) for _ in range(count)]


def colours_of(image):
    return {tuple(int(x) for x in colour) for colour in np.unique(image.reshape(-1, 3), axis=0)}


@pytest.mark.parametrize("size", [64, 97, 224])
def test_pictures_have_five_pure_colours(size):
    maze = mazes(1, (3, 5))[0]
    before, after = draw_maze(maze, size), draw_maze(maze, size, route(maze))
    assert before.shape == after.shape == (size, size, 3)
    assert before.dtype == np.uint8
    assert colours_of(before) == COLOURS - {PATH}
    assert colours_of(after) == COLOURS
    lake = random_lake(np.random.default_rng(0), 5)
    assert colours_of(draw_lake(lake, size, cross(lake, plan(lake)).cells)) == COLOURS


@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (5, 3), (6, 8), (8, 8)])
@pytest.mark.parametrize("size", [64, 224])
def test_walls_and_passages_are_where_the_maze_says(size, shape):
    for maze in mazes(3, shape):
        canvas, image = make_canvas(size, *shape), draw_maze(maze, size)
        for r in range(shape[0]):
            for c in range(shape[1]):
                y, x = canvas.corner((r, c))
                middle = canvas.floor // 2
                ends = (
                    (y - 1, x + middle),
                    (y + middle, x + canvas.floor),
                    (y + canvas.floor, x + middle),
                    (y + middle, x - 1),
                )
                for heading, place in enumerate(ends):
                    assert tuple(image[place]) == (WHITE if maze.is_open((r, c), heading) else BLACK)


@pytest.mark.parametrize("shape", [(3, 3), (5, 4), (8, 8)])
@pytest.mark.parametrize("size", [64, 224])
def test_the_metric_accepts_the_solution_and_nothing_short_of_it(size, shape):
    for maze in mazes(6, shape, seed=size):
        path = route(maze)
        before, solved = enlarge(draw_maze(maze, size)), enlarge(draw_maze(maze, size, path))
        halfway = enlarge(draw_maze(maze, size, path[: len(path) // 2]))
        assert last_image_verdict(before, solved, solved).success
        assert last_image_verdict_corrected(before, solved, solved).success
        assert not last_image_verdict(before, solved, before).arrived
        assert not last_image_verdict(before, solved, halfway).arrived
        assert layout_consistent(before, solved)
        assert not layout_consistent(before, np.full_like(before, 255))


def test_a_state_image_marks_pose_and_keeps_start_and_goal():
    for maze in mazes(5, (5, 5)):
        done = walk(maze, ["turn left"] * 4)
        image = draw_maze(maze, 224, done.cells)
        assert np.array_equal(image, draw_maze(maze, 224))
        path = route(maze)
        facing = [draw_maze(maze, 224, path[:2], Pose(cell=path[1], heading=heading)) for heading in range(4)]
        assert len({image.tobytes() for image in facing}) == 4
        before = draw_maze(maze, 224)
        for image in facing:
            kept = (before != 255).any(-1) & (before != 0).any(-1)
            assert np.array_equal(image[kept], before[kept])
            assert {tuple(int(x) for x in colour) for colour in image[(image != before).any(-1)]} == {PATH}


@pytest.mark.parametrize("cells", range(3, 9))
def test_the_size_named_in_the_refusal_is_enough(cells):
    with pytest.raises(ValueError, match=f"use at least {8 * cells}"):
        make_canvas(5 * cells, cells, cells)
    assert make_canvas(8 * cells, cells, 3).pitch >= 7
