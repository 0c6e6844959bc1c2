"""T2I-CompBench's scores on detections, depths and answers whose score is known."""

import numpy as np
import pytest
from unified.eval.metrics.compbench import (
    Rules,
    attribute_score,
    depth_rule,
    depth_score,
    distinct,
    number_score,
    plane_rule,
    plane_score,
    released_depth,
    score_attributes,
    three_in_one,
)
from unified.eval.metrics.compbench_prompts import (
    Word,
    complex_names,
    numbered,
    questions,
    relation,
    simple_names,
)
from unified.eval.metrics.detections import Detection


def box(x, y, size=100.0):
    return (x, y, x + size, y + size)


def words(text):
    """Words with their tags ("cup/NOUN"); a word without a tag is of another part of speech."""
    pairs = (part.partition("/") for part in text.split())
    return [Word(text, tag or "X") for text, _, tag in pairs]


@pytest.mark.parametrize(
    ("held", "at", "score"),
    [
        ("next to", (0, 400), 1.0),
        ("near", (300, 400), 150 / 400),
        ("on the left of", (200, 0), 1.0),
        ("on the left of", (-200, 0), 0.0),
        ("on the right of", (-200, 100), 1.0),
        ("on the top of", (100, 200), 1.0),
        ("on the bottom of", (0, -50), 0.1 / (1 / 3)),
        ("on the left of", (200, 200), 0.0),
        ("on top of", (0, 200), 0.0),
        (None, (0, 200), 0.0),
    ],
)
def test_relations_in_the_plane(held, at, score):
    assert plane_rule(held, box(0, 0), box(*at)) == pytest.approx(score)


def test_the_distance_that_is_near_follows_the_image():
    assert plane_rule("near", box(0, 0), box(300, 400), Rules(near=75)) == 75 / 400


def test_one_object_alone_never_scores_in_the_plane():
    cup, bird = Detection("cup", box(0, 0), 0.8), Detection("bird", box(200, 0), 0.6)
    assert plane_score(["cup", "bird"], "on the left of", [cup, bird]) == pytest.approx(0.85)
    assert plane_score(["cup", "bird"], "on the right of", [cup, bird]) == 0
    assert plane_score(["cup", "bird"], "on the left of", [cup]) == 0
    assert depth_score(["cup", "bird"], "behind", [cup]) == pytest.approx(0.2)


def test_depth_needs_overlap_and_order():
    near, far = Detection("cup", box(0, 0), depth=0.9), Detection("bird", box(20, 0), depth=0.2)
    assert depth_rule("in front of", near, far) == 1
    assert depth_rule("behind", near, far) == 0
    assert depth_rule("hidden", far, near) == 1
    aside = Detection("bird", box(60, 0), depth=0.2)
    assert depth_rule("in front of", near, aside) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="needs the depth"):
        depth_rule("behind", near, Detection("bird", box(0, 0)))


def test_the_released_depth_takes_x_as_row():
    depths = np.arange(12.0).reshape(3, 4)
    assert released_depth(depths, (1, 0, 3, 2)) == depths[1:3, 0:2].mean()
    assert np.isnan(released_depth(depths, (5, 0, 6, 2)))


def test_numbers_count_distinct_objects():
    cups = [Detection("cup", box(0, 0)), Detection("cup", box(1, 1)), Detection("cup", box(300, 0))]
    assert [one.box[0] for one in distinct(cups)] == [0, 300]
    assert number_score([("cup", 2)], cups) == 1
    assert number_score([("cup", 3), ("bird", 1)], cups) == 0.25
    assert number_score([("girl", 1)], [Detection("person", box(0, 0))]) == 1
    assert number_score([("table", 1)], [Detection("dining table", box(0, 0))]) == 1
    assert number_score([], cups) == 0


def test_prompts_are_read_by_tagged_words():
    simple = words("a red/ADJ cup/NOUN next to a girl/NOUN")
    assert simple_names(simple) == ["cup", "person"]
    assert simple_names(words("nothing here")) == []
    assert complex_names(words("the cup/NOUN was on top of the red/ADJ bird/NOUN today")) == ["cup", "bird"]
    assert complex_names(words("the cup/NOUN next to New/PROPN York/PROPN City/PROPN of")) == ["cup", "City"]
    assert complex_names(words("cup/NOUN near bird/NOUN near dog/NOUN")) == []
    assert relation("a cup on the left of a bird") == "on the left of"
    assert relation("a cup") is None


def test_numbers_of_a_prompt():
    known = {"cup": "cups", "fish": "fish", "traffic light": "traffic lights"}
    found = numbered(
        ["two", "cups", "and", "a", "fish", "and", "three", "traffic", "lights", "near", "six", "dogs"], known
    )
    assert found == [("cup", 2), ("fish", 1), ("traffic light", 3)]


def test_attributes_are_a_product_of_answers():
    assert questions(["a cup", "the left", "a bird"])[:3] == ["a cup?", "a bird?", ""]
    assert attribute_score([0.5, 0.25]) == 0.125
    assert attribute_score([]) == 1

    class Half:
        def yes(self, image, question):
            return 0.5

    assert score_attributes(Half(), np.zeros((2, 2, 3), np.uint8), ["a", "b", "top"]) == 0.25


def test_complex_prompts_average_what_concerns_them():
    scores = {"attribute": [0.6, 0.6, 0.6], "spatial": [0.2, 0.2, 0.2], "action": [0.1, 0.1, 0.1]}
    found = three_in_one(["On A.", "Does b.", "c"], ["on a"], ["does B."], scores, images=1)
    assert found == pytest.approx([0.4, 0.35, 0.3])
    with pytest.raises(ValueError, match="need 30 scores of attribute"):
        three_in_one(["a", "b", "c"], [], [], scores)
