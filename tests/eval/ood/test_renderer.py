"""The second renderer shows what the description says, and the reader tells right edits from wrong ones."""

from dataclasses import replace

import numpy as np
import pytest
from unified.eval.suites.ood.edit_cases import CHANGES, edit_cases
from unified.eval.suites.ood.maze_painting import own_cells, paint_maze, shows_the_way
from unified.eval.suites.ood.painting import covered, paint
from unified.eval.suites.ood.pictures import FIGURES, UNKNOWN, framed
from unified.eval.suites.ood.reading import Change, carried_out, read
from unified.eval.suites.ood.scenes import show
from unified.eval.suites.ood.settings import MAZE_STYLES, PALETTES, STYLES
from unified.tasks.mazes.maze import random_maze, random_walls, route
from unified.tasks.mazes.render import draw_maze
from unified.tasks.sample import generator
from unified.tasks.scenes.scene import SHAPES, Scene, SceneObject

from unified.apps.pictures import fit

JPEG = STYLES[3]  # rotated, compressed, on a pastel ground


def one(shape="circle", **changed):
    given = {"colour": "red", "size": "large", "fill": "solid", "x": 0.25, "y": 0.75, **changed}
    return SceneObject(shape=shape, **given)


@pytest.mark.parametrize("shape", SHAPES)
def test_objects_stand_where_they_should(shape):
    style = replace(STYLES[0], size=(90, 120))
    ink, line = covered(one(shape, x=0.3, y=0.6), style)
    rows, columns = np.nonzero(ink > 0.5)
    assert not line.any()
    assert abs((columns.min() + columns.max() + 1) / 2 / 120 - 0.3) < 0.05
    assert abs((rows.min() + rows.max() + 1) / 2 / 90 - 0.6) < 0.05
    hollow, _ = covered(one(shape, x=0.3, y=0.6, fill="outline"), style)
    assert 0.2 < hollow.sum() / ink.sum() < 0.95
    assert (hollow <= ink + 1e-6).all()


def test_a_picture_has_the_colours_of_its_style():
    for style in STYLES:
        plain = replace(style, jpeg=0)
        image = paint(Scene(objects=(one("square", x=0.5, y=0.5),)), plain)
        assert image.shape == (*style.size, 3)
        height, width = style.size
        assert tuple(image[height // 2, width // 2]) == PALETTES[style.palette]["red"]
        assert np.abs(image[0, 0] - np.array(style.ground[0], float)).max() < 2
    assert (paint(Scene(), JPEG) != paint(Scene(), replace(JPEG, ground=STYLES[0].ground))).any()


def test_true_edits_are_right_and_pictures_left_alone_are_not():
    style, judged = replace(JPEG, size=(64, 64)), []
    rng = np.random.default_rng(3)
    for kind in CHANGES:
        found = None
        while found is None:
            shown = replace(show(rng, "test", STYLES.index(JPEG), second=True, most=2), style=style)
            found = CHANGES[kind](rng, shown, "test")
            found = found if found and (found[0].new is None or shown.holds(found[0].new.colour)) else None
        change = found[0]
        true, same = (fit(paint(scene, style), 64, 4) for scene in (change.after, change.before))
        judged.append(carried_out(change, read(true, style)))
        assert not carried_out(change, read(same, style)), kind
    assert all(judged)


def test_what_else_changed_makes_an_edit_wrong():
    style = replace(JPEG, size=(64, 64))
    kept, old = one("star", x=0.75, y=0.25), one()
    change = Change(
        kind="recolour", before=Scene(objects=(kept, old)), old=old, new=replace(old, colour="blue")
    )
    right = change.after.objects

    def judged(*objects, ground=style):
        return carried_out(change, read(paint(Scene(objects=objects), ground), style))

    assert judged(*right)
    assert not judged(right[1]), "the star is gone"
    assert not judged(*right, one("cross", x=0.75, y=0.75)), "there is a cross"
    assert not judged(replace(right[0], colour="green"), right[1]), "the star is green"
    assert not judged(right[0], replace(right[1], shape="square")), "the circle is a square"
    assert not judged(*right, ground=STYLES[1]), "the ground is black"


def test_cases_of_edits_use_every_kind_and_both_renderers():
    kinds = {case.kind for case in edit_cases("test", 12)}
    assert len(kinds) == 12


def test_mazes_keep_their_walls_and_sketches_are_read():
    rng = np.random.default_rng(1)
    maze = random_maze(rng, random_walls(rng, 4, 5))
    for style in MAZE_STYLES:
        image = paint_maze(maze, replace(style, jpeg=0))
        assert image.shape[1] > image.shape[0]
        at = {
            cell: (int(y * image.shape[0]), int(x * image.shape[1]))
            for cell, (y, x) in own_cells(maze, style).items()
        }
        for (row, column), (y, x) in at.items():
            if column + 1 < maze.columns and style.reach < 0.35:
                between = image[y, (x + at[row, column + 1][1]) // 2]
                wanted = style.floor if maze.is_open((row, column), 1) else style.wall_colour
                assert np.abs(between.astype(int) - wanted).max() < 40
        sketch = image.copy()
        assert not shows_the_way(sketch, maze, style)
        for cell in route(maze):
            y, x = at[cell]
            sketch[y - 3 : y + 4, x - 3 : x + 4] = (0, 0, 255)
        assert shows_the_way(sketch, maze, style)
        y, x = at[next(cell for cell in at if cell not in route(maze))]
        sketch[y - 3 : y + 4, x - 3 : x + 4] = (0, 0, 255)
        assert not shows_the_way(sketch, maze, style)
    first = draw_maze(maze, 64, route(maze))
    assert shows_the_way(first, maze, MAZE_STYLES[0])
    assert not shows_the_way(draw_maze(maze, 64), maze, MAZE_STYLES[0])


def test_other_pictures_are_pictures_and_the_same_every_time():
    for make in UNKNOWN.values():
        image = make(generator(0, "test", 3))
        assert image.dtype == np.uint8
        assert image.std() > 5
        assert (image == make(generator(0, "test", 3))).all()
    assert len(FIGURES) == 6
    inner = paint(Scene(objects=(one(),)), STYLES[4])
    for seed in range(4):
        sheet = framed(np.random.default_rng(seed), inner)
        rows, columns = sheet.shape[0] - inner.shape[0], sheet.shape[1] - inner.shape[1]
        assert rows > 0
        places = [(y, x) for y in range(rows + 1) for x in (columns // 2,)]
        assert any((sheet[y : y + inner.shape[0], x : x + inner.shape[1]] == inner).all() for y, x in places)
