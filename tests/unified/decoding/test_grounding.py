"""Mutual-information decoding of text, as a rule and in sessions."""

import math

import pytest
import torch

from unified.decoding.grounding import (
    MutualInformation,
    VisualContrast,
    as_contrast,
    pairs,
    prompt_dependency,
)
from unified.decoding.guidance import contrasted
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import PromptLookup, Speculative


def logits(*shape, seed=0):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)).unbind(0)


def test_the_weight_grows_with_every_token_up_to_the_cap():
    seen, blind = logits(1, 4, 9)
    found = MutualInformation(decay=0.5, cap=3.0, plausible=0).mixed(seen, blind, torch.arange(1, 5)[None])
    for t in range(1, 5):
        weight = min(math.exp(0.5 * t) - 1, 2.0)
        likely, other = seen[0, t - 1].log_softmax(-1), blind[0, t - 1].log_softmax(-1)
        torch.testing.assert_close(found[0, t - 1], (1 + weight) * likely - weight * other, atol=1e-5, rtol=0)


def test_one_weight_is_visual_contrastive_decoding():
    seen, blind = logits(2, 3, 9)
    numbers = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert torch.equal(VisualContrast(1.5).mixed(seen, blind, numbers), contrasted(seen, blind, 1.5))
    flat = MutualInformation(decay=9.0, cap=2.5).mixed(seen, blind, numbers)
    assert torch.equal(flat, contrasted(seen, blind, 1.5))


def test_what_is_not_allowed_stays_so_without_a_plausible_share():
    seen, blind = logits(1, 2, 5)
    seen[..., 1:3], blind[..., 2] = float("-inf"), float("-inf")
    found = MutualInformation(plausible=0.0).mixed(seen, blind, torch.ones(1, 2))
    assert torch.equal(found.isneginf(), seen.isneginf())
    assert not found.isnan().any()


def test_confident_tokens_stay_as_they_are():
    seen, blind = logits(4, 5, 9)
    seen = seen * 3
    found = MutualInformation(decay=0.3, confident=0.6).mixed(seen, blind, torch.ones(4, 5))
    sure = seen.softmax(-1).amax(-1) >= 0.6
    assert sure.any()
    assert not sure.all()
    assert torch.equal(found[sure], seen[sure])
    assert not torch.isclose(found[~sure], seen[~sure]).all(dim=-1).any()


def test_prompt_dependency_is_a_distance():
    seen, blind = logits(3, 9)
    p, q = seen.softmax(-1), blind.softmax(-1)
    torch.testing.assert_close(prompt_dependency(seen, blind), (1 - (p * q).sqrt().sum(-1)).sqrt())
    assert prompt_dependency(seen, seen + 2).max() < 1e-3


@pytest.mark.parametrize("wrong", [{"decay": -1}, {"cap": 0.5}, {"confident": 2}, {"plausible": math.nan}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MutualInformation(**wrong)


# In sessions ------------------------------------------------------------------------------------------------


def said(model, contrast, strategy=None, rows=2, **sampling):
    words = model.vocabulary
    session = Session(model, rows=rows, seed=3, strategy=strategy)
    image = words.read_segment([1, 2, 3, 4], [(2, 2)])
    session.feed([words.begin, words.user, *image, 5, 6, words.end, words.assistant])
    sampler = Sampler(**{"temperature": 1.0, **sampling})
    list(session.text(sampler=sampler, max_tokens=6, draw=False, end=False, visual_contrast=contrast))
    return [stream[-6:] for stream in session.streams]


def test_a_decay_of_0_says_what_plain_decoding_says(model):
    assert said(model, MutualInformation(decay=0)) == said(model, 0.0)
    assert not as_contrast(0.0).active


def test_text_depends_on_the_decay_and_is_the_same_alone_and_speculated(model):
    m3id = MutualInformation(decay=0.8)
    assert said(model, m3id) != said(model, 0.0)
    assert said(model, m3id)[:1] == said(model, m3id, rows=1)
    lookup = Speculative(draft=PromptLookup(), length=3)
    assert said(model, m3id, lookup, temperature=0) == said(model, m3id, temperature=0)


def test_pairs_prefer_what_was_grounded():
    found = pairs([[1, 2], [3]], [[7, 8], [9]], [[7, 9], [9]])
    assert found == [([1, 2, 7, 8], [1, 2, 7, 9])]
    with pytest.raises(ValueError, match="2 prompts"):
        pairs([[1], [2]], [[3]], [[4]])
