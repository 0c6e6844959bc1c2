"""The trainer with objectives: chosen in the recipe, logged, with a frozen reference, resumed."""

import copy
import json
import math

import pytest
import torch
from transformers import TrainingArguments
from unified.tokenizers.text import byte_tokenizer
from unified.train.average import Average
from unified.train.override import override
from unified.train.pairs import PairedRows
from unified.train.recipes import RECIPES
from unified.train.reference import AdaptersOff, FrozenCopy, reference_for
from unified.train.rows import Rows
from unified.train.select import select
from unified.train.stored import completed, to_json
from unified.train.trainer import UnifiedTrainer

from unified.layout.layout import IGNORED
from unified.model import UnifiedConfig, UnifiedModel
from unified.objectives import DPO, CrossEntropy, DPOConfig
from unified.stream.messages import Stream

STAGE = "stages/0-all"


@pytest.fixture
def model():
    torch.manual_seed(0)
    return UnifiedModel(UnifiedConfig())


@pytest.fixture
def pairs(model):
    """Eight pairs: the image of small codes is preferred, to a text and to an image."""
    stream = Stream(model.vocabulary, byte_tokenizer())

    def sample(content):
        return stream.encode([{"role": "user", "content": "draw"}, {"role": "assistant", "content": content}])

    def image(first):
        codes = [first + n for n in range(5)]
        return [{"type": "image", "codes": codes, "shapes": [[1, 1], [2, 2]], "order": "next_scale"}]

    others = [image(40), [{"type": "text", "text": "no"}]]
    return [(sample(image(n % 4)), sample(others[n % 2])) for n in range(8)]


def trainer(model, pairs, folder, *, steps=6, objective=None, **settings):
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        max_steps=steps,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=0.01,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_steps=3,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        disable_tqdm=True,
        **settings,
    )
    rows = PairedRows(pairs, model.vocabulary, epochs=20)
    return UnifiedTrainer(model, arguments, rows, Average(0.0), bf16=False, objective=objective)


def logged(made, name):
    return [entry[name] for entry in made.state.log_history if name in entry]


# Recipes ----------------------------------------------------------------------------------------------------


def test_a_stage_chooses_its_objective_and_saves_the_choice():
    settings = ["stages.0.objective.name=dpo", "stages.0.objective.options.beta=0.5"]
    recipe = override(RECIPES["nano_smoke"](), settings)
    assert recipe.stages[0].objective.options == {"beta": 0.5}
    stored = json.loads(to_json(recipe))["stages"][0]["objective"]
    assert stored == {"name": "dpo", "options": {"beta": 0.5}}
    with pytest.raises(ValueError, match="registered are cross_entropy"):
        override(RECIPES["nano_smoke"](), ["stages.0.objective.name=dop"])
    with pytest.raises(ValueError, match="unexpected keyword argument 'gamma'"):
        override(recipe, ["stages.0.objective.options.gamma=1"])


def test_a_recipe_stored_before_there_was_a_choice_is_the_same_recipe(begun):
    path = begun / "recipe.json"
    stored = json.loads(path.read_text())
    wanted = copy.deepcopy(stored)
    assert stored["stages"][0].pop("objective") == {"name": "cross_entropy", "options": {}}
    recipe = override(RECIPES["nano_smoke"](), ["sheet_every=12", "save_every=3", "keep=4"])
    assert completed(stored, recipe) == wanted
    stored["stages"][0]["steps"] = 13
    assert completed(stored, recipe) != wanted


def test_a_run_begun_before_there_was_a_choice_is_resumed(smoke, begun):
    from unified.train.__main__ import main

    path = begun / "recipe.json"
    stored = json.loads(path.read_text())
    del stored["stages"][0]["objective"]
    path.write_text(json.dumps(stored, indent=2) + "\n")
    quiet = ["sheet_every=12", "save_every=3", "keep=4"]
    command = ["nano_smoke", "--out", str(begun), "--cpu", "--workers", "1", "--override", *quiet]
    assert main(command) == 0
    assert "objective" in path.read_text()
    assert (begun / STAGE / "weights.safetensors").read_bytes() == (
        smoke / STAGE / "weights.safetensors"
    ).read_bytes()


def test_an_objective_of_pairs_is_refused_where_the_data_are_none(train, capsys):
    assert train("stages.0.objective.name=dpo") == 2
    assert "needs pairs of replies" in capsys.readouterr().err


def test_rows_of_a_recipe_are_not_pairs(model, pairs, tmp_path):
    rows = PairedRows(pairs, model.vocabulary)
    rows.paired = Rows.paired
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, max_steps=1, report_to=[])
    with pytest.raises(ValueError, match="DPO needs pairs of replies"):
        UnifiedTrainer(model, arguments, rows, Average(0.0), bf16=False, objective=DPO())


# Pairs ------------------------------------------------------------------------------------------------------


def test_a_batch_of_pairs_alternates_chosen_and_rejected(model, pairs):
    rows = PairedRows(pairs, model.vocabulary, epochs=2, seed=3)
    assert len(rows) == 16
    assert sorted(rows.numbers[:8]) == sorted(rows.numbers[8:]) == list(range(8))
    batch = rows.collator(everywhere=False)([rows[0], rows[1]])
    pad = model.vocabulary.pad
    found = [[token for token in row if token != pad] for row in batch["input_ids"].tolist()]
    assert found == [list(sample) for pair in (rows[0], rows[1]) for sample in pair]
    assert batch["rows"] == 4
    assert torch.equal(batch["weights"] > 0, batch["labels"] != IGNORED)


