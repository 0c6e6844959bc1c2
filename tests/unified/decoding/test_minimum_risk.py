"""Codes that count together: the neighbourhood wins over the stray, nothing changes where all are apart."""

import numpy as np
import pytest
import torch

from unified.apps.answering import GREEDY, NUCLEUS, GenerationSettings, answers
from unified.apps.demo import random_model
from unified.decoding.minimum_risk import CANDIDATES, MinimumRisk
from unified.heads.distribution import Categorical


def test_many_codes_that_look_alike_win_over_the_likeliest_one():
    near = torch.tensor([[1.0, 0.0], [1.02, 0.0], [1.0, 0.02], [0.98, 0.0]])
    codebook = torch.cat([near, torch.tensor([[-1.0, 0.0]])])
    logits = torch.tensor([0.17, 0.17, 0.18, 0.17, 0.31]).log()[None, None, None]
    gained = MinimumRisk(codebook, 0.2)(Categorical(logits)).logits
    assert logits.argmax() == 4
    assert gained.argmax() in (0, 1, 2)
    assert gained.exp().squeeze() == pytest.approx([0.69, 0.69, 0.69, 0.69, 0.31], abs=0.02)


def test_the_gain_is_the_one_of_the_formula():
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    logits = torch.randn(2, 3, 1, 40, generator=generator, dtype=torch.float64)
    spread = ((codebook - codebook.mean(0)) ** 2).sum(1).mean()
    kernel = torch.exp(-((codebook[:, None] - codebook) ** 2).sum(-1) / (2 * 0.4**2 * spread))
    expected = (logits.softmax(-1) @ kernel).log()
    assert torch.allclose(MinimumRisk(codebook, 0.4)(Categorical(logits)).logits, expected)


def test_codes_far_apart_stay_as_they_were_and_the_unlikely_are_left_out():
    codebook = torch.eye(200)
    logits = torch.randn(1, 4, 1, 200, generator=torch.Generator().manual_seed(1))
    gained = MinimumRisk(codebook, 1e-3)(Categorical(logits)).logits
    kept = gained.isfinite()
    assert (kept.sum(-1) == CANDIDATES).all()
    assert torch.allclose(gained[kept], logits.log_softmax(-1)[kept], atol=1e-5)


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
def test_a_width_must_be_positive(width):
    with pytest.raises(ValueError, match="width of minimum-risk decoding must be"):
        MinimumRisk(torch.eye(3), width)


def drawn(model, processor, alike, sampler=GREEDY, batch=3):
    """Pictures [3, H, W, 3] of three prompts."""
    prompts = [[{"role": "user", "content": f"{n} red circles"}] for n in range(3)]
    settings = GenerationSettings(image_only=True, image_sampler=sampler, minimum_risk_width=alike)
    found = answers(model, processor, prompts, ((1, 1), (2, 2), (4, 4)), settings, batch=batch)
    return np.stack([content[0]["image"] for content in found])


def test_pictures_are_drawn_with_it_and_the_same_for_any_batch():
    model, processor = random_model()
    together = drawn(model, processor, 2.0)
    assert np.array_equal(together, drawn(model, processor, 2.0, batch=1))
    assert not np.array_equal(together, drawn(model, processor, 0.0))


def test_what_is_drawn_at_random_is_drawn_from_the_probabilities():
    model, processor = random_model()
    assert np.array_equal(drawn(model, processor, 2.0, NUCLEUS), drawn(model, processor, 0.0, NUCLEUS))


def test_a_head_of_several_symbols_draws_without_it():
    model, processor = random_model()
    model.head.symbols = 4
    assert np.array_equal(drawn(model, processor, 2.0), drawn(model, processor, 0.0))
