"""What preference tuning is compared with: tuning a finished model on a task's own answers, by their
likelihood or by condition contrastive alignment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments
from unified.train.average import Average
from unified.train.mismatched import mismatched
from unified.train.pairs import PairedRows
from unified.train.preference.collator import padded
from unified.train.trainer import UnifiedTrainer

from unified.layout.layout import Layout
from unified.objectives import build_objective
from unified.pretrained import load_model, save_model
from unified.stream.processor import Processor


def supervised(start: Path, out: Path, task: Any, *, steps: int, rows: int, rate: float, seed: int) -> Path:
    """`steps` updates of `rows` samples with the task's own answers, from number seed * steps * rows on.
    Returns the folder of the model."""
    done = out / "model"
    if (done / "model.safetensors").is_file():
        return done
    torch.manual_seed(seed)
    model, processor = load_model(start)
    samples = _samples(task, processor, seed * steps * rows, steps * rows)

    def collate(part: list[list[int]]) -> dict[str, Any]:
        ids = padded(part, processor.vocabulary)
        layout = Layout.of(ids, processor.vocabulary)
        return {"input_ids": ids, "labels": layout.labels(ids), "layout": layout, "return_logits": False}

    args = _arguments(out, steps=steps, rows=rows, rate=rate, seed=seed)
    Trainer(model, args, train_dataset=samples, data_collator=collate).train()  # type: ignore[arg-type]
    save_model(done, model, processor)
    return done


def contrastive(
    start: Path,
    out: Path,
    task: Any,
    *,
    steps: int,
    rows: int,
    rate: float,
    seed: int,
    options: dict[str, Any] | None = None,
) -> Path:
    """The same samples and updates with the objective `cca` (`options` of its configuration) and the start
    as its reference. Returns the folder of the model."""
    done = out / "model"
    if (done / "model.safetensors").is_file():
        return done
    torch.manual_seed(seed)
    model, processor = load_model(start)
    samples = _samples(task, processor, seed * steps * rows, steps * rows)
    pairs = mismatched(samples, processor.vocabulary, seed=seed)
    args = _arguments(out, steps=steps, rows=rows, rate=rate, seed=seed)
    trainer = UnifiedTrainer(
        model,
        args,
        PairedRows(pairs, processor.vocabulary, seed=seed),
        Average(0.0),
        bf16=args.bf16,
        objective=build_objective("cca", options or {}),
    )
    trainer.train()
    save_model(done, model, processor)
    return done


def _samples(task: Any, processor: Processor, first: int, count: int) -> Sequence[list[int]]:
    return [processor.encode(task.sample(first + n).messages) for n in range(count)]


def _arguments(out: Path, *, steps: int, rows: int, rate: float, seed: int) -> TrainingArguments:
    micro = next(size for size in (4, 2, 1) if rows % size == 0)
    return TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=rows // micro,
        learning_rate=rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        save_strategy="no",
        remove_unused_columns=False,
        label_names=["labels"],
        use_cpu=not torch.cuda.is_available(),
        bf16=True,
        report_to=[],
        disable_tqdm=True,
        seed=seed,
    )
