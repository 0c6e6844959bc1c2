"""One codebook for frames and actions: transforms invert, codes are exact, overlap says what is shared."""

import pytest
import torch
from unified.tokenizers.shared_latent import SharedLatent, SharedLatentConfig, cosine_transform, overlap


@pytest.fixture
def shared():
    torch.manual_seed(0)
    return SharedLatent(SharedLatentConfig(width=8, side=16, codes=16))


@pytest.mark.parametrize("steps", [1, 2, 6, 8])
def test_the_cosine_transform_is_orthogonal(steps):
    found = cosine_transform(steps)
    torch.testing.assert_close(found @ found.T, torch.eye(steps), atol=1e-6, rtol=0)


def test_a_constant_is_its_first_frequency():
    found = cosine_transform(6) @ torch.ones(6)
    assert float(found[1:].abs().max()) < 1e-5


def test_shapes_and_codes(shared):
    before, after = torch.rand(2, 3, 3, 16, 16).mul(2).sub(1).unbind()
    actions = torch.randn(3, 6, 2)
    for latent in (shared.latent_of_frames(before, after), shared.latent_of_actions(actions)):
        ids, codes, _ = shared.quantise(latent)
        assert ids.shape == (3, 4)
        torch.testing.assert_close(codes, shared.vectors(ids))
        assert torch.equal(shared.nearest(shared.vectors(ids)), ids)
        assert shared.frames(before, codes).shape == before.shape
        assert shared.actions(codes).shape == actions.shape


def test_both_losses_train_the_codebook_and_their_own_half_alone(shared):
    before, after = torch.rand(2, 3, 3, 16, 16).unbind()
    shared.action_loss(torch.randn(3, 6, 2)).backward()
    assert shared.codebook.grad.abs().sum() > 0
    assert all(p.grad is None for p in shared.see.parameters())
    shared.zero_grad()
    shared.frame_loss(before, after).backward()
    assert shared.codebook.grad.abs().sum() > 0
    assert all(p.grad is None or not p.grad.any() for p in shared.act.parameters())


def test_chunks_are_learnt(shared):
    actions = torch.randn(8, 6, 2)
    optimiser = torch.optim.Adam(shared.parameters(), 3e-3)
    first = float(shared.action_loss(actions).detach())
    for _ in range(150):
        loss = shared.action_loss(actions)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.4 * first


def test_codes_that_are_not_used_are_put_where_latents_are(shared):
    latents, used = (
        torch.randn(5, 16),
        torch.zeros(16, dtype=torch.bool).index_fill_(0, torch.tensor([3]), True),
    )
    kept = shared.codebook[3].clone()
    assert shared.restart(latents, used, torch.Generator().manual_seed(0)) == 15
    assert torch.equal(shared.codebook[3], kept)
    assert all(any(torch.equal(row, latent) for latent in latents) for row in shared.codebook[4:])


def test_overlap():
    one = torch.arange(8).view(4, 2)
    same, apart = overlap(one, one, 16), overlap(one, one + 8, 16)
    assert same["shared"] == pytest.approx(1)
    assert apart["shared"] == pytest.approx(0)
    assert same["information"] == pytest.approx(apart["information"])  # a relabelling tells as much
    alone = overlap(one, torch.zeros_like(one), 16)
    assert alone["information"] == pytest.approx(0)
    assert alone["perplexity_actions"] == pytest.approx(1)
    assert alone["perplexity_frames"] == pytest.approx(8)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of 8"):
        SharedLatentConfig(side=20)
