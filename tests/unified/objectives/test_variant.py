"""The supernet objective: its schedule, its draws, what it trains and that it learns."""

import collections
import itertools

import pytest
import torch
from transformers import TrainingArguments
from unified.tokenizers.text import byte_tokenizer
from unified.train.average import Average
from unified.train.pairs import PairedRows
from unified.train.trainer import UnifiedTrainer

from unified.config import text_decoder
from unified.depth.variant import VARiant, VARiantConfig
from unified.layout.layout import Layout
from unified.model import UnifiedConfig, UnifiedModel
from unified.objectives import Progress, Scores, build_objective
from unified.objectives.variant import Supernet, SupernetConfig
from unified.stream.messages import Stream

LAYERS = 3


@pytest.fixture
def model():
    torch.manual_seed(0)
    backbone = text_decoder(width=32, layers=LAYERS, heads=2, kv_heads=1)
    return UnifiedModel(UnifiedConfig(backbone=backbone))


@pytest.fixture
def samples(model):
    """Eight images in three maps, each asked for by another word."""
    stream, rng = Stream(model.vocabulary, byte_tokenizer()), torch.Generator().manual_seed(0)

    def sample(number):
        codes = torch.randint(64, (14,), generator=rng).tolist()
        image = {"type": "image", "codes": codes, "shapes": [[1, 1], [2, 2], [3, 3]], "order": "next_scale"}
        return stream.encode(
            [{"role": "user", "content": "abcdefgh"[number]}, {"role": "assistant", "content": [image]}]
        )

    return [sample(number) for number in range(8)]


def batch_of(samples, model):
    """A batch as trainers make it, each target of the weight of a mean."""
    ids = torch.tensor(samples)
    layout = Layout.of(ids, model.vocabulary)
    labels = layout.labels(ids)
    weights = (labels != -100) / (labels != -100).sum() * len(ids)
    return {"input_ids": ids, "layout": layout, "labels": labels, "weights": weights, "rows": len(ids)}


def loss_of(objective, batch, model, progress):
    batch = objective.prepare(batch, progress)
    given = {name: batch[name] for name in ("input_ids", "labels", "layout")}
    output = model(**given, **batch.get("options", {}))
    return objective.loss(Scores.of(output, batch["layout"], batch["labels"], batch["weights"]), None, batch)


def drawn(objective, steps, seed=0, total=None):
    """The number of layers of each step; None for the full network."""
    found = [objective.depth(Progress(step=step, steps=total or steps, seed=seed)) for step in range(steps)]
    return [None if depth is None else depth.config.layers for depth in found]


# The schedule and the draws ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "probability"),
    [(0.0, 0.2), (0.19, 0.2), (0.2, 0.2), (0.35, 0.4), (0.5, 0.6), (0.65, 0.8), (0.8, 1.0), (0.99, 1.0)],
)
def test_the_probability_rises_after_the_first_phase(share, probability):
    assert Supernet().probability(share) == pytest.approx(probability)


def test_a_schedule_may_be_constant_or_a_jump():
    constant = Supernet(SupernetConfig(rate=0.5, rise=1.0, full=1.0))
    assert {constant.probability(share / 100) for share in range(100)} == {0.5}
    jump = Supernet(SupernetConfig(rate=0.0, rise=0.5, full=0.5))
    assert [jump.probability(share) for share in (0.49, 0.5)] == [0.0, 1.0]


def test_draws_come_from_the_seed_and_the_step_alone():
    objective = Supernet(SupernetConfig(depths=(4, 3, 2)))
    torch.manual_seed(1)
    first, state = drawn(objective, 300), torch.get_rng_state()
    torch.manual_seed(2)
    torch.rand(3)
    assert drawn(objective, 300) == first
    assert drawn(Supernet(objective.config), 300) == first
    assert drawn(objective, 300, seed=1) != first
    assert [drawn(objective, 300, seed=-5)] == [drawn(objective, 300, seed=-5)]
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is not used"


def test_subnets_are_as_frequent_as_the_schedule_says():
    """Chi-square with one degree of freedom for each phase; 15.1 is p = 1e-4."""
    objective, count = Supernet(), 6000
    found = drawn(objective, count)
    for start, stop, rate in ((0.0, 0.2, 0.2), (0.4, 0.6, 0.6)):
        part = found[int(start * count) : int(stop * count)]
        seen, want = sum(depth is not None for depth in part), rate * len(part)
        assert (seen - want) ** 2 / want + (seen - want) ** 2 / (len(part) - want) < 15.1
    assert None not in found[int(0.8 * count) :]


