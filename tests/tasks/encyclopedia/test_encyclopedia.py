"""The encyclopedia: pages are found, answers name the right pictures, splits share no page."""

import numpy as np
import pytest
from unified.eval.metrics.interleaved_markdown import answer_of, interleaved
from unified.tasks.encyclopedia import answer_task
from unified.tasks.encyclopedia.answer_task import EncyclopediaConfig, EncyclopediaTask, encyclopedia, query
from unified.tasks.encyclopedia.pages import Picture, described
from unified.tasks.registry import make

CONFIG = EncyclopediaConfig(pages=32)


def test_splits_share_no_page():
    names = [{page.name for page in encyclopedia(CONFIG, split).pages} for split in
             ("train", "validation", "test", "compositional")]  # fmt: skip
    assert all(len(found) == 32 for found in names)
    assert len(set.union(*names)) == 4 * 32


def test_the_pages_that_are_asked_about_are_found():
    for index in range(40):
        found = query(CONFIG, index, "test")
        pages = {page.name: page for page in found.documents}
        assert len(pages) == 3
        for _, number in found.answer:
            assert found.pictures[number - 1].page in found.question
    assert {query(CONFIG, index, "test").kind for index in range(20)} == set(answer_task.KINDS)


def test_pages_that_share_no_word_are_those_with_like_parts():
    known = encyclopedia(CONFIG, "train")
    page = known.pages[5]
    best, *others = known.retrieve(f"How is a {page.name} built?", 8)
    assert best == page
    alike = [len(set(other.steps) & set(page.steps)) for other in others]
    assert alike == sorted(alike, reverse=True)


def test_the_answer_says_what_its_pictures_show():
    for index in range(10):
        found = query(CONFIG, index, "train")
        for sentence, number in found.answer:
            assert described(found.pictures[number - 1].part) in sentence


def test_pictures_differ_by_part():
    one, other = (Picture("", 0, ("red", shape)).pixels(16) for shape in ("circle", "square"))
    assert one.shape == (16, 16, 3)
    assert not np.array_equal(one, other)


def test_the_published_scorer_reads_the_answers():
    sample = EncyclopediaTask(CONFIG).sample(3)
    text = sample.messages[-1]["content"][0]["text"]
    assert answer_of(text) == sample.meta["answer"]
    assert [int(k) for k in interleaved(sample.meta["answer"]).images] == sample.meta["images"]


def test_answers_are_scored():
    task = EncyclopediaTask(CONFIG)
    sample = next(s for s in map(task.sample, range(20)) if len(s.meta["images"]) > 1)
    right = sample.messages[-1]["content"]
    assert set(task.score(sample, right).values()) == {1}
    prose = task.score(sample, [{"type": "text", "text": "no JSON"}])
    assert prose["valid"] == prose["success"] == 0
    first, second = sample.meta["images"][:2]
    text = right[0]["text"]
    swapped = text.replace(f"IMG#{first})", "IMG#X)").replace(f"IMG#{second})", f"IMG#{first})")
    found = task.score(sample, [{"type": "text", "text": swapped.replace("IMG#X)", f"IMG#{second})")}])
    assert found["success"] == 0
    assert found["pictures"] == found["facts"] == 1
    invented = task.score(sample, [{"type": "text", "text": text.replace(f"IMG#{first})", "IMG#99)")}])
    assert invented["real"] == 0


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="documents must be 2 to 8"):
        make("encyclopedia", documents=1)
    with pytest.raises(ValueError, match="even number"):
        make("encyclopedia", size=17)
