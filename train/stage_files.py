"""The files that a stage leaves: checkpoints that are marked when they are whole, and its weights, which are
written last and mark that it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from unified.train.average import Average
from unified.train.checkpoints import MARK, mark_complete
from unified.train.tensor_file import Entry, write_tensors

WEIGHTS = "weights.safetensors"
ADAPTER = "adapter"  # folder of the adapters alone, as `peft` reads it


def saved_whole(trainer: Any, save: Callable[[], None], average: Average) -> None:
    """Save a checkpoint of a trainer by `save`, with the running mean of the weights; the mark of
    completeness comes last, when every process has written its part."""
    folder = Path(str(trainer.args.output_dir)) / f"checkpoint-{trainer.state.global_step}"
    if trainer.args.should_save:
        (folder / MARK).unlink(missing_ok=True)
    trainer.accelerator.wait_for_everyone()
    save()
    average.save(folder, trainer.model)
    trainer.accelerator.wait_for_everyone()
    if trainer.args.should_save:
        mark_complete(folder)


def save_stage(
    folder: Path,
    config: Any,
    weights: dict[str, Tensor],
    build: Callable[[dict[str, Tensor]], nn.Module],
    accelerator: Any,
) -> None:
    """Write the configuration and the weights of a stage's model, adapters merged by `build`. All processes
    must call it."""
    if accelerator.process_index == 0:
        config.save_pretrained(folder)
        merged: Mapping[str, Tensor] = build(weights).state_dict()
        write_tensors(folder / WEIGHTS, {name: Entry.of(value) for name, value in merged.items()})
    accelerator.wait_for_everyone()
    accelerator.free_memory()
