"""Dreams: rows that are started, stepped and restored on their own, on a model with a transition."""

import numpy as np
import pytest
import torch
from unified.train.transition import with_transition

from unified.apps.demo import random_model
from unified.apps.dream import Dream
from unified.apps.frame_writer import FrameWriter
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session

TEXTS = ("Hi", "Good day")
ACTIONS = [{"forward": 1}, {"left": 1}, {"jump": 1}, {"back": 1, "camera": [0, 5]}]


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=[0.9, 0.0], ids=["sampled", "greedy"])
def writer(request):
    model, processor = random_model()
    model = with_transition(model, 8)
    for part in (model.extras["copy_gate"].gate, model.extras["transition"].exit):
        torch.nn.init.normal_(part.weight)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(1 if "head" in name else 2)
    return FrameWriter(model, processor, sampler=Sampler(temperature=request.param))


def dream(writer, rows=1, window=4):
    shapes = writer.processor.schedule((4, 4), frame=True)
    return Dream(writer, shapes, rows=rows, window=window)


def alone(writer, row):
    found = dream(writer)
    found.start([0], [[picture(row)]], [[]], [5 + row])
    return found


@pytest.mark.parametrize("window", [1, 2, 4])
def test_rows_that_rest_now_and_then_are_what_they_are_alone(writer, window):
    together = dream(writer, 3, window)
    singles = []
    for row in range(3):
        together.start([row], [[picture(row)]], [[]], [5 + row])
        single = dream(writer, 1, window)
        single.start([0], [[picture(row)]], [[]], [5 + row])
        singles.append(single)
    for step in range(8):
        acting = [row for row in range(3) if (step + row) % 3 or row == 1]
        given = [ACTIONS[(step + row) % 4] if row in acting else None for row in range(3)]
        found = together.step(given)
        for number, row in enumerate(acting):
            expected = singles[row].step([given[row]])
            assert np.array_equal(expected.codes[0], found.codes[number])
            assert found.log_probs[number] == pytest.approx(expected.log_probs[0], rel=1e-3)
            assert found.entropies[number] == pytest.approx(expected.entropies[0], rel=1e-3)


@pytest.mark.parametrize("steps", [0, 2, 4, 5])
def test_a_loaded_state_goes_on_with_the_same_codes(writer, steps):
    one = alone(writer, 0)
    for step in range(steps):
        one.step([ACTIONS[step % 4]])
    rows = dream(writer, 2)
    rows.load([1], [one.state(0)])
    for step in range(4):
        expected = one.step([ACTIONS[step]]).codes[0]
        assert np.array_equal(rows.step([None, ACTIONS[step]]).codes[0], expected)
    assert one.state(0).length <= one.window + 1


def test_a_row_reads_no_more_than_its_window(writer):
    one, lengths = alone(writer, 0), []
    for step in range(12):
        one.step([ACTIONS[step % 4]])
        lengths.append(one.state(0).length)
    assert lengths[:4] == [2, 3, 4, 5]
    assert lengths[4:] == [3, 4, 5, 3, 4, 5, 3, 4]


def test_only_what_was_started_can_be_stepped(writer):
    rows = dream(writer, 2)
    rows.start([0], [[picture()]], [[]], [0])
    with pytest.raises(ValueError, match="row 1 was not started"):
        rows.step([{}, {}])
    with pytest.raises(ValueError, match="2 rows"):
        rows.step([{}])
    with pytest.raises(ValueError, match="at least one frame"):
        rows.start([1], [[]], [[]], [0])
    with pytest.raises(ValueError, match="has maps"):
        rows.start([1], [[np.zeros((32, 64, 3), np.uint8)]], [[]], [0])
    with pytest.raises(ValueError, match="window"):
        dream(writer, window=0)
    assert len(rows.step([{}, None]).images) == 1


def test_a_restarted_row_of_a_session_has_read_nothing():
    model, processor = random_model()
    prompts = [
        processor.encode([{"role": "user", "content": text}], prompt=True) for text in ("Hi", "Good day")
    ]
    noise = PositionNoise([1, 2])
    session = Session(model, rows=2, noise=noise)
    session.feed(prompts)
    session.restart(0, offset=100)
    noise.reseed(0, 7)
    session.feed([prompts[1], []])
    fresh = Session(model, rows=1, seed=7)
    fresh.feed(prompts[1])
    assert session.context.cursors[0] == fresh.context.cursors[0]
    torch.testing.assert_close(session.last[0], fresh.last[0])
    assert session.streams == [prompts[1], prompts[1]]
    assert [row.place for row in session.rows] == [100 + len(prompts[1]), len(prompts[1])]
    places = torch.tensor([[3], [3]])
    assert torch.equal(noise.uniform(places, 4), PositionNoise([7, 2]).uniform(places, 4))
