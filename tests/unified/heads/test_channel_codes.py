"""Channel codes: an exact likelihood that sums to one, cached sampling that is the teacher-forced one, no
leak."""

import itertools

import pytest
import torch

from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.heads.channel_codes import ChannelConfig, ChannelHead, ChannelPredictor


def predictor(channels=3, levels=4):
    torch.manual_seed(0)
    made = ChannelPredictor(6, channels, levels, 8, 2, 2, 12)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return made.requires_grad_(False)


def test_probabilities_of_all_codes_sum_to_one():
    made, hidden = predictor(), torch.randn(1, 6)
    codes = torch.tensor(list(itertools.product(range(4), repeat=3)))
    logits = made(hidden.expand(64, -1), codes)
    total = logits.log_softmax(-1).gather(-1, codes[..., None]).sum(dim=(1, 2)).exp().sum()
    torch.testing.assert_close(total, torch.tensor(1.0))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_cached_sampling_is_what_one_pass_says(shifted, temperature):
    made, hidden, uniform = predictor(5), torch.randn(20, 6), torch.rand(20, 5)
    codes, log_probs = made.sample(hidden, uniform, temperature, shifted=shifted)
    logits = made(hidden, codes, shifted=shifted)
    if not temperature:
        assert torch.equal(logits.argmax(-1), codes)
        assert not log_probs.any()
        return
    probs = torch.softmax(logits / temperature, dim=-1)
    torch.testing.assert_close(probs.gather(-1, codes[..., None]).log().sum(dim=(1, 2)), log_probs)
    high = probs.cumsum(-1).gather(-1, codes[..., None])[..., 0]
    low = high - probs.gather(-1, codes[..., None])[..., 0]
    assert ((uniform <= high + 1e-5) & (uniform >= low - 1e-5)).all()


def test_a_channel_sees_the_ones_before_it_alone():
    made, hidden, codes = predictor(5), torch.randn(3, 6), torch.randint(4, (3, 5))
    one, codes[:, 2] = made(hidden, codes), (codes[:, 2] + 1) % 4
    other = made(hidden, codes)
    assert torch.equal(one[:, :3], other[:, :3])
    assert not torch.allclose(one[:, 3:], other[:, 3:])


def test_what_is_drawn_has_the_likelihood_that_is_scored():
    torch.manual_seed(0)
    head = ChannelHead(6, 3, ChannelConfig(inner=8, depth=1, heads=2, bits=3)).requires_grad_(False)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    found, places = head.distribution(torch.randn(2, 5, 6)), torch.arange(5).expand(2, -1)
    drawn = found.sample(PositionNoise([1, 2]), places, Sampler())
    torch.testing.assert_close(found.log_prob(drawn.values), drawn.log_probs)
    assert torch.equal(head.quantiser.decode(head.quantiser.encode(drawn.values)), drawn.values)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="that heads divide"):
        ChannelConfig(inner=10, heads=4)
