"""Harmon on tiny random modules: image spans, cached equals uncached, runs independent of the batch."""

import pytest
import torch

from unified.checkpoints.harmon.network import (
    IMAGE,
    Harmon,
    Prompts,
    images,
    language_model,
    latents,
    load,
    positions,
    resized,
    text_loss,
)
from unified.checkpoints.harmon.sampling import PromptCache, sample
from unified.checkpoints.mar.network import MAR, MARConfig
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.decoding.noise import PositionNoise
from unified.heads.denoiser import Denoiser
from unified.orders.masked_schedule import first_masked, shuffled_orders

LLM = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 31,
}


def tiny(semantic=0):
    torch.manual_seed(0)
    config = MARConfig(channels=3, tokens=9, classes=2, width=16, buffer=2, heads=4, hidden=20)
    model = Harmon(language_model(LLM), MAR(config, Denoiser(16, 3, 12, 1)), semantic)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def prompts(rows=2):
    """Of different lengths, padded on the right; a null prompt for each after them."""
    ids, mask = torch.zeros(2 * rows, 5, dtype=torch.long), torch.zeros(2 * rows, 5, dtype=torch.bool)
    for row in range(2 * rows):
        length = 3 + row % 3
        ids[row, :length] = torch.arange(1, length + 1) + 5 * (row < rows) * (row + 1)
        mask[row, :length] = True
    return Prompts(ids, mask)


def some(given, rows):
    return Prompts(given.ids[rows], given.mask[rows])


@torch.no_grad()
def test_a_span_after_cached_prompts_is_as_in_one_pass_and_leaves_no_trace():
    model, given = tiny(), prompts()
    cache, span = PromptCache(model, given), torch.randn(4, 6, 24)
    whole = model.after(given, span)
    for _ in range(2):
        torch.testing.assert_close(cache.after(span), whole, rtol=0, atol=1e-4)
        assert cache.cache.get_seq_length() == 5
    torch.testing.assert_close(cache.after(span[:, :4]), whole[:, :4], rtol=0, atol=1e-4)  # causal


@torch.no_grad()
def test_padding_and_hidden_tokens_have_no_effect():
    model, given = tiny(), prompts()
    tokens, mask = torch.randn(4, 9, 3), first_masked(shuffled_orders(4, (9,), 1), 5)
    found = model(given, tokens, mask, (3, 3))
    padded = Prompts(torch.where(given.mask, given.ids, 7), given.mask)
    other = torch.where(mask[..., None], torch.zeros_like(tokens), tokens)
    torch.testing.assert_close(model(padded, other, mask, (3, 3)), found)
    changed = Prompts(torch.where(given.mask, given.ids + 1, 0), given.mask)
    assert not torch.allclose(model(changed, tokens, mask, (3, 3)), found)


@torch.no_grad()
def test_the_buffer_is_read_last_and_goes_back_to_the_front():
    model = tiny()
    encoded = model.encode(torch.randn(1, 9, 3), torch.zeros(1, 9, dtype=torch.bool), (3, 3))
    span, plain = model.span(encoded), model.proj_in(encoded)
    assert torch.equal(span, torch.cat([plain[:, 2:], plain[:, :2]], dim=1))
    merged = model.merged(encoded, span)
    assert torch.equal(merged, encoded + model.proj_out(plain))


def test_understanding_sends_a_tenth_of_the_gradient_back():
    model = tiny()
    ids = torch.tensor([[3, *[IMAGE] * 11, 4, 5]])
    mask, labels = torch.ones_like(ids).bool(), torch.where(ids >= 0, ids, -100)
    tokens, found = torch.randn(1, 9, 3), []
    rows = model.understood(tokens, (3, 3))
    plain = model.span(model.encode(tokens, torch.zeros(1, 9, dtype=torch.bool), (3, 3)))
    assert torch.equal(rows, plain)
    for given in (rows, plain):
        loss = text_loss(model.logits(Prompts(ids, mask, given)), labels)
        found.append(torch.autograd.grad(loss, model.proj_in[0].weight, retain_graph=True)[0])
    torch.testing.assert_close(found[0], 0.1 * found[1])
    with pytest.raises(ValueError, match="11 image positions for 10 image rows"):
        model.logits(Prompts(ids, mask, rows[:, 1:]))


def test_the_text_loss_is_of_labels_that_are_not_negative():
    logits, labels = torch.randn(1, 4, 6), torch.tensor([[2, -100, 3, -1]])
    torch.testing.assert_close(text_loss(logits, labels), -logits[0, 1].log_softmax(0)[3])


SETTINGS = MaskedDecoding(
    steps=12, scale=2.0, sections=(4, 3, 2, 0)
)  # more steps than tokens: some write none


@pytest.mark.parametrize("grid", [(3, 3), (2, 4)])
def test_a_row_is_the_same_alone_and_in_a_batch(grid):
    model, given = tiny(), prompts()
    orders = shuffled_orders(2, (grid[0] * grid[1],), 1)
    both = sample(model, given, orders, grid, PositionNoise([3, 4]), SETTINGS)
    assert both.shape == (2, grid[0] * grid[1], 3)
    for row in range(2):
        own, one = some(given, [row, row + 2]), slice(row, row + 1)
        alone = sample(model, own, orders[one], grid, PositionNoise([3 + row]), SETTINGS)
        torch.testing.assert_close(alone[0], both[row], rtol=1e-3, atol=1e-3)
    assert not torch.equal(both[0], sample(model, given, orders, grid, PositionNoise([9, 4]), SETTINGS)[0])
    with pytest.raises(ValueError, match="need 4 prompts"):
        sample(model, some(given, [0, 1]), orders, grid, PositionNoise([1]), SETTINGS)


def test_positions_and_tables():
    assert positions(torch.tensor([[0, 1, 1, 0, 1]]).bool()).tolist() == [[0, 0, 1, 1, 2]]
    table = torch.arange(4.0).view(1, 4, 1)
    assert torch.equal(resized(table, (2, 2)), table)
    wide = resized(table, (2, 4))[0, :, 0]
    torch.testing.assert_close(wide, torch.tensor([0, 0.25, 0.75, 1, 2, 2.25, 2.75, 3]))
    latent = torch.randn(2, 4, 6, 4)
    torch.testing.assert_close(images(latents(latent, 2), (3, 2), 2), latent)


def test_weights_are_loaded_by_their_official_names():
    names = {"time.": "time_embed.mlp.", "condition.": "cond_embed.", "inputs.": "input_proj."}
    names |= {"outputs.": "final_layer.linear.", "modulation.": "final_layer.adaLN_modulation."}
    model, state = tiny(semantic=5), {}
    for name, value in model.state_dict().items():
        own = name.removeprefix("mar.diffloss.")
        if own != name:
            own = own.replace("blocks.", "res_blocks.").replace(".norm.", ".in_ln.")
            own = own.replace(".modulation.", ".adaLN_modulation.")
            start = next((ours for ours in names if own.startswith(ours)), "")
            name = "mar.diffloss.net." + names.get(start, "") + own.removeprefix(start)
        state[name] = value
    loaded = load(state, 4, LLM)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert "siglip2_proj.2.weight" in loaded.state_dict()
    del state["proj_out.0.bias"]
    with pytest.raises(ValueError, match=r"proj_out\.0\.bias"):
        load(state, 4, LLM)
