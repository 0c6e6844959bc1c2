"""GenEval's rules on detections whose judgement is known, and on pictures of scenes read by the scene
parser."""

from dataclasses import replace

import pytest
from unified.eval.metrics.detections import Detection, iou
from unified.eval.metrics.geneval import Row, Rules, judge, relations, score_image, summarise
from unified.eval.scene_detector import SceneDetector, metadata
from unified.tasks.scenes.drawing import Demand, Prompt
from unified.tasks.scenes.render import render
from unified.tasks.scenes.scene import Filter, Scene, SceneObject

COLOURS = ("red", "green", "blue")


def found(label, x, y, score=0.95, colour=None, size=20.0):
    colours = {name: float(name == colour) for name in COLOURS} if colour else {}
    return Detection(label, (x, y, x + size, y + size), score, colours)


def include(*clauses, **more):
    return {"tag": "two_object", "include": list(clauses), **more}


def test_a_box_at_the_threshold_does_not_count():
    clause = include({"class": "cup", "count": 1})
    assert not judge(clause, [found("cup", 0, 0, 0.3)]).correct
    assert judge(clause, [found("cup", 0, 0, 0.31)]).correct
    assert judge(clause, [found("cup", 0, 0, 0.3)], Rules(threshold=0.29)).correct


def test_counting_has_its_own_threshold_and_excludes_one_more():
    clauses = {
        "tag": "counting",
        "include": [{"class": "cup", "count": 2}],
        "exclude": [{"class": "cup", "count": 3}],
    }
    cups = [found("cup", 40 * n, 0) for n in range(3)]
    assert judge(clauses, cups[:2]).correct
    assert judge(clauses, cups).reason == "expected cup<3, found 3"
    assert judge(clauses, [*cups[:2], found("cup", 90, 0, 0.8)]).correct


def test_colours_are_asked_of_the_best_boxes_alone():
    cups = [found("cup", 0, 0, 0.9, "red"), found("cup", 40, 0, 0.8, "blue")]
    assert judge(include({"class": "cup", "count": 1, "color": "red"}), cups).correct
    judged = judge(include({"class": "cup", "count": 1, "color": "blue"}), cups)
    assert judged.reason == "expected blue cup>=1, found 0 blue; and 1 red"
    with pytest.raises(ValueError, match="read no colour of the cup"):
        judge(include({"class": "cup", "count": 1, "color": "red"}), [found("cup", 0, 0)])


@pytest.mark.parametrize(
    ("offset", "held"),
    [((0, 0), []), ((6, 0), []), ((8, 0), []), ((8.1, 0), ["left of"]), ((-9, 0), ["right of"]),
     ((0, 9), ["above"]), ((0, -9), ["below"]), ((90, -90), ["left of", "below"])],
)  # fmt: skip
def test_relations_need_twice_the_dead_zone(offset, held):
    a, b = (0, 0, 20, 20), (offset[0], offset[1], offset[0] + 20, offset[1] + 20)
    assert relations(a, b) == held  # the dead zone is 0.1 of both sizes: 4


def test_positions_are_those_to_an_earlier_clause():
    clauses = include({"class": "cup", "count": 1}, {"class": "bird", "count": 1, "position": ["above", 0]})
    assert judge(clauses, [found("cup", 0, 100), found("bird", 0, 0)]).correct
    assert judge(clauses, [found("cup", 0, 0), found("bird", 0, 100)]).reason == (
        "expected bird above target, found below target"
    )
    assert "no target for bird to be above" in judge(clauses, [found("bird", 0, 0)]).reason
    with pytest.raises(ValueError, match="not an earlier one"):
        judge(include({"class": "cup", "count": 1, "position": ["above", 0]}), [found("cup", 0, 0)])


def test_overlaps_are_removed_only_where_that_is_asked_for():
    cups = [found("cup", 0, 0), found("cup", 1, 0, 0.92)]
    assert len(judge(include(), cups).kept["cup"]) == 2
    assert len(judge(include(), cups, Rules(max_overlap=0.5)).kept["cup"]) == 1
    assert iou((0, 0, 9, 9), (0, 0, 9, 4), 1) == 0.5
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_the_overall_score_is_the_mean_of_tasks_not_of_images():
    rows = [Row("a", "1", True), Row("b", "2", False), Row("b", "2", False), Row("b", "3", True)]
    summary = summarise(rows)
    assert summary.overall == pytest.approx((1 + 1 / 3) / 2)
    assert (summary.images, summary.prompts) == ((2, 4), (2, 3))
    with pytest.raises(ValueError, match="no images"):
        summarise([])


def wish(shape, colour=None):
    return Demand(wanted=Filter(shape=shape, colour=colour))


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(category="single_object", demands=(wish("circle"),)),
        Prompt(category="two_objects", demands=(wish("circle"), wish("square"))),
        Prompt(category="counting", demands=(wish("circle"), wish("circle"))),
        Prompt(category="colours", demands=(wish("square", "blue"),)),
        Prompt(category="colour_attribution", demands=(wish("square", "blue"), wish("circle", "red"))),
        Prompt(category="position", demands=(wish("circle"), wish("square")), relation="left"),
    ],
    ids=lambda prompt: prompt.category,
)
def test_pictures_of_scenes_are_judged_by_what_they_show(prompt):
    pytest.importorskip("skimage")
    detector, clauses = SceneDetector(score=1.0), metadata(prompt)
    count = 2 if prompt.category == "counting" else 1
    circles = [circle(x) for x in (0.2, 0.5)[:count]]
    right = Scene(objects=(*circles, replace(circles[0], shape="square", colour="blue", x=0.8)))
    wrong = Scene(objects=(replace(circles[0], shape="star", colour="green"),))
    assert score_image(detector, render(right, 64), clauses).correct
    assert not score_image(detector, render(wrong, 64), clauses).correct
    assert not score_image(detector, render(Scene(), 64), clauses).correct


def circle(x):
    return SceneObject(shape="circle", colour="red", size="medium", fill="solid", x=x, y=0.5)


def test_geneval_has_no_complete_prompts():
    with pytest.raises(ValueError, match="no prompts of 'complete'"):
        metadata(Prompt(category="complete", demands=(wish("circle"),)))
