"""What every registered task must do. A new task is picked up by itself."""

import dataclasses
import itertools
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
from unified.tasks.check import check, digests
from unified.tasks.packing import digest, pack, unpack
from unified.tasks.registry import TASKS, make, option_names, required, summary
from unified.tasks.small_talk import SmallTalk

ANY_TASK = pytest.mark.parametrize("name", TASKS)


@pytest.fixture(scope="module")
def workers():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


@ANY_TASK
def test_same_seed_same_bytes_in_any_process_and_splits_share_no_sample(name, data_options, workers):
    report = check(name, 8, workers=workers, options=data_options(name))
    assert report.same_bytes
    assert report.shared == 0
    least = 30 if not required(name) else 20  # outside data may have no compositional split
    assert report.samples >= least
    assert report.distinct > report.samples * 0.6


@ANY_TASK
def test_another_seed_gives_other_samples(name, data_options):
    if "seed" not in option_names(name):
        pytest.skip("outside data have no seed")
    places = [("train", index) for index in range(3)]
    first, second = (digests(name, {**data_options(name), "seed": seed}, places) for seed in (0, 1))
    assert first != second


@ANY_TASK
def test_a_sample_survives_packing(name, data_options):
    sample = make(name, **data_options(name)).sample(5)
    assert sample.messages[-1]["role"] == "assistant"
    assert sample.task == name
    assert digest(unpack(pack(sample))) == digest(sample)


@ANY_TASK
def test_the_true_answer_scores_at_least_as_well_as_none(name, data_options):
    task = make(name, **data_options(name))
    sample = task.sample(2)
    right, none = task.score(sample, sample.messages[-1]["content"]), task.score(sample, [])
    assert right
    assert right.keys() == none.keys()
    assert all(math.isfinite(value) for value in (*right.values(), *none.values()))
    assert right != none


@ANY_TASK
def test_a_negative_index_is_refused(name, data_options):
    with pytest.raises(ValueError):  # noqa: PT011 - the tasks word it differently
        make(name, **data_options(name)).sample(-1)


@ANY_TASK
def test_bad_names_are_refused_in_one_line(name, data_options):
    task = make(name, **data_options(name))
    with pytest.raises(ValueError, match="unknown split 'training'") as error:
        task.sample(0, "training")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=f"unknown option 'colour' of the task '{name}'"):
        make(name, **data_options(name), colour="red")
    for option in required(name):
        with pytest.raises(ValueError, match=f"needs the option '{option}'"):
            make(name)
    assert "\n" not in summary(name)


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="unknown task 'mase': choose one of"):
        make("mase")


def test_lists_stand_for_tuples_and_wrong_types_are_refused():
    assert make("maze", sizes=[[3, 3]]).config.sizes == ((3, 3),)
    with pytest.raises(ValueError, match="task 'maze':"):
        make("maze", sizes=3)


class Careless(SmallTalk):
    """Gives every split the same, and never the same twice."""

    made = itertools.count()

    def sample(self, index, split="train"):
        sample = super().sample(index)
        return dataclasses.replace(sample, meta={**sample.meta, "number": next(self.made)})


def test_the_check_finds_what_is_wrong(monkeypatch):
    monkeypatch.setitem(TASKS, "careless", Careless)
    report = check("careless", 3)
    assert not report.same_bytes
    assert report.shared == 3
    assert not report.good
