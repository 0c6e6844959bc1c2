"""What the compositional experiment asks of pictures of the ground."""

import numpy as np
import pytest
from unified.eval.lab.experiments.t2i_compbench import CATEGORIES, clauses, relation, scores, shuffled
from unified.eval.lab.ground import scenes as told

SCENES = [told.scene(number, "validation") for number in range(24)]


def test_true_pictures_are_right_in_every_category():
    found = scores(SCENES, told.pictures(SCENES))
    assert set(found) == set(CATEGORIES)
    assert min(found.values()) == 100


def test_pictures_of_other_captions_are_wrong():
    found = shuffled(SCENES, told.pictures(SCENES))
    assert found.pop("counting") == 100  # shuffled among those of as many objects
    assert max(found.values()) <= 70


def test_blank_pictures_show_nothing():
    blank = np.full((len(SCENES), told.SIDE, told.SIDE, 3), 255, dtype=np.uint8)
    assert max(scores(SCENES, blank).values()) == 0


def test_a_relation_and_its_converse():
    pair = next(scene.objects for scene in SCENES if len(scene.objects) == 2)
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    assert relation(*pair) == opposite[relation(*reversed(pair))]


@pytest.mark.parametrize("scene", SCENES[:8])
def test_tasks_of_two_objects_need_two_shapes(scene):
    two = len({item.shape for item in scene.objects}) == 2
    assert ("position" in clauses(scene)) == ("two_object" in clauses(scene)) == two
