"""What a painted picture comes to: the picture as the model reads it, and which codes stay."""

import numpy as np
import pytest

pytest.importorskip("gradio", reason="gradio is not installed")

from unified.web.examples import LARGE, enlarged, shrunk
from unified.web.showing import figure
from unified.web.tabs.editing import COLOUR, masked, picture_and_mask

PICTURE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
pytestmark = pytest.mark.slow  # gradio takes seconds to import


def editor(picture, painted=()):
    """An editor's value with the picture, some pixels of which are painted over."""
    background = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    layer = np.zeros_like(background)
    for row, column in painted:
        layer[row, column] = 255
    return {"background": background, "layers": [layer], "composite": background}


def test_a_thin_stroke_paints_the_codes_that_it_touches_anew(site):
    large = enlarged(PICTURE, LARGE)
    picture, keep = picture_and_mask(site, editor(large, [(3, 3), (190, 190)]), [])
    assert (picture == PICTURE).all(), "an enlarged example is read as it was"
    assert keep.shape == site.service.shapes((32, 32))[-1]
    anew = np.argwhere(keep.numpy() == 0).tolist()
    height, width = keep.shape
    assert anew == [[0, 0], [height - 1, width - 1]]
    assert (masked(picture, keep)[0, 0] == COLOUR).all()
    assert (masked(picture, keep)[0, -1] == picture[0, -1]).all()


def test_parts_are_named_instead(site):
    _, keep = picture_and_mask(site, editor(PICTURE), ["bottom right"])
    assert keep[-1, -1] == 0
    assert keep[0, 0] == keep[0, -1] == keep[-1, 0] == 1


def test_nothing_painted_is_no_mask_and_no_picture_is_refused(site):
    assert picture_and_mask(site, editor(PICTURE), [])[1] is None
    empty = {"background": np.zeros((8, 8, 4), np.uint8), "layers": []}
    for value in (None, {"background": None, "layers": []}, empty):
        with pytest.raises(ValueError, match="no picture"):
            picture_and_mask(site, value, [])


def test_other_pictures_are_not_shrunk_and_captions_are_text():
    assert shrunk(PICTURE) is PICTURE
    shown = figure(PICTURE, '<script>"', save_as="x.png")
    assert "<script>" not in shown
