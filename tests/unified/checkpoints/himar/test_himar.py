"""Hi-MAR on tiny random modules: phases, hidden pivots, known tokens that stay, runs independent of the
batch."""

from dataclasses import replace

import pytest
import torch

from unified.checkpoints.himar.grid_head import GridDenoiser, denoise_grid, grid_loss
from unified.checkpoints.himar.network import DENSE, PIVOTS, HiMAR, HiMARConfig, load
from unified.checkpoints.himar.sampling import TwoPhaseDecoding, pivot_steps, sample
from unified.checkpoints.himar.training import Draws, Masks, hand_over_share, losses
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.decoding.noise import PositionNoise
from unified.heads.denoiser import Denoiser
from unified.heads.diffusion_schedule import cosine
from unified.orders.masked_schedule import first_masked, shuffled_orders

LABELS = torch.tensor([1, 3])


def tiny(*, noisy=True, **sizes):
    torch.manual_seed(0)
    config = HiMARConfig(**{"channels": 3, "tokens": 9, "classes": 5, "width": 16, **sizes})
    head = Denoiser(config.width, config.channels, 12, 1)
    model = HiMAR(config, head, GridDenoiser(config.width, config.channels, config.tokens))
    for name, parameter in model.named_parameters():
        if noisy or not name.endswith(("adaLN_scale", "adaLN_shift")):
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def settings(scale=1.0):
    both = MaskedDecoding(steps=3, scale=scale, sections=(4, 3, 2, 0))
    return TwoPhaseDecoding(pivots=replace(both, steps=8), dense=both)


def orders(model, seed=1):
    return shuffled_orders(2, (model.config.pivots, model.config.tokens), seed)


@torch.no_grad()
def test_phases_are_plain_blocks_at_first_and_differ_once_trained():
    model = tiny(noisy=False)
    rows, mask = torch.randn(2, 4, 16), torch.zeros(2, 13, dtype=torch.bool)
    tokens, told = torch.randn(2, 9, 3), model.classes(LABELS, 2)
    model.encoder_pos_embed_learned[:, 16:] = model.encoder_pos_embed_learned[:, :16]
    model.decoder_pos_embed_learned[:, 16:] = model.decoder_pos_embed_learned[:, :16]
    found = [model(phase, rows, tokens, mask, told) for phase in (PIVOTS, DENSE)]
    assert torch.equal(*found)
    torch.nn.init.normal_(model.encoder_blocks[0].adaLN_scale)
    assert not torch.equal(found[0], model(PIVOTS, rows, tokens, mask, told))


@torch.no_grad()
def test_unknown_places_have_no_effect():
    model = tiny()
    rows, tokens, told = torch.randn(2, 4, 16), torch.randn(2, 9, 3), model.classes(LABELS, 2)
    mask = torch.cat([first_masked(orders(model)[:, :4], 2), torch.ones(2, 9, dtype=torch.bool)], dim=1)
    other = torch.where(mask[:, :4, None], torch.zeros_like(rows), rows)
    assert torch.equal(model(PIVOTS, rows, tokens, mask, told), model(PIVOTS, other, -tokens, mask, told))


@torch.no_grad()
def test_the_second_phase_reads_hidden_states_and_not_sampled_pivots():
    model = tiny()
    one = sample(model, LABELS, orders(model), PositionNoise([1]), settings())
    model.cond_tokens.add_(1)  # placeholders are for training alone
    again = sample(model, LABELS, orders(model), PositionNoise([1]), settings())
    assert torch.equal(one.tokens, again.tokens)
    model.cond_z_proj.weight.mul_(-1)
    other = sample(model, LABELS, orders(model), PositionNoise([1]), settings())
    assert torch.equal(one.pivots, other.pivots)
    assert not torch.equal(one.tokens, other.tokens)