def test_silent_rows_keep_pairs_whole_and_count_for_nothing(model, pairs):
    words = [pair[1] for pair in pairs[1::2]]
    rows = PairedRows([(words[0], words[1])], model.vocabulary)
    plain, more = (rows.collator(everywhere=every)([rows[0]]) for every in (False, True))
    assert (len(plain["input_ids"]), len(more["input_ids"])) == (2, 4)
    assert more["rows"] == plain["rows"] == 2
    losses = []
    for batch in (plain, more):
        policy = scored(model, batch)
        losses.append(DPO().loss(policy, policy, batch).loss)
    torch.testing.assert_close(losses[0], losses[1])


def scored(model, batch):
    from unified.objectives import Scores

    output = model(batch["input_ids"], labels=batch["labels"], layout=batch["layout"])
    return Scores.of(output, batch["layout"], batch["labels"], batch["weights"])


# The reference ----------------------------------------------------------------------------------------------


def test_preferences_are_learned_from_ln_2_and_logged(model, pairs, tmp_path):
    made = trainer(model, pairs, tmp_path, steps=12, objective=DPO(DPOConfig(beta=0.5)))
    made.train()
    losses = logged(made, "loss")
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)
    assert losses[-1] < 0.2
    assert logged(made, "reward_margin")[0] == pytest.approx(0, abs=1e-4)
    assert logged(made, "reward_accuracy")[-1] == 1
    assert {"loss_text", "loss_image_2", "task_pairs"} <= set(made.state.log_history[0])


def test_the_reference_stays_what_the_policy_was(model, pairs, tmp_path):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = trainer(model, pairs, tmp_path, steps=2, objective=DPO())
    made.train()
    assert isinstance(made.reference, FrozenCopy)
    assert not made.reference.model.training
    assert not any(parameter.requires_grad for parameter in made.reference.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in made.reference.model.state_dict().items())
    assert not torch.equal(model.text_head.weight, before["text_head.weight"])


def test_adapters_off_are_the_model_without_adapters(model, pairs):
    batch = PairedRows(pairs, model.vocabulary).collator(everywhere=False)(pairs[:2])
    given = {name: batch[name] for name in ("input_ids", "labels", "layout")}
    plain = model(**given)["log_probs"].detach()
    select(model, ("lora",), rank=2)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.1)
    reference = reference_for(model)
    assert isinstance(reference, AdaptersOff)
    with torch.no_grad():
        found = reference(model.train(), given)["log_probs"]
    torch.testing.assert_close(found, plain)
    assert model.training
    assert all(parameter.requires_grad for parameter in trained)
    assert (model(**given)["log_probs"] - plain).abs().max() > 1e-3  # they are on again


def test_a_part_trained_beside_adapters_needs_a_copy(model):
    select(model, ("lora", "heads"), rank=2)
    assert isinstance(reference_for(model), FrozenCopy)


@pytest.mark.parametrize("parts", [("all",), ("lora",)])
def test_preference_tuning_resumes_as_if_uninterrupted(parts, model, pairs, tmp_path):
    def made(name, steps):
        start = copy.deepcopy(model)
        torch.manual_seed(1)  # adapters begin at random
        select(start, parts, rank=2)
        return trainer(start, pairs, tmp_path / name, steps=steps, objective=DPO())

    straight = made("straight", 6)
    straight.train()
    made("broken", 3).train()
    again = made("broken", 6)
    again.train(resume_from_checkpoint=str(tmp_path / "broken" / "checkpoint-3"))
    assert logged(again, "loss") == logged(straight, "loss")
    for (name, value), other in zip(straight.model.named_parameters(), again.model.parameters(), strict=True):
        assert torch.equal(value, other), name


def test_gradient_checkpointing_gives_the_same_losses(model, pairs, tmp_path):
    other = copy.deepcopy(model)
    plain = trainer(model, pairs, tmp_path / "plain", steps=3, objective=DPO())
    plain.train()
    saving = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    less = trainer(other, pairs, tmp_path / "less", steps=3, objective=DPO(), **saving)
    less.train()
    assert logged(less, "loss") == pytest.approx(logged(plain, "loss"), rel=1e-4)


# Any objective ----------------------------------------------------------------------------------------------


class Curious(CrossEntropy):
    """Notes what it is told, leaves out all images, and asks for an argument of the model."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def prepare(self, batch, progress):
        self.seen.append((progress.step, progress.steps, progress.share))
        labels = batch["labels"].masked_fill(batch["layout"].step >= 0, IGNORED)
        return {**batch, "labels": labels, "options": {"return_logits": True}}

    def loss(self, policy, reference, batch):
        assert reference is None
        return super().loss(policy, reference, batch)


def test_an_objective_may_change_the_batch_and_knows_the_progress(model, pairs, tmp_path):
    made = trainer(model, pairs, tmp_path, steps=2, objective=Curious())
    made.train()
    assert made.objective.seen == [(0, 2, 0.0)] * 2 + [(1, 2, 0.5)] * 2  # two micro-batches a step
    assert not any(name.startswith("loss_image") for name in made.state.log_history[0])
