"""Selftok's schedules, quantiser and networks at sizes other than the reference's."""

import pytest
import torch
import torch.nn.functional as F

from unified.checkpoints.selftok import schedule as schedules
from unified.checkpoints.selftok.network import Selftok, SelftokConfig, cropped, sample, velocity_loss
from unified.checkpoints.selftok.quantiser import Quantiser, TrainingConfig, diversity_weight
from unified.checkpoints.selftok.schedule import Schedule

CONFIG = SelftokConfig(
    latent=(3, 8),
    codes=6,
    codebook=(7, 4),
    streams=((8, 1), (12, 2)),
    context=5,
    decoder=(16, 2, 6),
    depths=(2, 2),
)


@pytest.fixture
def tokenizer():
    torch.manual_seed(0)
    return Selftok(CONFIG).eval()


def latents(seed=0, side=8):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


# Schedules -------------------------------------------------------------------------------------


def test_noise_sees_all_codes_and_a_clean_image_one():
    schedule = Schedule((250, 1000), (4, 8))
    assert schedule.codes == 12
    times = torch.tensor([0.0, 62.5, 249.9, 250.0, 1000.0])
    assert schedule.index(times).tolist() == [0, 1, 3, 4, 11]
    seen = schedules.visible(schedule.index(torch.tensor([0.0, 1000.0])), 12)
    assert seen.sum(dim=1).tolist() == [1, 12]
    rising = schedule.index(torch.arange(1001.0))
    assert rising.equal(rising.sort().values)


def test_schedules_are_read_from_published_options():
    assert Schedule.parse("500,1000", "2,6") == Schedule([500, 1000], [2, 6])
    for ends, counts in (("500,400", "1,1"), ("1000", "1,1"), ("1000", "0"), ("0", "4")):
        with pytest.raises(ValueError, match="rising ends and a count each"):
            Schedule.parse(ends, counts)


def test_shifted_times_keep_their_ends():
    times = torch.linspace(0, 1, 5)
    assert schedules.shifted(times, 1.0).equal(times)
    moved = schedules.shifted(times, 3.0)
    assert moved.tolist() == pytest.approx([0, 0.5, 0.75, 0.9, 1])
    assert schedules.shift_of(2047) == 1
    assert schedules.shift_of(2048) == schedules.SHIFT


# Quantiser -------------------------------------------------------------------------------------


def quantiser(places=64):
    torch.manual_seed(1)
    return Quantiser(8, places, (5, 3), 4)


def test_codes_follow_the_vectors_by_exponential_averages():
    part, queries = quantiser(), torch.randn(2, 64, 8)
    book, config = part._codebook, TrainingConfig(decay=0.9)
    sums, sizes, use = (x[0].clone() for x in (book.embed_avg, book.cluster_size, book.timestep_p_over_c))
    vectors = part.vectors(queries).detach()
    step = part.step(queries, config)
    for code in range(5):
        chosen = step.ids == code
        sums[code] = 0.9 * sums[code] + 0.1 * vectors[chosen].sum(dim=0)
        sizes[code] = 0.9 * sizes[code] + 0.1 * chosen.sum()
    assert book.embed_avg[0].allclose(sums, atol=1e-6)
    assert book.cluster_size[0].allclose(sizes, atol=1e-6)
    assert book.embed[0].allclose(F.normalize(sums, dim=-1), atol=1e-6)  # sizes scale, and go with the length
    chosen = F.one_hot(step.ids, 5).float().mean(dim=0)
    assert book.timestep_p_over_c[0].allclose(0.3 * use + 0.7 * chosen)
    later = F.one_hot(part.step(queries, config).ids, 5).float().mean(dim=0)
    expected = 0.9 * (0.3 * use + 0.7 * chosen) + 0.1 * later  # from the second step on by the decay
    assert book.timestep_p_over_c[0].allclose(expected, atol=1e-6)


