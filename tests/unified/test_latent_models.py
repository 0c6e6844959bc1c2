"""Continuous heads in masked and blockwise orders: what must hold of every order, on predictions."""

import sys
from pathlib import Path

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.bound import Bounded, fixed, step_groups
from unified.config import UnifiedConfig
from unified.decoding.guidance import Constant
from unified.decoding.minimum_risk import MinimumRisk
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.heads import LATENT_HEADS
from unified.layout.layout import Layout, pack
from unified.orders import plan_for
from unified.stream.messages import Stream

sys.path.insert(0, str(Path(__file__).parents[1]))  # pytest's import mode adds no folder
from latent_models import ORDERS, latent_model, latent_vocabulary

SHAPE = (4, 4)


@pytest.fixture(scope="module", params=LATENT_HEADS)
def model(request):
    return latent_model(request.param)


@pytest.fixture(scope="module")
def stream():
    return Stream(latent_vocabulary(), byte_tokenizer())


def prompt(stream, text="draw"):
    return stream.encode([{"role": "user", "content": text}], prompt=True)


def written(stream, order, seed=0, text="draw"):
    """A sample whose answer is an image."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(stream.vocabulary.visual, (16,), generator=generator).tolist()
    image = {"type": "image", "codes": codes, "shapes": [list(SHAPE)], "order": order}
    return stream.encode(
        [
            {"role": "user", "content": text},
            {"role": "assistant", "content": [image, {"type": "text", "text": "done"}]},
        ]
    )


@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_no_leak(model, stream, order):
    """Changing the value at a slot changes no prediction of its step or an earlier one."""
    plan = plan_for(order, (SHAPE,))
    ids = torch.tensor([written(stream, order)])
    layout = Layout.of(ids, model.vocabulary)
    first = int(layout.writes[0].starts[0])
    before = model.states(ids, layout)[0][0, first : first + 16]
    for slot in (0, 5, 10, 15):
        changed = ids.clone()
        changed[0, first + slot] = model.vocabulary.visual_start + 12345 * (slot + 1)
        after = model.states(changed, layout)[0][0, first : first + 16]
        known = plan.labels <= plan.labels[slot]
        assert torch.equal(after[known], before[known])
        assert plan.labels[slot] == plan.count - 1 or not torch.equal(after, before)


@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_cached_equals_uncached(model, stream, order):
    session = Session(model, seed=3)
    session.feed(prompt(stream))
    steps = list(session.image([SHAPE], order=order))
    ids = torch.tensor(session.streams)
    layout = Layout.of(ids, model.vocabulary)
    first, full = int(layout.writes[0].starts[0]), model.states(ids, layout)[0]
    for choice in steps:
        cached = choice.predicted.terms[0].hidden[0]
        torch.testing.assert_close(cached, full[0, first + choice.slots], atol=1e-4, rtol=0)
        if model.head.kind == "diffusion":  # what is not learned multiplies rounding errors by far more
            continue
        again = model.head.distribution(full[:, first + choice.slots])
        places = torch.tensor([[session.rows[0].place - len(ids[0]) + first]]) + choice.slots
        drawn = again.sample(session.noise, places, Sampler()).values
        kept = model.head.to_symbols(model.head.to_codes(drawn))  # within the reach of the grid
        torch.testing.assert_close(model.head.to_symbols(choice.codes), kept, atol=2e-3, rtol=0)


@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_packed_equals_unpacked(model, stream, order):
    samples = [written(stream, order, seed, text) for seed, text in enumerate(("", "x", "a dog"))]
    packed = pack(samples, sum(map(len, samples)) + 5, model.vocabulary)
    together, start = model(packed).log_probs[0], 0
    for sample in sorted(samples, key=len, reverse=True):
        alone = model(torch.tensor([sample])).log_probs[0]
        torch.testing.assert_close(together[start : start + len(sample)], alone, atol=1e-4, rtol=1e-5)
        start += len(sample)


def test_noise_is_that_of_row_and_position(model, stream):
    together = Session(model, rows=2, seed=[5, 6])
    together.feed([prompt(stream, "a"), prompt(stream, "a house")])
    both = together.draw([SHAPE], order="masked(steps=3)").codes
    alone = Session(model, seed=[6])
    alone.feed(prompt(stream, "a house"))
    one = alone.draw([SHAPE], order="masked(steps=3)").codes
    found, expected = model.head.to_symbols(both[1:]), model.head.to_symbols(one)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert not torch.equal(both[0], both[1])


def test_guidance_runs_and_a_zero_weight_changes_nothing(model, stream):
    def drawn(guidance):
        session = Session(model, seed=0)
        session.feed(prompt(stream))
        return model.head.to_symbols(session.draw([SHAPE], order="blocks", guidance=guidance).codes)

    torch.testing.assert_close(drawn(Constant(1.0)), drawn(None), atol=1e-3, rtol=0)
    assert (drawn(Constant(4.0)) - drawn(None)).abs().max() > 0.05


@torch.no_grad()
def test_a_clean_block_does_not_know_the_noise_time_of_a_later_one(stream):
    """Bitwise: what blocks predict, and the loss of a clean one, whatever times later ones are at."""
    model = latent_model("block_flow")
    ids = torch.tensor([written(stream, "blocks")])
    layout = Layout.of(ids, model.vocabulary)
    rows, places = (layout.step >= 0).nonzero(as_tuple=True)
    hidden = model.states(ids, layout)[0][rows, places]
    values = model.head.to_symbols(ids[rows, places] - model.vocabulary.visual_start)
    groups, steps = step_groups(layout)[rows, places], layout.step[rows, places]
    draws = fixed(layout).uniform(rows, places, model.head.draws)
    other = draws.clone()
    other[steps == 3] = 1 - other[steps == 3]
    one, two = (Bounded(model.head, hidden, x, groups).log_prob(values) for x in (draws, other))
    assert torch.equal(one[steps < 3], two[steps < 3])
    assert not torch.equal(one[steps == 3], two[steps == 3])


def test_slots_of_a_block_depend_on_one_another():
    """Unlike with a head that denoises each value alone."""
    for name, joint in (("block_flow", True), ("flow", False)):
        model = latent_model(name)
        hidden, values = torch.randn(4, 64), torch.randn(4, 4)
        draws, groups = torch.rand(4, model.head.draws, dtype=torch.float64), torch.zeros(4, dtype=torch.long)
        before = model.head.bound(hidden, values, draws, groups)
        hidden[3] += 1
        after = model.head.bound(hidden, values, draws, groups)
        assert torch.allclose(before[:3], after[:3], atol=1e-7) != joint


def test_training_draws_new_noise_and_evaluation_does_not(model, stream):
    ids = torch.tensor([written(stream, "masked")])
    with torch.no_grad():
        assert torch.equal(model(ids).log_probs, model(ids).log_probs)
        model.train()
        torch.manual_seed(0)
        first, second = model(ids).log_probs, model(ids).log_probs
        torch.manual_seed(0)
        again = model(ids).log_probs
        model.eval()
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_the_loss_falls(stream):
    model = latent_model("flow").train()
    ids = torch.tensor([written(stream, "masked", seed) for seed in range(2)])
    labels = Layout.of(ids, model.vocabulary).labels(ids)
    torch.manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = model(ids, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def config(head="flow", **options):
    words = latent_vocabulary().to_dict()
    return UnifiedConfig(vocabulary=words, head=head, **options)


def test_what_does_not_go_together_is_refused_when_it_is_built(stream):
    told = {"channels": 4, "bits": 15}
    with pytest.raises(ValueError, match="unknown head 'gauss': choose one of categorical, bitwise, flow"):
        config("gauss")
    with pytest.raises(ValueError, match="takes no head_options"):
        config("categorical", head_options=told)
    with pytest.raises(ValueError, match="it needs a tokenizer of latents"):
        UnifiedConfig(head="flow", head_options=told)
    with pytest.raises(ValueError, match="cannot be read out at several places"):
        config(head_options=told, read_outs=2)
    with pytest.raises(ValueError, match=r"head_options of 'flow'.*'colour'"):
        config(head_options={**told, "colour": 1})
    model = latent_model("flow")
    with pytest.raises(ValueError, match="strategy Speculative, which compares codes, needs exact"):
        Session(model, strategy="speculative")
    session = Session(model)
    session.feed(prompt(stream))
    with pytest.raises(ValueError, match="minimum-risk decoding needs exact"):
        session.image([SHAPE], order="masked", minimum_risk=MinimumRisk(torch.randn(4, 2), 1.0))
    with pytest.raises(ValueError, match="takes a temperature only"):
        session.draw([SHAPE], order="masked", sampler=Sampler(top_k=3))
