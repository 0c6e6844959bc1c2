"""A mixture of transformers: the same at first, words bit for bit the same for ever, cached = one pass,
files."""

import pytest
import torch
from unified.train.select import select

from unified.decoding.session import Session
from unified.growth import grow_expert
from unified.layout.layout import Layout
from unified.model import UnifiedConfig, UnifiedModel
from unified.orders import plan_for

SHAPES = ((1, 1), (2, 2))


@pytest.fixture(scope="module")
def models():
    """A model with loud weights, and the same with an expert."""
    torch.manual_seed(0)
    base = UnifiedModel(UnifiedConfig(initializer_range=0.2)).eval()
    return base, grow_expert(base)


def changed(grown):
    """The expert has learned something else."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in grown.backbone.expert.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)


def row(words):
    """A question, a drawing (written, then read), words after it."""
    plan = plan_for("next_scale", SHAPES)
    codes = words.visual_ids([1, 2, 3, 4, 5])
    write = [*words.open_write("next_scale", SHAPES), *codes, words.close]
    read = words.read_ids([codes[slot] for slot in plan.read.tolist()], plan.read_shapes)
    ask = [words.begin, words.user, 7, 8, words.end, words.assistant]
    return torch.tensor([[*ask, *write, *read, 9, 10, words.end]])


def log_probs(model, ids):
    layout = Layout.of(ids, model.vocabulary)
    return model(ids, layout=layout).log_probs, layout


@torch.no_grad()
def test_it_begins_as_the_same_model(models):
    base, grown = models
    ids = row(base.vocabulary)
    assert torch.allclose(log_probs(base, ids)[0], log_probs(grown, ids)[0], atol=1e-5)


@torch.no_grad()
def test_words_stay_bit_for_bit_whatever_the_expert_learns(models):
    base, _ = models
    grown = grow_expert(base)
    changed(grown)
    ids = row(base.vocabulary)
    (before, layout), (after, _) = log_probs(base, ids), log_probs(grown, ids)
    visual = base.vocabulary.is_visual(ids)
    scored = layout.predicted & ~visual
    assert int(scored.sum()) >= 3
    assert torch.equal(before[scored], after[scored])
    written = layout.predicted & visual
    assert bool(((before - after)[written].abs() > 1e-3).any())


@torch.no_grad()
def test_drawing_step_by_step_has_the_likelihood_of_one_pass(models):
    base, _ = models
    grown, words = grow_expert(base), base.vocabulary
    changed(grown)
    session = Session(grown, seed=0)
    session.feed([words.begin, words.user, 7, words.end, words.assistant])
    drawing = session.draw(SHAPES, order="next_scale")
    codes = words.visual_ids(drawing.codes[0].tolist())
    start = [words.begin, words.user, 7, words.end, words.assistant]
    ids = torch.tensor([[*start, *words.open_write("next_scale", SHAPES), *codes, words.close]])
    found, _ = log_probs(grown, ids)
    assert torch.allclose(found[words.is_visual(ids)], drawing.log_probs[0], atol=1e-4)


def test_only_what_writes_is_trained(models):
    grown = grow_expert(models[0])
    ids = row(grown.vocabulary)
    count = select(grown, ("expert",))
    log_probs(grown, ids)[0][grown.vocabulary.is_visual(ids)].sum().backward()
    trained = {name for name, weight in grown.named_parameters() if weight.grad is not None}
    assert count
    assert "backbone.expert.layers.0.mlp.up_proj.weight" in trained
    assert not any(name.startswith(("backbone.layers", "backbone.norm", "text_head")) for name in trained)


def test_it_is_saved_and_loaded(models, tmp_path):
    grown = grow_expert(models[0])
    changed(grown)
    grown.save_pretrained(tmp_path)
    again = UnifiedModel.from_pretrained(tmp_path).eval()
    ids = row(grown.vocabulary)
    assert torch.equal(log_probs(grown, ids)[0], log_probs(again, ids)[0])


def test_an_expert_is_added_once(models):
    with pytest.raises(ValueError, match="once"):
        grow_expert(models[1])
    assert not models[1].fuse().fused
