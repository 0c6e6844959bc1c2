"""What is said before an answer: entries of the list, from which the answer follows."""

import re

from unified.tasks.scenes import TASKS
from unified.tasks.scenes.listing import NO, in_order, placed, scan, seen
from unified.tasks.scenes.questions import Query, yes
from unified.tasks.scenes.relations import CELL_NAMES
from unified.tasks.scenes.scene import VALUES, Filter, Scene
from unified.tasks.scenes.thoughts import SO, THINKING, WHOLE, conclusion, thought
from unified.tasks.scenes.words import MEANINGS


def asked(number):
    """Queries with their scenes and answers."""
    for index in range(number):
        for turn in TASKS["scene_quiz"]().sample(index).meta["turns"]:
            if turn["kind"] == "question":
                yield Query.from_json(turn["query"]), Scene.from_json(turn["scene"]), turn["answer"]


def read(text):
    """What is looked for, and entries with their verdicts, in each sentence of a thought."""
    said, mark, _ = text.rpartition(SO)
    assert mark
    for sentence in re.findall(r"(.*?)\. ?", said):
        wanted, _, entries = sentence.rpartition("? ")
        yield wanted.split("? "), [entry.split(": ") for entry in entries.split("; ")]


def filter_of(name):
    """The filter that words name."""
    values = [MEANINGS.get(word, word) for word in name.split()]
    return Filter(
        **{attribute: value for attribute in VALUES for value in values if value in VALUES[attribute]}
    )


def test_entries_are_those_of_the_list_in_its_order():
    for query, scene, answer in asked(40):
        text = thought(query, scene, answer)
        assert conclusion(text) == answer
        for _, entries in read(text):
            places = []
            for said, _ in entries:
                words, mark, place = said.partition(" in the ")
                assert mark
                assert words in re.search(rf"[:;] {place} (.*?)[;.]", seen(scene))[1]
                places.append(CELL_NAMES.index(place))
            assert places == sorted(places)


def test_verdicts_number_what_fits_and_what_fits_alone():
    for query, scene, answer in asked(60):
        if query.kind in ("extreme", "neighbour", "background"):
            continue
        ((names, entries),) = read(thought(query, scene, answer))
        filters = [query.subject, *([query.other] if query.other.stated() else [])]
        letters = ["A", "B"] if len(filters) == 2 else [""]
        assert [filter_of(name) for name in names] == filters
        verdicts = dict(entries)
        for item in scene.objects:
            if (verdict := verdicts.get(placed(item))) is not None and placed(item) not in twice(scene):
                fits = [letter for letter, one in zip(letters, filters, strict=True) if one.matches(item)]
                assert (verdict == NO) == (not fits)
                assert not fits or re.fullmatch(rf"{fits[0]}[1-6]", verdict)
        if query.kind in WHOLE:
            assert len(entries) == len(scene.objects)
        elif len(entries) < len(scene.objects):
            assert all(f"{letter}1" in verdicts.values() for letter in letters)


def twice(scene):
    names = [placed(item) for item in scene.objects]
    return {name for name in names if names.count(name) > 1}


def test_counts_and_comparisons_follow_from_the_verdicts_alone():
    kinds = set()
    for query, scene, answer in asked(60):
        found = [[said for said, verdict in entries if verdict != NO]
                 for _, entries in read(thought(query, scene, answer))]  # fmt: skip
        verdicts = [verdict for _, entries in read(thought(query, scene, answer)) for _, verdict in entries]
        kinds.add(query.kind)
        if query.kind == "count":
            assert answer == str(len(found[0]))
        elif query.kind == "existence":
            assert answer == yes(bool(found[0]))
        elif query.kind == "more":
            first, second = (sum(verdict[0] == letter for verdict in verdicts) for letter in "AB")
            assert answer == yes(first > second if query.detail == "more" else first < second)
        elif query.kind in ("shape", "colour", "size"):
            ((said,),) = found
            assert answer in said
        elif query.kind in ("object", "extreme", "neighbour"):
            (said,) = found[-1]
            assert f"{answer} in the" in said
        elif query.kind == "background":
            assert found == []
    assert {"count", "more", "existence", "neighbour", "extreme", "background"} <= kinds


def test_a_scan_stops_when_all_is_found_unless_it_reads_the_whole_list():
    scene = next(scene for _, scene, _ in asked(40) if len(scene.objects) > 3)
    first, *_ = in_order(scene.objects)
    wanted = [Filter.of(first, VALUES)]
    assert scan(scene, wanted).endswith(f"? {placed(first)}: 1.")
    assert scan(scene, wanted, whole=True).count("; ") == len(scene.objects) - 1


def test_a_study_thinks_before_every_answer():
    sample = TASKS["scene_study"]().sample(0)
    questions = [message for message in sample.messages if message["role"] == "user"]
    thoughtful = [message for message in questions if message["content"][-1]["text"].endswith(THINKING)]
    assert len(thoughtful) == sum(turn["kind"] == "question" for turn in sample.meta["turns"])
