"""The order of a rest, and the mixture of tasks made of it."""

from collections import Counter

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.layout.layout import Layout
from unified.model import UnifiedConfig, UnifiedModel
from unified.orders import plan_for
from unified.orders.rest import cut_at
from unified.orders.task_mixture import TaskMixture, TaskMixtureConfig
from unified.stream.messages import Stream
from unified.stream.vocabulary import Vocabulary

SHAPE = (3, 4)


def test_codes_before_the_cut_come_one_by_one_and_the_rest_at_once():
    plan = plan_for("rest", (SHAPE,), (2, 2))
    assert plan.labels.tolist() == [0, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5]
    assert plan_for("rest", (SHAPE,)).labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6]
    vectors = torch.eye(12)[None]
    fed = plan.feed.inputs(vectors, plan.slots)[0].argmax(dim=1)
    assert fed[1:].tolist() == [0, 1, 2, 3, *[4] * 7]


def test_a_permutation_says_which_codes_come_first():
    plan = plan_for("rest", (SHAPE,), (3, 1, 7))
    sequence = torch.randperm(12, generator=torch.Generator().manual_seed(7))
    assert plan.labels[sequence].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8]
    assert not torch.equal(plan.labels, plan_for("rest", (SHAPE,), (3, 1, 8)).labels)


@pytest.mark.parametrize("data", [(1, 1), (4, 1), (1, 5), (2,), (1, 2, 0), (1, 2, 3, 4)])
def test_a_cut_outside_is_refused(data):
    with pytest.raises(ValueError, match="a cut needs row and column"):
        plan_for("rest", (SHAPE,), data)
    with pytest.raises(ValueError, match="writes one map"):
        plan_for("rest", ((1, 1), SHAPE))


def test_cuts_are_named_by_the_first_code_after_them():
    for count in range(1, 12):
        assert (plan_for("rest", (SHAPE,), cut_at(SHAPE, count)).labels == count).sum() == 12 - count


def test_tasks_are_drawn_in_proportion_and_the_same_again():
    mixture = TaskMixture(TaskMixtureConfig(next=2, following=1, random=1))
    names = [mixture.name(step, seed=3) for step in range(400)]
    counts = Counter(names)
    assert 170 < counts["next"] < 230
    assert min(counts["following"], counts["random"]) > 70
    assert names == [mixture.name(step, seed=3) for step in range(400)]
    assert names != [mixture.name(step, seed=4) for step in range(400)]


def test_tasks_take_turns_where_a_period_is_given():
    mixture = TaskMixture(TaskMixtureConfig(random=0, period=3))
    assert [mixture.name(step) for step in range(9)] == [*["next"] * 3, *["following"] * 3, *["next"] * 3]


@pytest.mark.parametrize("name", ["next", "following", "random"])
def test_weights_add_up_to_one_over_what_is_not_shown(name):
    chosen = {other: float(other == name) for other in ("next", "following", "random")}
    mixture = TaskMixture(TaskMixtureConfig(**chosen, ratio=0.5))
    tasks = [mixture.draw(SHAPE, step) for step in range(30)]
    for task in tasks:
        assert task.name == name
        assert task.weights.sum().item() == pytest.approx(1)
        again = plan_for(task.order, (SHAPE,), task.data)
        assert torch.equal(again.labels, task.plan.labels)
        if name != "next":
            assert torch.equal(task.weights > 0, again.labels == again.labels.max())
    counts = {int((task.weights > 0).sum()) for task in tasks}
    assert counts == {12} if name == "next" else counts == {6} if name == "random" else len(counts) > 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"next": 0, "following": 0, "random": 0}, "at least one task"),
        ({"ratio": 1.0}, "between 0 and 1"),
        ({"period": -1}, "not be negative"),
        ({"next": -1.0}, "next must be a finite number"),
    ],
)
def test_bad_options_are_one_line(options, words):
    with pytest.raises(ValueError, match=words):
        TaskMixtureConfig(**options)
    with pytest.raises(ValueError, match="at least two codes"):
        TaskMixture().draw((1, 1), 0)


@torch.no_grad()
@pytest.mark.parametrize("name", ["following", "random"])
def test_targets_depend_on_every_shown_code_and_on_no_other(name):
    chosen = {other: float(other == name) for other in ("next", "following", "random")}
    task = TaskMixture(TaskMixtureConfig(**chosen)).draw(SHAPE, 5)
    words = Vocabulary(text=256, visual=16).extended("order:rest")
    torch.manual_seed(0)
    model = UnifiedModel(UnifiedConfig(vocabulary=words.to_dict())).eval()

    def scored(codes):
        item = {
            "type": "image",
            "codes": codes,
            "shapes": [list(SHAPE)],
            "order": task.order,
            "data": list(task.data),
        }
        stream = Stream(model.vocabulary, byte_tokenizer())
        ids = torch.tensor([stream.encode([{"role": "assistant", "content": [item]}])])
        return model(ids).log_probs[0, Layout.of(ids, model.vocabulary).writes[0].slots()[0]]

    targets, plain = task.weights > 0, scored([3] * 12)
    for slot in range(12):
        codes = [3] * 12
        codes[slot] = 9
        moved = (scored(codes) - plain).abs() > 1e-6
        moved[slot] = False  # another code has another probability
        assert bool(moved[targets].any()) != bool(targets[slot])
