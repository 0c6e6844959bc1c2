"""What is said before an answer: entries of the list, from which the answer follows."""

import re

from unified.tasks.scenes import TASKS
from unified.tasks.scenes.questions import Query, yes
from unified.tasks.scenes.relations import CELL_NAMES
from unified.tasks.scenes.scene import VALUES, Filter, Scene
from unified.tasks.scenes.steps import seen
from unified.tasks.scenes.thoughts import NONE, THINKING, conclusion, thought
from unified.tasks.scenes.words import MEANINGS


def asked(number):
    """Queries with their scenes and answers."""
    for index in range(number):
        for turn in TASKS["scene_quiz"]().sample(index).meta["turns"]:
            if turn["kind"] == "question":
                yield Query.from_json(turn["query"]), Scene.from_json(turn["scene"]), turn["answer"]


def groups_of(text):
    """Numbered entries, group by group."""
    said, mark, _ = text.rpartition("So ")
    assert mark
    groups = [group.partition(": ")[2] for group in said.strip().removesuffix(".").split(". ") if group]
    return [[] if group == NONE else group.split("; ") for group in groups]


def names_of(text):
    """What is looked for, group by group."""
    return re.findall(r"(?:^|\. )([^:.;]*): ", text)


def test_entries_are_numbered_and_stand_in_the_list_in_that_order():
    for query, scene, answer in asked(40):
        text = thought(query, scene, answer)
        assert conclusion(text) == answer
        for group in groups_of(text):
            places = []
            for number, said in enumerate(group, 1):
                assert said.startswith(f"{number} ")
                words, mark, place = said.removeprefix(f"{number} ").partition(" in the ")
                part = re.search(rf"[:;] {place} (.*?)[;.]", seen(scene))[1]
                assert mark
                assert words in part
                places.append(CELL_NAMES.index(place))
            assert places == sorted(places)


def test_counts_and_comparisons_follow_from_the_entries_alone():
    kinds = set()
    for query, scene, answer in asked(60):
        groups = groups_of(thought(query, scene, answer))
        kinds.add(query.kind)
        if query.kind == "count":
            assert answer == str(len(groups[0]))
        elif query.kind == "more":
            first, second = map(len, groups)
            assert answer == yes(first > second if query.detail == "more" else first < second)
        elif query.kind in ("shape", "colour", "size"):
            ((said,),) = groups
            assert answer in said
        elif query.kind == "existence" and answer == "yes":
            wanted = [value[:7] for value in query.subject.stated().values()]
            assert any(all(value in said for value in wanted) for said in groups[0])
        elif query.kind in ("object", "extreme"):
            ((said,),) = groups
            assert f"{answer} in the" in said
        elif query.kind == "neighbour":
            assert f"{answer} in the" in groups[1][0]
        elif query.kind == "background":
            assert groups == []
        if query.kind not in ("extreme", "neighbour", "existence", "background"):
            filters = [query.subject, *([query.other] if query.other.stated() else [])]
            assert [mention_of(name) for name in names_of(thought(query, scene, answer))] == filters
    assert {"count", "more", "existence", "neighbour", "extreme", "background"} <= kinds


def mention_of(name):
    """The filter that words name."""
    found = {attribute: MEANINGS.get(word, word) for word in name.split() for attribute in VALUES
             if MEANINGS.get(word, word) in VALUES[attribute]}  # fmt: skip
    return Filter(**found)


def test_a_study_thinks_before_every_answer():
    sample = TASKS["scene_study"]().sample(0)
    questions = [message for message in sample.messages if message["role"] == "user"]
    thoughtful = [message for message in questions if message["content"][-1]["text"].endswith(THINKING)]
    assert len(thoughtful) == sum(turn["kind"] == "question" for turn in sample.meta["turns"])
