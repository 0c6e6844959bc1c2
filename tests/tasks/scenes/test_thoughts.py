"""What is said before an answer: entries of the list, from which the answer follows."""

import re

from unified.tasks.scenes import TASKS
from unified.tasks.scenes.listing import NO, entry, in_order, scan, seen
from unified.tasks.scenes.questions import Query, yes
from unified.tasks.scenes.scene import SIZES, VALUES, Filter, Scene
from unified.tasks.scenes.thoughts import THINKING, WHOLE, conclusion, thought
from unified.tasks.scenes.words import MEANINGS


def asked(number):
    """Queries with their scenes and answers."""
    for index in range(number):
        for turn in TASKS["scene_quiz"]().sample(index).meta["turns"]:
            if turn["kind"] == "question":
                yield Query.from_json(turn["query"]), Scene.from_json(turn["scene"]), turn["answer"]


def read(text):
    """What is looked for, and entries with a verdict on each, in every scan of a thought."""
    for wanted, entries in re.findall(r"([^?.]*)\? ([^.]*)\.", text):
        names = wanted.strip().split(", ")
        yield names, [(said, verdicts_of(said, names, found)) for said, _, found in
                      (part.partition(": ") for part in entries.split("; "))]  # fmt: skip


def verdicts_of(said, names, found):
    """Each verdict follows the name of what is wanted."""
    if not found:
        return []
    pairs = [(one.rsplit(" ", 1)) for one in found.split(", ")]
    assert [name for name, _ in pairs] == names
    return [verdict for _, verdict in pairs]


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
        order = [entry(item) for item in in_order(scene.objects)]
        assert all(said in seen(scene) or " and " in seen(scene) for said in order)
        for _, entries in read(text):
            places = [order.index(said) for said, _ in entries]
            assert places == sorted(places)


def test_verdicts_number_what_fits_and_nothing_else():
    for query, scene, answer in asked(60):
        if query.kind in ("extreme", "neighbour", "background"):
            continue
        ((names, entries),) = read(thought(query, scene, answer))
        filters = [query.subject, *([query.other] if query.other.stated() else [])]
        assert [filter_of(name) for name in names] == filters
        counts = [0] * len(filters)
        for item, (said, verdicts) in zip(in_order(scene.objects), entries, strict=False):
            assert said == entry(item)
            for number, (one, verdict) in enumerate(zip(filters, verdicts, strict=True)):
                counts[number] += one.matches(item)
                assert verdict == (str(counts[number]) if one.matches(item) else NO)
        assert len(entries) == len(scene.objects) or (all(counts) and query.kind not in WHOLE)


def test_answers_follow_from_what_is_said_before_them():
    kinds = set()
    for query, scene, answer in asked(60):
        text = thought(query, scene, answer)
        found = [[said for said, verdicts in entries if verdicts != [NO]] for _, entries in read(text)]
        facts = [fact.rsplit(" ", 1)[1] for fact in text.rsplit(". ", 2)[-2].split(", ")] if found else []
        kinds.add(query.kind)
        if query.kind == "count":
            assert answer == str(len(found[0]))
        elif query.kind == "existence":
            assert answer == yes(bool(found[0]))
        elif query.kind == "more":
            first, second = map(int, facts)
            assert answer == yes(first > second if query.detail == "more" else first < second)
        elif query.kind == "larger":
            first, second = (list(SIZES).index(fact) for fact in facts)
            assert answer == yes(first > second if query.detail == "larger" else first < second)
        elif query.kind == "same":
            first, second = re.search(r"\. (\w+) and (\w+)\. So", text).groups()
            assert answer == yes(first == second)
            assert re.search(rf" {first}, .* {second}\. {first} and", text)
        elif query.kind in ("shape", "colour", "size"):
            ((said,),) = found
            assert answer in said
        elif query.kind in ("object", "extreme", "neighbour"):
            (said,) = found[-1]
            assert said.endswith(answer)
        elif query.kind == "background":
            assert found == []
    assert {"count", "more", "same", "larger", "existence", "neighbour", "extreme", "background"} <= kinds


def test_a_scan_stops_when_all_is_found_unless_it_reads_the_whole_list():
    scene = next(scene for _, scene, _ in asked(40) if len(scene.objects) > 3)
    first, *_ = in_order(scene.objects)
    wanted = [Filter.of(first, VALUES)]
    assert re.fullmatch(rf"(.*)\? {entry(first)}: \1 1\.", scan(scene, wanted))
    assert scan(scene, wanted, whole=True).count("; ") == len(scene.objects) - 1


def test_a_study_thinks_before_every_answer():
    sample = TASKS["scene_study"]().sample(0)
    questions = [message for message in sample.messages if message["role"] == "user"]
    thoughtful = [message for message in questions if message["content"][-1]["text"].endswith(THINKING)]
    assert len(thoughtful) == sum(turn["kind"] == "question" for turn in sample.meta["turns"])
