"""Continued supervised tuning of a finished model on one task: the control of preference tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments
from unified.tasks.registry import make
from unified.train.preference.collator import padded

from unified.layout.layout import Layout
from unified.pretrained import load_model, save_model

RATE = 2e-5


def supervised(start: Path, out: Path, source: Any, *, steps: int, rows: int, seed: int) -> Path:
    """`steps` updates of `rows` samples with the task's own answers, from number seed * steps * rows on, at
    the rate of the preference arms. Returns the folder of the model."""
    done = out / "model"
    if (done / "model.safetensors").is_file():
        return done
    torch.manual_seed(seed)
    model, processor = load_model(start)
    task = make(source.task, **source.options)
    first = seed * steps * rows
    samples = [processor.encode(task.sample(first + n).messages) for n in range(steps * rows)]

    def collate(part: list[list[int]]) -> dict[str, Any]:
        ids = padded(part, processor.vocabulary)
        layout = Layout.of(ids, processor.vocabulary)
        return {"input_ids": ids, "labels": layout.labels(ids), "layout": layout, "return_logits": False}

    args = TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=rows,
        learning_rate=RATE,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        save_strategy="no",
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
        bf16=True,
        report_to=[],
        disable_tqdm=True,
        seed=seed,
    )
    trainer = Trainer(model, args, train_dataset=samples, data_collator=collate)  # type: ignore[arg-type]
    trainer.train()
    save_model(done, model, processor)
    return done
