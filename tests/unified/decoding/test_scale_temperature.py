"""A temperature by step: linear, neutral at 1, around guidance."""

import pytest
import torch

from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.scale_temperature import ScaleTemperature
from unified.decoding.session import Session
from unified.heads.distribution import Gaussian
from unified.orders import plan_for


def drawn(model, guidance, sampler=None):
    words, found = model.vocabulary, []
    session = Session(model, seed=2)
    session.feed([words.begin, words.user, 7, words.end, words.assistant])
    session.draw([1, 2, 3], guidance=guidance, sampler=sampler, hook=lambda step: found.append(step) or step)
    return found


def test_temperatures_change_linearly_from_first_to_last():
    plan = plan_for("next_scale", ((1, 1), (2, 2), (3, 3)))
    given = ScaleTemperature(1.0, 0.8)
    assert [given.temperature(plan, step) for step in range(3)] == pytest.approx([1.0, 0.9, 0.8])
    assert ScaleTemperature(0.5).temperature(plan_for("next_scale", ((1, 1),)), 0) == 0.5


@pytest.mark.parametrize("guidance", [None, Constant(2.0)])
def test_neutral_is_bit_for_bit_the_plain_path(model, guidance):
    plain, same = drawn(model, guidance), drawn(model, ScaleTemperature(1.0, 1.0, guidance))
    for one, other in zip(plain, same, strict=True):
        assert torch.equal(one.logits, other.logits)
        assert torch.equal(one.codes, other.codes)


@pytest.mark.parametrize("guidance", [None, Constant(2.0)])
def test_logits_are_divided_after_guidance(model, guidance):
    greedy = Sampler(temperature=0)
    plain, cooled = drawn(model, guidance, greedy), drawn(model, ScaleTemperature(1.0, 0.5, guidance), greedy)
    for one, other, temperature in zip(plain, cooled, (1.0, 0.75, 0.5), strict=True):
        assert torch.allclose(one.logits / temperature, other.logits)


def test_what_has_no_temperature_is_refused():
    with pytest.raises(ValueError, match="last must be a finite number"):
        ScaleTemperature(1.0, 0.0)
    plan = plan_for("next_scale", ((1, 1),))
    with pytest.raises(ValueError, match="not Gaussian"):
        ScaleTemperature().predicted(Gaussian(torch.zeros(1), torch.zeros(1)), [], plan, 0, 1)
