"""Runs a stage with Hugging Face's `Trainer`, and writes what came of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from unified.vision_language.sketchpad.files import save_head
from unified.vision_language.sketchpad.model import Sketchpad

WEIGHT_DECAY, CLIP = 0.01, 1.0  # published
TOKENIZER = ("*.jinja", "*tokenizer*", "*processor*", "special_tokens_map.json", "generation_config.json")


class Listed(Dataset[Any]):
    """A list as a data set; items that can be called are made when they are asked for."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Any:
        item = self.items[number]
        return item() if callable(item) else item


def arguments(out: Path, config: Any, **options: Any) -> TrainingArguments:
    """Those of a stage. `config` has learning_rate, epochs, rows, accumulation and seed."""
    return TrainingArguments(
        output_dir=str(out / "trainer"),
        learning_rate=config.learning_rate,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.rows,
        gradient_accumulation_steps=config.accumulation,
        seed=config.seed,
        max_grad_norm=CLIP,
        save_strategy="no",
        logging_steps=options.pop("logging_steps", 10),
        report_to=[],
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        **options,
    )


def train(module: nn.Module, samples: Sequence[Any], given: TrainingArguments) -> list[float]:
    """Minimise the loss that `module(samples)` returns; a sample that can be called is made when it is due.
    The losses that were logged, in their order."""
    trainer = Trainer(
        model=module,
        args=given,
        train_dataset=Listed(samples),
        data_collator=lambda picked: {"samples": picked},
    )
    trainer.train()
    module.eval()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def save(out: Path, pad: Sketchpad, stage: str, source: Path) -> None:
    """The whole model after the stage `text`, as `transformers` and `unified.load` read it; the head alone
    after `latents`."""
    out.mkdir(parents=True, exist_ok=True)
    if stage == "latents":
        save_head(out, pad.head)
        return
    pad.reader.pretrained.save_pretrained(out)
    for pattern in TOKENIZER:
        for path in source.glob(pattern):
            if path.is_file() and path.resolve() != (out / path.name).resolve():
                shutil.copy(path, out / path.name)
