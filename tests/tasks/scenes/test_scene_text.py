"""Questions, captions, prompts and edits: right by construction, balanced, and judged without a model."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from unified.tasks.scenes.asking import KINDS, YES_NO, ask, questions_about
from unified.tasks.scenes.captions import DETAILS, caption, mentions, score_caption
from unified.tasks.scenes.drawing import (
    CATEGORIES,
    Demand,
    Prompt,
    category_wish,
    demand,
    prompt_text,
    score_drawing,
)
from unified.tasks.scenes.editing import KINDS as EDITS
from unified.tasks.scenes.editing import Edit, apply, instruct, score_edit
from unified.tasks.scenes.generate import HELD_OUT, belongs, fits, random_scene
from unified.tasks.scenes.questions import Query, answer
from unified.tasks.scenes.relations import CELL_NAMES
from unified.tasks.scenes.scene import COLOURS, SHAPES, Filter, Scene, SceneObject
from unified.tasks.scenes.scene_tasks import SceneQuestion
from unified.tasks.scenes.words import normal


def item(words, x, y):
    size, fill, colour, shape = words.split()
    return SceneObject(shape=shape, colour=colour, size=size, fill=fill, x=x, y=y)


SCENE = Scene(
    background="sage",
    objects=(
        item("large solid red circle", 0.25, 0.25),
        item("small outline blue star", 0.75, 0.25),
        item("small solid red square", 0.75, 0.8),
    ),
)
RED, BLUE, STAR, SQUARE = (
    Filter(colour="red"),
    Filter(colour="blue"),
    Filter(shape="star"),
    Filter(shape="square"),
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(kind="existence", subject=RED), "yes"),
        (Query(kind="existence", subject=Filter(colour="blue", shape="circle")), "no"),
        (Query(kind="count", subject=RED), "2"),
        (Query(kind="count"), "3"),
        (Query(kind="colour", subject=STAR), "blue"),
        (Query(kind="shape", subject=BLUE), "star"),
        (Query(kind="size", subject=BLUE), "small"),
        (Query(kind="fill", subject=BLUE), "outline"),
        (Query(kind="where", subject=SQUARE), "bottom right"),
        (Query(kind="relation", subject=STAR, other=SQUARE, detail="above"), "yes"),
        (Query(kind="relation", subject=STAR, other=SQUARE, detail="below"), "no"),
        (Query(kind="side", subject=BLUE, other=Filter(shape="circle"), detail="left or right"), "right"),
        (Query(kind="object", subject=Filter(size="large")), "red circle"),
        (Query(kind="extreme", detail="lowest"), "red square"),
        (Query(kind="neighbour", other=STAR, detail="below"), "red square"),
        (Query(kind="more", subject=RED, other=BLUE, detail="more"), "yes"),
        (Query(kind="more", subject=RED, other=BLUE, detail="fewer"), "no"),
        (Query(kind="larger", subject=SQUARE, other=Filter(shape="circle"), detail="larger"), "no"),
        (Query(kind="same", subject=SQUARE, other=Filter(shape="circle"), detail="colour"), "yes"),
        (Query(kind="background"), "sage"),
    ],
)
def test_answers(query, expected):
    if query.kind == "neighbour":
        scene = replace(SCENE, objects=(SCENE.objects[1], SCENE.objects[2]))
        assert answer(query, scene) == expected
    else:
        assert answer(query, SCENE) == expected
    assert Query.from_json(query.to_json()) == query


def test_every_kind_of_question_is_in_the_table_above():
    marks = test_answers.pytestmark[0].args[1]
    assert {query.kind for query, _ in marks} == set(KINDS)


@pytest.mark.parametrize("kind", ["colour", "where", "object"])
def test_an_open_question_is_refused(kind):
    with pytest.raises(ValueError, match="2 objects match"):
        answer(Query(kind=kind, subject=RED), SCENE)


@pytest.mark.parametrize(
    "query",
    [{"kind": "taste"}, {"kind": "relation", "detail": "inside"}, {"kind": "count", "detail": "left"}],
)
def test_bad_query_is_refused(query):
    with pytest.raises(ValueError, match=r"unknown kind of question|question needs one of"):
        Query(**query)


def test_questions_have_the_answer_of_their_scene_and_yes_is_as_common_as_no():
    task, answers, forms = SceneQuestion(), defaultdict(Counter), defaultdict(Counter)
    for index in range(800):
        turn = task.sample(index).meta["turns"][0]
        query = Query.from_json(turn["query"])
        assert answer(query, Scene.from_json(turn["scene"])) == turn["answer"]
        answers[query.kind][turn["answer"]] += 1
        if query.kind == "existence":
            forms[tuple(query.subject.stated())][turn["answer"]] += 1
    assert set(answers) == set(KINDS)
    for kind in YES_NO:
        share = answers[kind]["yes"] / answers[kind].total()
        assert 0.3 < share < 0.7, kind
    assert max(answers["count"].values()) < 0.4 * answers["count"].total()
    for kind in set(KINDS) - set(YES_NO) - {"side", "fill"}:
        assert max(answers[kind].values()) < 0.55 * answers[kind].total(), kind
    yes = sum(counts["yes"] for counts in forms.values())
    assert 0.35 < yes / sum(counts.total() for counts in forms.values()) < 0.65


def test_no_question_outside_the_compositional_split_mentions_a_held_out_pair():
    rng = np.random.default_rng(0)
    for _ in range(300):
        for question in questions_about(rng, random_scene(rng, "train"), "train"):
            for wanted in (question.query.subject, question.query.other):
                assert (wanted.shape, wanted.colour) not in HELD_OUT


def test_absent_objects_are_near_misses():
    rng = np.random.default_rng(0)
    for _ in range(100):
        question = ask(rng, SCENE, "compositional", "existence", "no")
        wanted = question.query.subject.stated()
        misses = [sum(getattr(o, name) != value for name, value in wanted.items()) for o in SCENE.objects]
        assert min(misses) == 1


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown kind of question"):
        ask(np.random.default_rng(0), SCENE, "train", "taste")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Yes.", "yes"),
        ("a Red circle", "red circle"),
        ("three", "3"),
        ("outlined", "outline"),
        ("big", "large"),
        ("Center", "centre"),
    ],
)
def test_wording_of_answers_is_forgiven(said, meant):
    assert normal(said) == normal(meant)


def test_different_answers_stay_different():
    values = [
        "yes",
        "no",
        *SHAPES,
        *COLOURS,
        "small",
        "medium",
        "large",
        "solid",
        "outline",
        *CELL_NAMES,
        *"0123456",
    ]
    assert len({normal(value) for value in values}) == len(values)


@pytest.mark.parametrize("detail", DETAILS)
def test_captions_are_true_varied_and_score_full(detail):
    rng, texts = np.random.default_rng(0), set()
    for _ in range(60):
        scene = random_scene(rng, "train")
        text = caption(rng, scene, detail)
        texts.add(text.split(" ")[0])
        assert score_caption(scene, detail, text) == {"precision": 1.0, "recall": 1.0, "all": 1.0}
        other = random_scene(rng, "train")
        assert score_caption(other, "complete", text)["all"] == 0.0
    assert len(texts) >= 3


def test_captions_are_scored_by_what_they_mention():
    right = "a red circle, a blue star and a red square"
    assert score_caption(SCENE, "medium", right)["all"] == 1
    assert score_caption(SCENE, "complete", right)["all"] == 0
    missing = score_caption(SCENE, "medium", "a red circle and a blue star")
    assert (missing["precision"], missing["recall"]) == (1, pytest.approx(2 / 3))
    invented = score_caption(SCENE, "medium", right + " and a green heart")
    assert (invented["precision"], invented["recall"]) == (pytest.approx(3 / 4), 1)
    assert score_caption(SCENE, "medium", "nothing of note") == {"precision": 0, "recall": 0, "all": 0}
    assert score_caption(SCENE, "short", "two squares and a star")["all"] == 0
    with pytest.raises(ValueError, match="degree of detail"):
        score_caption(SCENE, "poetic", right)


def test_mentions_read_numbers_and_places():
    found = mentions("Two small hollow red stars and a big cross in the top left.")
    assert [(m.number, m.cell) for m in found] == [(2, None), (1, "top left")]
    assert found[0].wanted == Filter(shape="star", colour="red", size="small", fill="outline")


@pytest.mark.parametrize("category", CATEGORIES)
def test_prompts_hold_for_their_scene_and_not_for_others(category):
    rng, tried, fooled = np.random.default_rng(0), 0, 0
    wish = category_wish(category, 1, 6)
    for _ in range(60):
        scene = random_scene(rng, "train", wish)
        prompt = demand(rng, scene, category)
        if prompt is None:
            continue
        assert prompt.category == category
        assert Prompt.from_json(prompt.to_json()) == prompt
        assert prompt_text(rng, prompt)
        assert set(score_drawing(prompt, scene).values()) == {1.0}
        tried += 1
        fooled += score_drawing(prompt, random_scene(rng, "train", wish))["all"] == 1
    assert tried >= 10
    assert fooled <= 0.4 * tried  # "a circle" is now and then right by chance


def test_a_prompts_words_say_what_its_data_say():
    rng = np.random.default_rng(0)
    for _ in range(40):
        scene = random_scene(rng, "train")
        prompt = demand(rng, scene, "complete")
        said = Counter(m.wanted for m in mentions(prompt_text(rng, prompt)) for _ in range(m.number))
        assert said == Counter(each.wanted for each in prompt.demands)


def test_drawing_scores_name_what_is_wrong():
    wish = Demand(wanted=Filter(shape="circle", colour="red", size="large", fill="solid"), cell="top left")
    prompt = Prompt(category="complete", demands=(wish,), background="sage")
    alone = replace(SCENE, objects=SCENE.objects[:1])
    assert score_drawing(prompt, alone)["all"] == 1

    def scores(**change):
        return score_drawing(prompt, replace(alone, objects=(replace(alone.objects[0], **change),)))

    for name, value in {"shape": "star", "colour": "blue", "size": "small", "fill": "outline"}.items():
        found = scores(**{name: value})
        assert (found[name], found["all"]) == (0, 0)
        assert sum(found.values()) == len(found) - 2
    assert scores(x=0.8)["position"] == 0
    assert score_drawing(prompt, SCENE)["count"] == 0
    assert score_drawing(prompt, replace(alone, background="grey"))["background"] == 0


def test_a_relation_is_scored_between_the_right_objects():
    pair = (Demand(wanted=STAR), Demand(wanted=SQUARE))
    prompt = Prompt(category="position", demands=pair, relation="above")
    both = replace(SCENE, objects=SCENE.objects[1:])
    assert score_drawing(prompt, both)["all"] == 1
    assert score_drawing(replace(prompt, relation="below"), both)["all"] == 0


@pytest.mark.parametrize("kind", EDITS)
def test_edits_are_done_and_only_by_doing_them(kind):
    rng, seen = np.random.default_rng(1), 0
    for _ in range(40):
        scene = random_scene(rng, "train")
        found = instruct(rng, scene, "train", kind)
        if found is None:
            continue
        seen += 1
        after = apply(found.edit, scene)
        assert after == found.after
        assert fits(after)
        assert belongs(after, "train")
        assert Edit.from_json(found.edit.to_json()) == found.edit
        unnamed = {name: part for name, part in found.edit.to_json().items() if name != "wanted"}
        assert Edit.from_json(unnamed) == replace(found.edit, wanted=())
        assert score_edit(found.edit, scene, after) == {"done": 1, "rest_unchanged": 1, "both": 1}
        assert score_edit(found.edit, scene, scene) == {"done": 0, "rest_unchanged": 1, "both": 0}
        assert score_edit(found.edit, scene, replace(after, background=other_ground(scene)))["both"] == 0
        assert score_edit(found.edit, scene, Scene(background=scene.background))["both"] == 0
        wrecked = replace(after, objects=tuple(replace(o, fill=flipped(o)) for o in after.objects))
        assert score_edit(found.edit, scene, wrecked)["both"] == 0
    assert seen >= 10


def other_ground(scene):
    return "slate" if scene.background != "slate" else "grey"


def flipped(thing):
    return "solid" if thing.fill == "outline" else "outline"


def test_an_edit_that_spoils_the_rest_is_noticed():
    edit = Edit(kind="remove", old=(SCENE.objects[0],))
    only_star = replace(SCENE, objects=SCENE.objects[1:2])
    assert score_edit(edit, SCENE, only_star) == {"done": 1, "rest_unchanged": 0, "both": 0}
    intruder = replace(
        apply(edit, SCENE), objects=(*SCENE.objects[1:], item("small solid cyan heart", 0.3, 0.8))
    )
    assert score_edit(edit, SCENE, intruder)["done"] == 1


def test_bad_edits_are_refused():
    with pytest.raises(ValueError, match="unknown kind of edit"):
        Edit(kind="melt")
    with pytest.raises(ValueError, match="remove turns 1 into 0"):
        Edit(kind="remove")
    with pytest.raises(ValueError, match="the scene has no"):
        apply(Edit(kind="remove", old=(item("small solid cyan heart", 0.3, 0.8),)), SCENE)
    with pytest.raises(ValueError, match="not the data of an edit"):
        Edit.from_json({"kind": "remove"})
