"""Loops of others: `transformers.Trainer` as it is gives the gradients of one batch however it is cut, and
its checkpoints load."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from unified.train.assistant_labels import AssistantCollator, assistant_labels

import unified
from unified.apps.demo import random_model
from unified.layout.layout import IGNORED
from unified.pretrained import load_model, save_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    save_model(folder, *random_model())
    return folder


def make_rows(processor, count=8):
    """Samples of very different numbers of targets."""
    rows = []
    for number in range(count):
        image = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        answer = [{"type": "image", "image": image}] if number % 2 else "Hello" * (number + 1)
        talk = [{"role": "user", "content": "x" * number}, {"role": "assistant", "content": answer}]
        rows.append({"input_ids": processor.encode(talk)})
    return rows


def stepped(folder, out, micro, accumulation, save=False):
    """One step of plain SGD: (trainer, what it logged)."""
    from transformers import Trainer, TrainingArguments

    model, processor = load_model(folder)
    arguments = TrainingArguments(
        output_dir=str(out),
        use_cpu=True,
        max_steps=1,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        optim="sgd",
        learning_rate=0.1,
        logging_steps=1,
        save_strategy="steps" if save else "no",
        save_steps=1,
        report_to=[],
        disable_tqdm=True,
    )
    rows, collator = make_rows(processor), AssistantCollator(processor.vocabulary)
    trainer = Trainer(model, arguments, collator, rows, processing_class=processor)
    trainer.train()
    return trainer, trainer.state.log_history[0]


def test_accumulation_does_not_change_the_gradient(folder, tmp_path):
    logs = [stepped(folder, tmp_path, *cut)[1] for cut in ((8, 1), (4, 2), (1, 8))]
    print([entry["grad_norm"] for entry in logs])
    for entry in logs[1:]:
        assert entry["grad_norm"] == pytest.approx(logs[0]["grad_norm"], rel=1e-4)
        assert entry["loss"] == pytest.approx(logs[0]["loss"], rel=1e-4)


def test_the_gradient_is_that_of_the_mean_over_all_targets(folder, tmp_path):
    _, entry = stepped(folder, tmp_path, 1, 8)
    model, processor = load_model(folder)
    loss = model(**AssistantCollator(processor.vocabulary)(make_rows(processor))).loss
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    assert entry["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert entry["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(folder, tmp_path):
    script = (
        "import sys, json; sys.path.insert(0, sys.argv[3]); from test_plain_trainer import stepped\n"
        "trainer, log = stepped(sys.argv[1], sys.argv[2], 2, 2)\n"
        "if trainer.args.process_index == 0: open(sys.argv[2] + '/log.json', 'w').write(json.dumps(log))\n"
    )
    path = tmp_path / "step.py"
    path.write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(path), str(folder), str(tmp_path), str(Path(__file__).parent)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr[-2000:]
    two = json.loads((tmp_path / "log.json").read_text())
    _, one = stepped(folder, tmp_path, 8, 1)
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)


def test_a_checkpoint_loads(folder, tmp_path):
    trainer, _ = stepped(folder, tmp_path, 8, 1, save=True)
    loaded = unified.load(tmp_path / "checkpoint-1", device="cpu", dtype="float32")
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    (tmp_path / "checkpoint-1" / "processor.json").unlink()
    with pytest.raises(ValueError, match="processing_class=processor"):
        load_model(tmp_path / "checkpoint-1")


# Labels -----------------------------------------------------------------------------------------------------


def test_labels_that_are_the_ids_train_all_that_can_be_predicted(folder):
    model, processor = load_model(folder)
    batch = AssistantCollator(processor.vocabulary)(make_rows(processor))
    ids = batch["input_ids"]
    both, answers = model(ids, labels=ids), model(**batch)
    assert torch.equal(both.log_probs, model(ids).log_probs)
    assert (both.log_probs != 0).sum() > (answers.log_probs != 0).sum()
    padded = ids.masked_fill(ids == processor.vocabulary.pad, IGNORED)
    assert model(ids, labels=padded).loss == both.loss
    assert torch.equal(batch["labels"], assistant_labels(ids, processor.vocabulary))


def test_shifted_labels_are_refused(folder):
    model, processor = load_model(folder)
    ids = torch.tensor([make_rows(processor, 1)[0]["input_ids"]])
    with pytest.raises(ValueError, match="none is shifted"):
        model(ids, labels=ids.roll(-1, dims=1))
    with pytest.raises(TypeError, match="inputs_embeds"):
        model(ids, inputs_embeds=torch.zeros(1))
    assert model(ids, inputs_embeds=None).log_probs.shape == ids.shape
