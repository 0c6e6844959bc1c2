"""UniPic's editing on tiny random modules: the source matters in both places, and rows do not depend on the
batch."""

import pytest
import torch

from unified.checkpoints.harmon.network import Harmon, Prompts, language_model
from unified.checkpoints.mar.network import MAR, MARConfig
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.checkpoints.unipic.editing import conditions, sample, source_image, with_source
from unified.decoding.noise import PositionNoise
from unified.heads.denoiser import Denoiser
from unified.orders.masked_schedule import first_masked, shuffled_orders

LLM = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 31,
}
IMAGE, GRID = 29, (2, 3)
SETTINGS = MaskedDecoding(steps=3, scale=2.0, linear=False, sections=(4, 3, 2, 0))


def tiny():
    torch.manual_seed(0)
    config = MARConfig(channels=3, tokens=9, classes=2, width=12, buffer=2, heads=2, hidden=20)
    model = Harmon(language_model(LLM), MAR(config, Denoiser(12, 3, 8, 1)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def prompts(rows):
    """Image positions (2 + 6) and an instruction; the null prompts after them are shorter."""
    ids = torch.tensor([[*[IMAGE] * 8, 3 + row % rows, 4, 5 if row < rows else 0] for row in range(2 * rows)])
    return Prompts(ids, ids != 0, image=IMAGE)


@torch.no_grad()
def test_the_source_reaches_the_decoder_and_the_language_model():
    model, tokens = tiny(), torch.randn(2, 6, 3)
    source, other = (source_image(model, torch.randn(2, 6, 3), GRID) for _ in range(2))
    given, mask = prompts(1), first_masked(shuffled_orders(2, (6,), 1), 4)
    found = conditions(model, with_source(given, source, IMAGE), source, tokens, mask, GRID)
    for mixed in (source._replace(encoded=other.encoded), source._replace(rows=other.rows)):
        told = with_source(given, mixed, IMAGE)
        assert not torch.allclose(conditions(model, told, mixed, tokens, mask, GRID), found, atol=1e-3)


@torch.no_grad()
def test_with_all_tokens_known_the_decoder_ignores_its_source():
    model, tokens = tiny(), torch.randn(2, 6, 3)
    encoded = model.encode(tokens, torch.zeros(2, 6, dtype=torch.bool), GRID)
    none = torch.zeros(2, 6, dtype=torch.bool)
    plain = model.decode(encoded, none, GRID)
    assert torch.equal(model.decode(encoded, none, GRID, torch.randn_like(encoded)), plain)


@torch.no_grad()
def test_a_row_is_the_same_alone_and_in_a_batch():
    model, tokens, orders = tiny(), torch.randn(2, 6, 3), shuffled_orders(2, (6,), 1)
    source = source_image(model, tokens, GRID)
    both = sample(model, prompts(2), source, orders, GRID, PositionNoise([3, 4]), SETTINGS)
    given = prompts(2)
    for row in range(2):
        one = slice(row, row + 1)
        own = Prompts(given.ids[[row, row + 2]], given.mask[[row, row + 2]], image=IMAGE)
        alone = source_image(model, tokens[one], GRID)
        found = sample(model, own, alone, orders[one], GRID, PositionNoise([3 + row]), SETTINGS)
        torch.testing.assert_close(found[0], both[row], rtol=1e-3, atol=1e-3)


def test_a_source_of_another_size_is_refused():
    model = tiny()
    source = source_image(model, torch.randn(1, 4, 3), (2, 2))
    with pytest.raises(ValueError, match="source and target differ: 6 and 8"):
        sample(model, prompts(1), source, shuffled_orders(1, (6,), 1), GRID, PositionNoise([1]), SETTINGS)


def test_little_gradient_flows_back_through_a_source():
    model, tokens = tiny(), torch.randn(1, 6, 3)
    none = torch.zeros(1, 6, dtype=torch.bool)
    weight = model.mar.z_proj.weight
    plain = torch.autograd.grad(model.encode(tokens, none, GRID).square().sum(), weight)[0]
    found = torch.autograd.grad(source_image(model, tokens, GRID).encoded.square().sum(), weight)[0]
    torch.testing.assert_close(found, 0.1 * plain)
