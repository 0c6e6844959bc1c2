"""Small talk: enough variety, disjoint requests, fair scores."""

import pytest
from unified.tasks.registry import make
from unified.tasks.sample import SPLITS
from unified.tasks.small_talk import OPENINGS, SmallTalk, replies


def request_of(sample):
    return sample.messages[0]["content"][0]["text"]


def test_no_split_asks_what_another_asked():
    seen = {}
    for split in SPLITS:
        asked = {request_of(SmallTalk().sample(index, split)) for index in range(400)}
        assert len(asked) > 150
        assert not any(asked & other for other in seen.values())
        seen[split] = asked
    opened = {text for text in seen["compositional"] if text.startswith(tuple(filter(None, OPENINGS)))}
    assert opened == seen["compositional"]


def test_any_fitting_reply_is_right_and_no_other():
    task = SmallTalk()
    sample = next(s for s in map(task.sample, range(50)) if s.meta["category"] == "refusal")
    for reply in replies("refusal", sample.meta["topic"]):
        assert task.score(sample, [{"type": "text", "text": reply.upper()}]) == {"correct": 1.0}
    assert task.score(sample, [{"type": "text", "text": "Sure, here it is."}]) == {"correct": 0.0}
    with pytest.raises(ValueError, match="an answer is a list"):
        task.score(sample, "no")


def test_the_share_of_refusals_is_an_option():
    for share in (0.0, 1.0):
        task = make("small_talk", refusals=share)
        kinds = {task.sample(index).meta["category"] == "refusal" for index in range(30)}
        assert kinds == {bool(share)}
    with pytest.raises(ValueError, match="refusals must lie in 0 to 1"):
        make("small_talk", refusals=2)
