"""Self-autoregressive refinement: the staggered rollout and the loss of both passes."""

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer
from unified.train.trainer import UnifiedTrainer

from unified.config import text_decoder
from unified.layout.layout import Layout
from unified.model import UnifiedConfig, UnifiedModel
from unified.objectives import CrossEntropy, Scores, build_objective
from unified.objectives.self_refinement import staggered
from unified.stream.messages import Stream

SHAPES = [[1, 1], [2, 2], [2, 3]]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    backbone = text_decoder(width=32, layers=2, heads=2, kv_heads=1)
    return UnifiedModel(UnifiedConfig(backbone=backbone, initializer_range=0.2)).eval()


@pytest.fixture(scope="module")
def batch(model):
    """Two images in three maps with text around them."""
    stream, rng = Stream(model.vocabulary, byte_tokenizer()), torch.Generator().manual_seed(0)
    rows = []
    for text in "ab":
        codes = torch.randint(64, (11,), generator=rng).tolist()
        image = {"type": "image", "codes": codes, "shapes": SHAPES, "order": "next_scale"}
        said = [image, {"type": "text", "text": "so"}]
        rows.append(
            stream.encode([{"role": "user", "content": text}, {"role": "assistant", "content": said}])
        )
    ids = torch.tensor(rows)
    layout = Layout.of(ids, model.vocabulary)
    labels = layout.labels(ids)
    weights = (labels != -100) / (labels != -100).sum() * len(ids)
    return {"input_ids": ids, "layout": layout, "labels": labels, "weights": weights, "rows": len(ids)}


def scored(model, batch):
    given = {name: batch[name] for name in ("input_ids", "labels", "layout")}
    return Scores.of(model(**given), batch["layout"], batch["labels"], batch["weights"])


def both(model, batch, **options):
    """The loss as the trainer computes it, and the second batch."""
    objective = build_objective("self_refinement", options)
    further = objective.rolled_out(model, batch)
    given = batch if further is None else {**batch, "rolled_out": scored(model, further)}
    return objective.loss(scored(model, batch), None, given), further


def test_written_codes_become_the_likeliest_given_the_true_ones_before(model, batch):
    ids, layout = batch["input_ids"], batch["layout"]
    own = staggered(model, ids, layout)
    written = layout.step >= 0
    assert int(written.sum()) == 22
    assert torch.equal(own[~written], ids[~written])  # text, and what is read of the finished image
    assert model.vocabulary.is_visual(own[written]).all()
    for row, place in written.nonzero()[::5].tolist():
        scores = []
        for code in range(model.vocabulary.visual):
            changed = ids.clone()
            changed[row, place] = model.vocabulary.visual_start + code
            with torch.no_grad():
                scores.append(float(model(changed, layout=layout).log_probs[row, place]))
        best = model.vocabulary.visual_start + int(torch.tensor(scores).argmax())
        assert own[row, place] == best


def test_without_gamma_it_is_cross_entropy(model, batch):
    made, further = both(model, batch, gamma=0)
    assert further is None
    assert torch.equal(made.loss, CrossEntropy().loss(scored(model, batch), None, batch).loss)
    assert float(made.logs["student"]) == 0


@pytest.mark.parametrize("transitions", ["all", "last"])
def test_the_second_pass_learns_its_own_codes_from_its_own_codes(model, batch, transitions):
    made, further = both(model, batch, gamma=0.3, transitions=transitions)
    layout, own = batch["layout"], staggered(model, batch["input_ids"], batch["layout"])
    learned = layout.step >= (1 if transitions == "all" else 2)
    assert torch.equal(further["labels"], own.masked_fill(~learned, -100))
    with torch.no_grad():
        log_probs = model(own, layout=layout).log_probs
    student = -(log_probs * learned * batch["weights"]).sum() / 2
    teacher = CrossEntropy().loss(scored(model, batch), None, batch).loss
    torch.testing.assert_close(made.loss, teacher + 0.3 * student, atol=1e-4, rtol=1e-5)
    assert float(made.logs["student"]) == pytest.approx(float(student), rel=1e-4)


def test_gradients_are_those_of_both_passes(model, batch):
    gradients = []
    for gamma in (0.0, 1.0, 2.0):
        model.zero_grad()
        both(model, batch, gamma=gamma)[0].loss.backward()
        gradients.append(model.head.projection.weight.grad.clone())
    plain, once, twice = gradients
    assert (once - plain).abs().max() > 1e-4
    torch.testing.assert_close(twice - plain, 2 * (once - plain), atol=1e-5, rtol=1e-3)


def test_the_trainer_scores_the_second_batch(model, batch, monkeypatch):
    """`UnifiedTrainer.compute_loss`, without what it logs."""
    from types import SimpleNamespace

    nothing = SimpleNamespace(add=lambda *_: None)
    objective = build_objective("self_refinement", {"gamma": 0.5})
    trainer = SimpleNamespace(
        state=SimpleNamespace(global_step=0, max_steps=1),
        args=SimpleNamespace(seed=0),
        objective=objective,
        flops=lambda work: 0.0,
        meter=nothing,
        scalars=nothing,
        _reference_scores=lambda *_: None,
    )
    told = {**batch, "work": None, "parts": None, "tasks": None}
    loss = UnifiedTrainer.compute_loss(trainer, model, told)
    torch.testing.assert_close(loss, both(model, batch, gamma=0.5)[0].loss)


@pytest.mark.parametrize("wrong", [{"gamma": -1.0}, {"transitions": "first"}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        build_objective("self_refinement", wrong)
