"""Binary spherical codes against their definition, and in training."""

import pytest
import torch
from unified.tokenizers.bsq import BSQConfig, BSQTokenizer
from unified.tokenizers.networks import NetworkConfig

TINY = NetworkConfig(latent=5, width=32, multipliers=(1,), blocks=0, groups=8, patch=4)
SHAPES = [(1, 1), (2, 2), (4, 4)]


@pytest.fixture
def tokenizer():
    torch.manual_seed(0)
    return BSQTokenizer(BSQConfig(network=TINY, sizes=(1, 2, 4))).eval()


def test_a_code_is_the_signs_of_its_channels(tokenizer):
    vectors = tokenizer.vectors(torch.tensor([0b10011]))
    assert torch.allclose(vectors, torch.tensor([[1.0, -1, -1, 1, 1]]) / 5**0.5)
    assert tokenizer.ids(vectors).tolist() == [0b10011]
    assert torch.equal(tokenizer.ids(tokenizer.codebook()), torch.arange(32))


def test_the_last_map_codes_the_signs_of_what_the_others_leave(tokenizer):
    latent = torch.randn(2, 5, 4, 4)
    ids, rests, total = tokenizer.quantise(latent, SHAPES)
    expected = (rests[-1] >= 0).float() * 2 - 1
    assert torch.allclose(tokenizer.vectors(ids[-1]), expected / 5**0.5)
    before = latent - rests[-1].transpose(1, 2).unflatten(2, (4, 4))
    last = tokenizer.vectors(ids[-1]).transpose(1, 2).unflatten(2, (4, 4))
    assert torch.allclose(total, before + last, atol=1e-6)


def test_decoding_ids_is_decoding_their_sum(tokenizer):
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    ids = tokenizer.encode(images)
    _, _, total = tokenizer.quantise(tokenizer.latent(images), SHAPES)
    assert torch.allclose(tokenizer.decode_maps(ids, SHAPES), tokenizer.decode_vectors(total), atol=1e-5)


def test_entropy_is_least_for_sure_bits_of_even_use(tokenizer):
    even = 100 * (2 * (torch.randint(2, (4096, 5))).float() - 1)
    assert tokenizer.entropy(even) < tokenizer.entropy(100 * torch.ones(64, 5)) - 0.6
    assert tokenizer.entropy(even) < tokenizer.entropy(0.001 * even) - 0.3


def test_learning_reaches_encoder_and_decoder(tokenizer):
    result = tokenizer.training_pass(torch.rand(2, 3, 16, 16), SHAPES, 0.1)
    (result.images[0].square().mean() + result.loss).backward()
    assert all(weight.grad is not None for weight in tokenizer.parameters())


def test_refusals(tokenizer):
    with pytest.raises(ValueError, match="1 to 62 bits"):
        BSQConfig(network=NetworkConfig(latent=63))
    with pytest.raises(ValueError, match="last map"):
        tokenizer.quantise(torch.zeros(1, 5, 4, 4), [(2, 2)])
