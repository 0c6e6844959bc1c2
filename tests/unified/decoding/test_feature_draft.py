"""A drafter that continues hidden states: what it is trained on, and drafts in sessions."""

import pytest
import torch

from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import FeatureDraft, FeatureDrafter, Lantern, Speculative
from unified.decoding.strategies.feature_draft import drafter_loss, feature_loss, images_of

GREEDY, RANDOM = Sampler(temperature=0), Sampler(temperature=0.9)


@pytest.fixture(scope="module")
def model(make_model):
    return make_model({"orders": ["raster", "diagonal"]})


def session_of(model, strategy=None, rows=3):
    words = model.vocabulary
    session = Session(model, rows=rows, seed=5, strategy=strategy)
    session.feed([[words.begin, words.user, 3 + n, words.end, words.assistant] for n in range(rows)])
    return session


@pytest.fixture(scope="module")
def trained(model):
    """On images that the model drew."""
    session = session_of(model, rows=8)
    session.draw([(3, 4)], order="raster", sampler=RANDOM)
    ids = torch.tensor(session.streams)
    torch.manual_seed(0)
    drafter = FeatureDrafter(model.width, heads=4, inner=64)
    optimiser = torch.optim.Adam(drafter.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = drafter_loss(drafter, model, ids).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    model.zero_grad()
    return drafter.eval()


def test_training_sees_what_sessions_see(model):
    """Inputs and states of a teacher-forced pass, against those that a session hands to a draft."""
    seen = []

    class Watches(FeatureDraft):
        def image(self, session, chunk, *rest):
            seen.append(chunk.history())
            return super().image(session, chunk, *rest)

    session = session_of(model, Speculative(draft=Watches(drafter=FeatureDrafter(model.width)), length=1))
    session.draw([(2, 3)], order="raster", sampler=RANDOM)
    ((inputs, states),) = images_of(model, torch.tensor(session.streams))
    for history in seen:
        for rows, fed, before in history:
            assert fed.shape == before.shape
            count = fed.shape[1]
            torch.testing.assert_close(fed[0], inputs[rows[0], :count], atol=1e-4, rtol=0)
            torch.testing.assert_close(before[0], states[rows[0], :count], atol=1e-4, rtol=0)
    assert max(history[0][1].shape[1] for history in seen) >= 4


@pytest.mark.parametrize("order", ["raster", "diagonal"])
@pytest.mark.parametrize("guidance", [None, Constant(2.0)], ids=["plain", "guided"])
def test_greedy_images_are_those_of_the_default(model, trained, order, guidance):
    drawn = []
    for strategy in (None, Speculative(draft=FeatureDraft(drafter=trained), length=3)):
        session = session_of(model, strategy)
        drawn.append(session.draw([(3, 4)], order=order, sampler=GREEDY, guidance=guidance).codes)
    assert torch.equal(*drawn)
    drafted = session.stats.drafted.sum()
    assert drafted > 0 if order == "raster" else drafted == 0  # several codes a step: it guesses nothing


def test_a_trained_draft_is_accepted_more_often(model, trained):
    torch.manual_seed(1)
    worse = FeatureDrafter(model.width, inner=64)
    torch.nn.init.normal_(worse.join.weight, std=0.3)
    rates = []
    for drafter in (worse, trained):
        session = session_of(model, Speculative(draft=FeatureDraft(drafter=drafter), length=2))
        session.draw([(3, 4)], order="raster", sampler=RANDOM)
        rates.append(session.stats.accepted.sum() / session.stats.drafted.sum())
    assert rates[1] > rates[0] + 0.1


def test_a_row_is_the_same_alone_under_relaxed_acceptance(model, trained):
    codebook = torch.randn(model.vocabulary.visual, 4, generator=torch.Generator().manual_seed(0))
    lantern = Lantern(codebook=codebook, draft=FeatureDraft(drafter=trained), length=3, delta=0.4)
    both = session_of(model, lantern).draw([(3, 4)], order="raster", sampler=RANDOM)
    alone = session_of(model, lantern, rows=1).draw([(3, 4)], order="raster", sampler=RANDOM)
    assert torch.equal(both.codes[:1], alone.codes)


def test_the_drafter_is_causal_and_begins_as_the_state_before():
    torch.manual_seed(0)
    drafter = FeatureDrafter(8, heads=2).eval()
    inputs, before = torch.randn(2, 2, 5, 8)
    whole = drafter(inputs, before)
    torch.testing.assert_close(drafter(inputs[:, :3], before[:, :3]), whole[:, :3], atol=1e-5, rtol=0)
    assert torch.equal(drafter.join(torch.cat([inputs, before], dim=-1)), before)


def test_the_loss_leaves_out_what_the_mask_does():
    rng = torch.Generator().manual_seed(0)
    output, target = torch.randn(2, 2, 3, 4, generator=rng)
    logits, wanted = torch.randn(2, 2, 3, 6, generator=rng)
    mask = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    found = feature_loss(output, target, logits, wanted, mask)
    kept = [feature_loss(*(x[:1, n : n + 1] for x in (output, target, logits, wanted, mask))) for n in (0, 2)]
    torch.testing.assert_close(found.total, sum(one.total for one in kept) / 2, atol=1e-4, rtol=1e-4)


def test_rows_without_a_written_image_are_refused(model):
    words = model.vocabulary
    ids = torch.tensor([[words.begin, words.user, 3, words.end, words.assistant, 4, words.end]])
    with pytest.raises(ValueError, match="written images"):
        drafter_loss(FeatureDrafter(model.width), model, ids)