@torch.no_grad()
def test_tokens_that_left_the_mask_are_never_written_again():
    model, entered = tiny(), []
    made = sample(model, LABELS, orders(model), PositionNoise([1]), settings(2.0), entered.append)
    dense = [step for step in entered if step.phase == DENSE]
    for step in dense:
        assert torch.equal(made.tokens[~step.mask], step.tokens[~step.mask])
    assert not torch.equal(made.tokens, dense[-1].tokens)  # what is masked is redone
    assert [len(step.hidden) for step in entered] == [4] * len(entered)


def test_a_row_is_the_same_alone_and_in_a_batch():
    model = tiny()
    both = sample(model, LABELS, orders(model), PositionNoise([3, 4]), settings(2.0))
    for row in range(2):
        one = slice(row, row + 1)
        alone = sample(model, LABELS[one], orders(model)[one], PositionNoise([3 + row]), settings(2.0))
        torch.testing.assert_close(alone.tokens[0], both.tokens[row], rtol=1e-4, atol=1e-4)
    other = sample(model, LABELS, orders(model), PositionNoise([9, 4]), settings(2.0))
    assert not torch.equal(both.tokens[0], other.tokens[0])


@torch.no_grad()
def test_the_grid_head_sees_known_tokens_through_their_neighbours_alone():
    model, schedule = tiny(), cosine(1000, (4, 3, 2, 0))
    hidden, tokens = torch.randn(1, 9, 16), torch.randn(1, 9, 3)
    mask, normal = torch.arange(9)[None] > 3, torch.randn(1, 9, 9, 3)
    head = model.cond_diffloss
    found = denoise_grid(head, hidden, tokens, mask, normal, schedule)
    other = torch.where(mask[..., None], torch.zeros_like(tokens), tokens)
    assert torch.equal(found, denoise_grid(head, hidden, other, mask, normal, schedule))
    assert not torch.equal(found, denoise_grid(head, hidden, tokens + 1, mask, normal, schedule))
    same = torch.cat([hidden, hidden])  # equal branches: guidance changes nothing
    torch.testing.assert_close(denoise_grid(head, same, tokens, mask, normal, schedule, 3.0), found)


def test_the_grid_loss_counts_masked_tokens_alone_and_divides_by_all():
    model = tiny()
    head, hidden, tokens = model.cond_diffloss, torch.randn(2, 9, 16), torch.randn(2, 9, 3)
    noise, steps, mask = torch.randn(2, 9, 3), torch.tensor([10, 700]), torch.rand(2, 9) < 0.5
    found = grid_loss(head, hidden, tokens, mask, steps, noise)
    kept = cosine(1000).kept[steps].float()[:, None, None]
    error = (noise - head(kept.sqrt() * tokens + (1 - kept).sqrt() * noise, steps, hidden)).square()
    torch.testing.assert_close(found, (error * mask[..., None]).sum(dim=(1, 2)) / 27)


def test_gradients_do_not_reach_the_first_phase_through_the_second():
    model = tiny()
    masks = Masks(first_masked(orders(model)[:, :4], 3), torch.rand(2, 9) < 2, torch.tensor([False, True]))
    told = (model.classes(LABELS, 2),) * 2
    draws = Draws(
        torch.randint(1000, (16,)), torch.randn(16, 3), torch.tensor([3, 900]), torch.randn(2, 9, 3)
    )
    pivots, tokens = torch.randn(2, 4, 3, requires_grad=True), torch.randn(2, 9, 3)
    made = losses(model, pivots, tokens, masks, told, draws)
    assert torch.autograd.grad(made.dense, pivots, retain_graph=True, allow_unused=True)[0] is None
    assert torch.autograd.grad(made.total, model.cond_z_proj.weight, retain_graph=True)[0].abs().sum() > 0
    torch.testing.assert_close(made.total, 0.2 * made.pivots + 0.8 * made.dense)


def test_schedules_of_both_phases():
    assert pivot_steps(64) == 32
    assert [hand_over_share(0.25, epoch) for epoch in (0, 50, 400)] == [0.0, 0.125, 0.25]


def test_weights_that_do_not_fit_are_refused():
    state = {name: value for name, value in tiny().state_dict().items() if "diffloss" not in name}
    with pytest.raises(ValueError, match="input_proj"):
        load(state, 2, 2)
