"""LARP's tokenizer, prior and losses at sizes other than the reference's."""

import math

import pytest
import torch

from unified.checkpoints.larp.network import LARP, LARPConfig, PriorConfig, clip_places, draw, initialise
from unified.checkpoints.larp.training import (
    Discriminator,
    LeCam,
    Sampling,
    non_saturating_discriminator,
    perplexity,
    prior_logits,
    prior_scores,
    smoothed_discriminator,
)

CONFIG = LARPConfig(
    clip=(4, 6),
    patch=(2, 3),
    tokens=5,
    width=8,
    heads=2,
    depths=(1, 1),
    codebook=(7, 3),
    prior=PriorConfig(layers=1, heads=1, width=4, longest=4),
)


@pytest.fixture
def tokenizer():
    torch.manual_seed(0)
    return LARP(CONFIG).eval()


def clips(seed=0):
    return torch.rand(2, 3, 4, 6, 6, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_clips_become_ids_and_clips_again(tokenizer):
    likeliest = tokenizer.encode(clips(), 0.1)
    assert likeliest.shape == (2, 5)
    assert tokenizer.encode(clips(), 1e-4, torch.Generator().manual_seed(1)).equal(likeliest)
    drawn = [tokenizer.encode(clips(), 5.0, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert drawn[0].equal(drawn[1])
    assert not drawn[0].equal(drawn[2])
    assert tokenizer.decode(likeliest).shape == clips().shape
    with pytest.raises(ValueError, match=r"clips must be \(4, 6\)"):
        tokenizer.encode(clips()[:, :, :2], 0.1)


def test_patches_are_put_together_where_they_were_cut(tokenizer):
    video = clips()
    frames, side, deep, high = 2, 2, 2, 3
    cut = video.view(2, 3, frames, deep, side, high, side, high).permute(0, 2, 4, 6, 3, 5, 7, 1)
    assert tokenizer._video(cut.reshape(2, frames * side * side, -1)).equal(video)


def test_positions_are_those_of_the_place_and_of_the_time():
    places = clip_places((2, 2), 8)[0].view(2, 2, 2, 8)
    assert places[0, 0, 1, :2].allclose(torch.tensor([1.0 * torch.sin(torch.tensor(1.0)), 0.0]), atol=0.02)
    assert (places[1] - places[0]).allclose((places[1] - places[0])[0, 0].expand(2, 2, 8), atol=1e-6)


def test_draws_follow_their_probabilities():
    probabilities = torch.tensor([0.7, 0.2, 0.1]).expand(1, 4000, 3)
    counts = draw(probabilities, torch.Generator().manual_seed(0)).flatten().bincount(minlength=3) / 4000
    assert counts.tolist() == pytest.approx([0.7, 0.2, 0.1], abs=0.03)


def test_the_prior_sees_earlier_codes_alone(tokenizer):
    vectors = torch.randn(1, 5, 3, requires_grad=True)
    found = tokenizer.prior_model(vectors)
    assert found.norm(dim=-1).allclose(torch.ones(1, 5))
    for place in range(1, 5):
        (gradient,) = torch.autograd.grad(found[0, place, 0], vectors, retain_graph=True)
        assert (gradient[0].abs().sum(dim=1) > 0).tolist() == [n < place for n in range(5)]


def scores(tokenizer, rounds, mask, ids):
    projected = tokenizer.bottleneck.in_linear(tokenizer.encoded(clips()))
    found = tokenizer.bottleneck.quantise(projected, 0.1, ids)
    replaced = (mask, torch.zeros(2, 4, dtype=torch.long))
    return prior_scores(tokenizer, found.output, ids, Sampling(rounds=rounds), replaced), found


def test_rounds_without_replaced_codes_are_the_first_round(tokenizer):
    ids = torch.randint(7, (2, 5), generator=torch.Generator().manual_seed(3))
    none, every = torch.zeros(2, 4, 1, dtype=torch.bool), torch.ones(2, 4, 1, dtype=torch.bool)
    once, found = scores(tokenizer, 1, none, ids)
    again, mixed = scores(tokenizer, 3, none, ids)[0], scores(tokenizer, 2, every, ids)[0]
    assert once.loss.allclose(again.loss)
    assert not once.loss.allclose(mixed.loss, atol=1e-4)
    logits = prior_logits(tokenizer, found.output, 1.0)
    plain = -logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).mean()
    assert once.loss.allclose(plain)
    assert once.top1 <= once.top5 <= 100
    with pytest.raises(ValueError, match="2 rounds need a mask"):
        prior_scores(tokenizer, found.output, ids, Sampling(rounds=2))


def test_the_prior_moves_the_encoder_and_never_the_codebook(tokenizer):
    loss = scores(tokenizer, 2, torch.ones(2, 4, 1) > 0, torch.ones(2, 5, dtype=torch.long))[0].loss
    loss.backward()
    assert tokenizer.x_embedder.proj.weight.grad.abs().sum() > 0
    assert tokenizer.bottleneck.regularizer.embedding.weight.grad is None


def test_the_share_of_sampled_inputs_rises_and_stays():
    sampling = Sampling(most=0.4, peak=0.5)
    assert [sampling.ratio(step, 100) for step in (0, 25, 50, 99)] == pytest.approx([0, 0.2, 0.4, 0.4])


def test_discriminator_losses():
    critic = Discriminator((2, 3), (2, 2), 8, depth=1, heads=2)
    assert critic(clips()).shape == (2, 1)
    real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[-1.0], [0.0]])
    zero = torch.zeros(2, 1)
    assert smoothed_discriminator(real, fake, (zero, zero)).allclose(non_saturating_discriminator(real, fake))
    far = torch.full((2, 1), 100.0)
    assert smoothed_discriminator(zero, zero, (far, far)).item() == pytest.approx(2 * math.log(2))
    means = LeCam(real=1.0, fake=0.0, weight=0.5, decay=0.9)
    assert means.penalty(real, fake).item() == pytest.approx(0.5 * (4 + 2.25))
    assert (means.updated(real, fake).real, means.updated(real, fake).fake) == pytest.approx((1.1, -0.05))


def test_the_start_is_xavier_with_a_silent_last_layer(tokenizer):
    initialise(tokenizer)
    assert tokenizer.final_layer.linear.weight.eq(0).all()
    bound = math.sqrt(6 / (3 + 4))
    assert tokenizer.prior_model.input_proj.weight.abs().max() <= bound
    assert tokenizer.prior_model.input_proj.bias.eq(0).all()


def test_perplexity_and_sizes_that_do_not_fit():
    assert perplexity(torch.arange(4), 4).item() == pytest.approx(4, rel=1e-4)
    assert perplexity(torch.zeros(4, dtype=torch.long), 4).item() == pytest.approx(1, rel=1e-4)
    with pytest.raises(ValueError, match="cannot be cut"):
        LARPConfig(clip=(7, 16))
    with pytest.raises(ValueError, match="the prior is for 16 codes"):
        LARPConfig(tokens=18)