def test_without_diversity_only_the_commitment_and_the_output_have_gradients():
    part, queries = quantiser(), torch.randn(2, 64, 8, requires_grad=True)
    before = part._codebook.embed[0].clone()
    step = part.step(queries, TrainingConfig(diversity=0.0))
    (found,) = torch.autograd.grad(step.loss, queries)
    vectors = part.vectors(queries)
    plain = (F.embedding(step.ids, before) - vectors).square().mean()
    assert found.allclose(torch.autograd.grad(plain, queries)[0], atol=1e-7)
    assert step.loss.allclose(plain)


def test_diversity_counts_while_few_codes_are_used():
    assert diversity_weight(0.05, (0.1, 0.3)) == 0.5
    assert diversity_weight(0.2, (0.1, 0.3)) == pytest.approx(0.25)
    assert diversity_weight(0.9, (0.1, 0.3)) == 0
    with pytest.raises(ValueError, match="at least 64 codes an image, got 63"):
        quantiser(63).step(torch.randn(1, 63, 8), TrainingConfig())


# Networks --------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_latent_becomes_ids_and_is_drawn_from_noise(tokenizer):
    for side in (8, 12):
        ids = tokenizer.encoder.encode(latents(side=side))
        assert ids.shape == (2, 6)
        tokens = tokenizer.encoder.tokens(ids)
        made = sample(tokenizer.model, latents(1, side), tokens, Schedule((1000,), (6,)), 2)
        assert made.shape == (2, 3, side, side)
        again = sample(tokenizer.model, latents(1, side), tokens, Schedule((1000,), (6,)), 2)
        assert made.equal(again)


def test_the_decoder_is_blind_to_codes_that_are_not_visible(tokenizer):
    tokens = torch.randn(1, 6, 5, requires_grad=True)
    seen = torch.arange(6)[None] <= 2
    for context_sees in (True, False):
        velocity = tokenizer.model(latents()[:1], torch.tensor([0.5]), tokens, seen, context_sees)
        (gradient,) = torch.autograd.grad(velocity.square().sum(), tokens)
        assert (gradient[0].abs().sum(dim=1) > 0).tolist() == [True] * 3 + [False] * 3


@torch.no_grad()
def test_whether_codes_see_the_image_matters_and_nothing_else_does(tokenizer):
    tokens, seen = torch.randn(2, 6, 5), torch.ones(2, 6, dtype=torch.bool)
    times = torch.tensor([0.2, 0.7])
    sees, blind = (tokenizer.model(latents(), times, tokens, seen, flag) for flag in (True, False))
    assert not sees.allclose(blind, atol=1e-5)
    alone = tokenizer.model(latents()[1:], times[1:], tokens[1:], seen[1:])
    assert sees[1:].allclose(alone, atol=1e-5)


@torch.no_grad()
def test_the_image_stream_never_sees_the_queries(tokenizer):
    block = tokenizer.encoder.blocks[0]
    image, queries = torch.randn(1, 4, 8), torch.randn(1, 6, 12)
    assert block(image, queries)[0].equal(block(image, torch.randn(1, 6, 12))[0])
    assert not block(image, queries)[1].allclose(block(image + 1, queries * 2)[1])


def test_positions_are_cut_from_the_middle():
    table = torch.arange(16.0).view(1, 16, 1)
    assert cropped(table, 2, 2).flatten().tolist() == [5, 6, 9, 10]
    assert cropped(table, 4, 4).equal(table)
    with pytest.raises(ValueError, match="at most 4 x 4 patches, got 5 x 4"):
        cropped(table, 5, 4)


def test_the_target_is_the_velocity_from_the_image_to_noise():
    latent, noise = latents(0), latents(1)
    assert velocity_loss(noise - latent, latent, noise).eq(0).all()
    assert velocity_loss(noise - latent + 2, latent, noise).tolist() == pytest.approx([4, 4])
    at = [schedules.noised(latent, noise, torch.full((2,), time)) for time in (0.0, 1.0)]
    assert at[0].equal(latent)
    assert at[1].equal(noise)
