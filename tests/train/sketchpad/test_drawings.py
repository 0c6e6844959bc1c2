"""Drawings of Quick, Draw! as pictures, and what is wrong with others."""

import numpy as np
import pytest
import sketch_models as models
from unified.tasks.outside.faults import Faults
from unified.train.sketchpad.drawings import of_image, picture, read_drawings


def test_drawings_of_a_file_and_of_a_folder(strokes):
    found = read_drawings(strokes)
    assert len(found) == len(read_drawings(strokes.parent)) == 5
    assert found[0][0].shape == (6, 2)


def test_pictures_differ_in_all_that_is_drawn_anew(strokes):
    drawings = read_drawings(strokes)
    made = [picture(drawings, np.random.default_rng(seed), 56, 112) for seed in range(20)]
    assert all(one.pixels.shape == (56, 56, 3) and one.pixels.dtype == np.uint8 for one in made)
    assert all(one.shown.shape == (112, 112, 3) for one in made)
    assert {int(one.pixels[~one.foreground].max(initial=0)) for one in made} == {0, 255}
    assert all(0 < one.foreground.mean() < 1 for one in made)
    again = picture(drawings, np.random.default_rng(3), 56, 112)
    assert np.array_equal(again.pixels, made[3].pixels)
    assert not np.array_equal(made[0].pixels, made[1].pixels)


def test_the_background_of_a_picture_is_its_most_frequent_colour():
    pixels = np.full((16, 16, 3), 40, np.uint8)
    pixels[4:8, 4:8] = [200, 10, 10]
    found = of_image(pixels, 16)
    assert found.foreground.sum() == 16
    assert of_image(models.picture(0), 8).pixels.shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[", "not JSON"),
        ('{"word": "cat"}', "a drawing has the key drawing"),
        ('{"drawing": []}', "a drawing has the key drawing"),
        ('{"drawing": [[[1, 2], [3]]]}', "of one length"),
        ('{"drawing": [[[1, 300], [3, 4]]]}', "coordinates are numbers from 0 to 255"),
        ('{"drawing": [[["a"], [3]]]}', "coordinates are numbers"),
    ],
)
def test_a_malformed_drawing_names_its_line(strokes, line, said):
    good = strokes.read_text()
    strokes.write_text(good + line + "\n")
    with pytest.raises(ValueError, match=f"cats.ndjson line 6: .*{said}"):
        read_drawings(strokes)
    with pytest.warns(UserWarning, match="left out"):
        assert len(read_drawings(strokes, Faults("skip"))) == 5


def test_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no drawings"):
        read_drawings(tmp_path)