def test_depths_are_drawn_uniformly():
    """Chi-square with three degrees of freedom; 21.1 is p = 1e-4."""
    objective = Supernet(SupernetConfig(depths=(16, 8, 4, 2), rise=0, full=0))
    counts = collections.Counter(drawn(objective, 4000))
    assert set(counts) == {16, 8, 4, 2}
    assert sum((seen - 1000) ** 2 / 1000 for seen in counts.values()) < 21.1


def test_neighbouring_steps_are_independent():
    """Chi-square of 16 sorts of pairs with 15 degrees of freedom; 44.3 is p = 1e-4."""
    found = drawn(Supernet(SupernetConfig(depths=(16, 8, 4, 2), rise=0, full=0)), 4001)
    counts = collections.Counter(itertools.pairwise(found))
    assert len(counts) == 16
    assert sum((seen - 250) ** 2 / 250 for seen in counts.values()) < 44.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": []}, "depths must name at least one"),
        ({"depths": [4, 1]}, "layers must be at least 2"),
        ({"rate": 1.5}, "rate is a probability from 0 to 1, got 1.5"),
        ({"rise": 0.9, "full": 0.5}, "from a share of training to a later one, got 0.9, 0.5"),
        ({"unit": "maps"}, "unknown unit 'maps'"),
        ({"epochs": 5}, "objective 'variant': .*'epochs'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_objective("variant", options)


# What is trained --------------------------------------------------------------------------------------------


def test_the_full_network_is_trained_as_by_cross_entropy(model, samples):
    batch, never = batch_of(samples, model), SupernetConfig(rate=0.0)
    found = loss_of(Supernet(never), batch, model, Progress())
    plain = model(batch["input_ids"], labels=batch["labels"])
    torch.testing.assert_close(found.loss, plain.loss)
    assert float(found.logs["subnet"]) == 0


def test_a_subnet_is_trained_at_its_depth_and_every_layer_learns(model, samples):
    batch = batch_of(samples, model)
    always = Supernet(SupernetConfig(depths=[2], bridge=1, rate=1.0))
    found = loss_of(always, batch, model, Progress())
    depth = VARiant(VARiantConfig(layers=2, bridge=1))
    assert torch.equal(found.loss, loss_of(always, batch, model, Progress(step=3, steps=4)).loss)
    plain = model(batch["input_ids"], labels=batch["labels"], depth=depth)
    torch.testing.assert_close(found.loss, plain.loss)
    assert abs(float(found.loss - model(batch["input_ids"], labels=batch["labels"]).loss)) > 1e-5
    assert float(found.logs["subnet"]) == 1
    found.loss.backward()
    for layer in model.backbone.layers:
        assert all(parameter.grad.abs().max() > 0 for parameter in layer.parameters())


def test_two_depths_overfit_eight_samples(model, samples):
    batch = batch_of(samples, model)
    objective = Supernet(SupernetConfig(depths=[2], bridge=1))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    images = batch["layout"].step >= 0

    def per_code(depth):
        with torch.no_grad():
            found = model(batch["input_ids"], labels=batch["labels"], depth=depth)
        return -float(found.log_probs[images].mean())

    shallow = VARiant(VARiantConfig(layers=2, bridge=1))
    before = per_code(None), per_code(shallow)
    assert min(before) > 4
    for step in range(80):
        loss = loss_of(objective, batch, model, Progress(step=step, steps=80)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert per_code(None) < 0.5
    assert per_code(shallow) < 0.5


def test_the_trainer_runs_it_and_logs_the_share_of_subnets(model, samples, tmp_path):
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        max_steps=6,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        logging_steps=1,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        seed=7,
    )
    pairs = list(zip(samples[::2], samples[1::2], strict=True))
    options = {"depths": [2, 3], "bridge": 0.4, "unit": "share", "rate": 0.5}
    objective = build_objective("variant", options)
    rows = PairedRows(pairs, model.vocabulary, epochs=20)
    made = UnifiedTrainer(model, arguments, rows, Average(0.0), bf16=False, objective=objective)
    made.train()
    logged = [entry["subnet"] for entry in made.state.log_history if "subnet" in entry]
    assert logged == [float(depth is not None) for depth in drawn(objective, 6, seed=7)]
    assert set(logged) == {0.0, 1.0}
