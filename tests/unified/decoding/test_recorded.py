"""Log-probabilities that a session records."""

import math

import pytest
import torch

from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.model import UnifiedConfig, UnifiedModel


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return UnifiedModel(UnifiedConfig(vocabulary={"orders": ["next_scale"]}, initializer_range=0.2)).eval()


def said(model, seeds, prompts, sampler=None):
    session = Session(model, rows=len(seeds), seed=seeds).record_log_probs()
    session.feed(prompts)
    for _ in session.text(sampler=sampler or Sampler(), max_tokens=5, draw=False, end=False):
        pass
    session.draw([1, 2], sampler=sampler or Sampler())
    return session.streams, session.log_probs


def prompts(model):
    words = model.vocabulary
    return [[words.begin, words.user, *ids, words.end, words.assistant] for ids in ([1, 2], [3, 4, 5])]


def test_rows_of_a_batch_have_what_each_has_alone(model):
    streams, found = said(model, [0, 7], prompts(model))
    for row, (seed, prompt) in enumerate(zip([0, 7], prompts(model), strict=True)):
        alone_streams, alone = said(model, [seed], [prompt])
        assert alone_streams[0] == streams[row]
        assert found[row] == pytest.approx(alone[0], abs=1e-4, nan_ok=True)


def test_ids_that_were_read_have_none(model):
    streams, found = said(model, [0], prompts(model)[:1])
    words, count = model.vocabulary, len(prompts(model)[0])
    assert all(map(math.isnan, found[0][:count]))
    assert not any(map(math.isnan, found[0][count : count + 5]))
    write = streams[0].index(words.write)
    codes = [n for n in range(write, len(streams[0])) if not math.isnan(found[0][n])]
    assert len(codes) == 5, "the codes that were drawn, not the copy that is read"


def test_greedy_choices_leave_the_share_of_what_was_allowed(model):
    """Log-probability 0 of the choice itself; the model gives some of it to ids that could not be chosen."""
    _, found = said(model, [0], prompts(model)[:1], Sampler(temperature=0))
    words = [value for value in found[0] if not math.isnan(value)][:5]
    assert all(-10 < value < 0 for value in words)
