"""What counts as right, whatever its wording, and what does not."""

import pytest
from unified.eval.suites.ood.asking import Reply
from unified.eval.suites.ood.drawing_cases import Wish, shows
from unified.eval.suites.ood.maze_cases import maze_cases
from unified.eval.suites.ood.question_cases import question_cases
from unified.eval.suites.ood.scoring import fits_small_talk, refuses, says
from unified.tasks.scenes.scene import Filter, Scene, SceneObject


@pytest.mark.parametrize(
    ("kind", "text", "question", "said"),
    [
        ("colour", "red", "What colour is the circle?", "red"),
        (
            "colour",
            "The blue circle is red.",
            "What's the colour of the thing beside the blue circle?",
            "red",
        ),
        ("colour", "It is violet!", "", "purple"),
        ("colour", "I see.", "", None),
        ("shape", "That's a rhombus", "", "diamond"),
        ("size", "small", "Small, medium or large?", "small"),
        ("fill", "It is hollow.", "", "outline"),
        ("count", "There are two stars.", "", "2"),
        ("count", "2", "", "2"),
        ("count", "There are no stars.", "", "0"),
        ("count", "Two or three.", "", None),
        ("yes or no", "Yes, there is one.", "", "yes"),
        ("yes or no", "There is no star.", "", "no"),
        ("yes or no", "It isn't there.", "", "no"),
        ("yes or no", "Perhaps", "", None),
        ("where", "in the upper left corner", "", "top left"),
        ("where", "in the middle", "", "centre"),
        ("where", "at the bottom", "", "bottom centre"),
        ("side", "on its left", "", "left"),
        ("side", "left or right", "", None),
        ("object", "The red circle.", "", "red circle"),
        ("ground", "It's gray", "", "grey"),
        ("colour", "Seen: top left a red circle; centre nothing.", "", None),
        ("colour", "So red", "", None),
    ],
)
def test_answers_are_read_whatever_their_form(kind, text, question, said):
    assert says(kind, text, question) == said


@pytest.mark.parametrize(
    ("category", "text", "right"),
    [
        ("greeting", "Hello! What shall we do?", True),
        ("greeting", "1 of 1: a red circle in the centre.", False),
        ("greeting", "I am sorry, greetings are beyond me.", False),
        ("thanks", "You are welcome!", True),
        ("thanks", "", False),
        ("farewell", "Goodbye!", True),
        ("farewell", "red", False),
        ("abilities", "I can draw and edit pictures.", True),
        ("abilities", "I am sorry,", False),
        ("self", "I am a small model.", True),
        ("complaint", "Sorry, let me try again.", True),
    ],
)
def test_small_talk_is_of_its_category(category, text, right):
    assert fits_small_talk(category, text, 0) == right
    assert not fits_small_talk(category, text, 1), "and draws nothing"


def test_refusals_say_that_it_is_not_known():
    for text in (
        "I am sorry, poems are beyond me.",
        "I don\N{RIGHT SINGLE QUOTATION MARK}t know this figure.",
    ):
        assert refuses(text, 0)
        assert not refuses(text, 1)
    for text in ("It is a red cross.", "", "A photo of a dog.", "So I cannot."):
        assert not refuses(text, 0)


def test_drawings_need_all_objects_in_their_places():
    circle = SceneObject(shape="circle", colour="red", size="large", fill="solid", x=0.4, y=0.5)
    star = SceneObject(shape="star", colour="blue", size="small", fill="solid", x=0.8, y=0.2)
    one = Filter(shape="circle", colour="red")
    two = Filter(shape="star", colour="blue", size="small")
    both = Scene(objects=(star, circle))
    assert shows(both, Wish(objects=(one, two), cells=("centre", "top right"), relation="left"))
    assert shows(both, Wish(objects=(one, two), cells=("middle left", "")))
    assert not shows(both, Wish(objects=(one, two), cells=("bottom left", "")))
    assert not shows(both, Wish(objects=(one, two), cells=("", ""), relation="right"))
    assert not shows(both, Wish(objects=(one,), cells=("",)))
    assert not shows(both, Wish(objects=(one, one), cells=("", "")))


def test_true_answers_are_right_and_wrong_ones_are_not():
    for case in question_cases("test", 16):
        assert case.right(Reply(text=case.truth.split("/")[0])), case
        assert not case.right(Reply(text="")), case
        assert not case.right(Reply(text="I am not sure what to say")) or case.truth == "no", case


def test_mazes_need_actions_that_reach_the_goal():
    from unified.tasks.mazes.maze import plan

    case = next(iter(maze_cases("test", 1)))
    maze = case.right.__defaults__[0]
    assert case.right(Reply(text=f"<actions>{', '.join(plan(maze))}</actions>"))
    assert not case.right(Reply(text="<actions>turn left</actions>"))
    assert not case.right(Reply(text=""))
