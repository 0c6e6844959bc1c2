"""Controls: nothing at the start, read slot by slot, and the same in training, in sessions, guided or not."""

import pytest
import torch

from unified.backbone.parts import CONTROLS
from unified.decoding.guidance import Constant
from unified.decoding.session import Session
from unified.layout.layout import Layout
from unified.orders import plan_for

SHAPES = ((1, 1), (2, 2), (2, 3))
PLAN = plan_for("next_scale", SHAPES)
OPTIONS = {"width": 64, "control": 5, "heads": 4, "layers": (0, 1)}


@pytest.fixture(params=sorted(CONTROLS))
def name(request):
    return request.param


def made(name, trained=True):
    torch.manual_seed(1)
    part = CONTROLS[name](**OPTIONS)
    if trained:  # as if it were: nothing is zero any more
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return part


def control(rows=2, seed=0):
    return torch.randn(rows, PLAN.length, 5, generator=torch.Generator().manual_seed(seed))


def prompts(model):
    words = model.vocabulary
    said = ([7], [8, 9, 10])
    return [[words.begin, words.user, *text, words.end, words.assistant] for text in said]


@torch.no_grad()
def drawn(model, parts, guidance=None):
    session, steps = Session(model, rows=2, parts=parts), []
    session.feed(prompts(model))
    session.draw(SHAPES, guidance=guidance, hook=lambda step: steps.append(step.logits) or step)
    return session, torch.cat(steps, dim=1)[:, :, 0]


@torch.no_grad()
def forced(model, ids, parts):
    """Logits [T, V] of the slots of one row's image."""
    ids = torch.tensor([ids])
    slots = Layout.of(ids, model.vocabulary).writes[0].slots()[0]
    start = model.vocabulary.visual_start
    return model(ids, parts=parts).logits[0, slots, start : start + model.vocabulary.visual]


def test_at_its_start_a_control_changes_no_bit(model, name):
    _, plain = drawn(model, [])
    _, same = drawn(model, [made(name, trained=False).reading(control(), PLAN)])
    assert torch.equal(plain, same)
    assert not torch.allclose(drawn(model, [made(name).reading(control(), PLAN)])[1], plain, atol=1e-2)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_steps_with_a_cache_are_one_pass_with_the_control_in_both_branches(model, name, scale):
    part = made(name)
    session, found = drawn(model, [part.reading(control(), PLAN)], Constant(scale))
    for row, ids in enumerate(session.streams):
        parts = [part.reading(control()[row : row + 1], PLAN)]
        want = forced(model, ids, parts)
        if scale != 1:
            prompt = prompts(model)[row]
            blind = [*model.null_stream(prompt), *ids[len(prompt) :]]
            want = torch.lerp(forced(model, blind, parts), want, scale)
        assert torch.allclose(found[row].log_softmax(-1), want.log_softmax(-1), atol=3e-4)


@torch.no_grad()
def test_a_slot_reads_no_control_of_later_steps(model, name):
    part = made(name)
    session, _ = drawn(model, [])
    ids = session.streams[0]
    plain = forced(model, ids, [part.reading(control(1), PLAN)])
    other = control(1)
    other[:, 5:] += 1  # of the last map
    moved = (forced(model, ids, [part.reading(other, PLAN)]) - plain).abs().amax(dim=1) > 1e-5
    assert moved.tolist() == [False] * 5 + [True] * 6


def test_training_reaches_all_that_is_not_behind_the_zero_and_then_everything(model, name):
    part = made(name, trained=False)
    session, _ = drawn(model, [])
    ids = torch.tensor([session.streams[0]])
    labels = torch.where(Layout.of(ids, model.vocabulary).step >= 0, ids, -100)
    optimiser, losses = torch.optim.Adam(part.parameters(), lr=1e-2), []
    for _ in range(12):
        optimiser.zero_grad()
        loss = model(ids, labels=labels, parts=[part.reading(control(1), PLAN)], return_logits=False).loss
        loss.backward()
        losses.append(loss.item())
        optimiser.step()
    model.zero_grad()
    assert losses[-1] < losses[0] - 0.05
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_what_does_not_fit_is_refused(model, name):
    with pytest.raises(ValueError, match=r"shape \[rows, 11, 5\], got \(2, 11, 4\)"):
        made(name).reading(control()[..., :4], PLAN)
    ids = torch.tensor([drawn(model, [])[0].streams[0]])
    with pytest.raises(ValueError, match="given for 2 rows, but the batch has 1"):
        model(ids, parts=[made(name).reading(control(), PLAN)])
    with pytest.raises(ValueError, match="64"):
        CONTROLS[name](**{**OPTIONS, "heads": 3})
