"""The finished model of a run, from the files of its stages."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from unified.train.stage_files import ADAPTER, WEIGHTS
from unified.train.tensor_file import Entry, write_tensors

from unified.config import UnifiedConfig
from unified.file_names import WEIGHTS as MODEL
from unified.pretrained import base_folder, save_processor
from unified.vision_language.extension import ADAPTERS, save_weights


def export(
    done: Path, stages: Sequence[Path], processor: Any, *, bf16: bool, start: Path | None = None
) -> None:
    """The model that the last of some stages has left in its folder, with its tokenizers, one tensor at a
    time. Of a pretrained model that was extended, only what it has not itself: adapters of the stages and of
    the model that they went on from (`start`), and weights that are neither its own nor theirs."""
    done.mkdir(parents=True, exist_ok=True)
    dtype = torch.bfloat16 if bf16 else torch.float32
    state = load_file(stages[-1] / WEIGHTS)  # mapped, not read
    config: Any = UnifiedConfig.from_pretrained(stages[-1])
    if config.base:
        _copy_adapters(done / ADAPTERS, start, stages)
        save_weights(done, state, config, base_folder(config), dtype)
    else:
        write_tensors(done / MODEL, {name: Entry.of(value, dtype) for name, value in state.items()})
    config.save_pretrained(done)
    save_processor(done, processor)


def _copy_adapters(done: Path, start: Path | None, stages: Sequence[Path]) -> None:
    """Adapters in the order in which they were trained, numbered from 0."""
    before = [] if start is None else sorted((start / ADAPTERS).glob("*"), key=lambda path: int(path.name))
    shutil.rmtree(done, ignore_errors=True)
    for number, path in enumerate([*before, *(p for s in stages if (p := s / ADAPTER).is_dir())]):
        shutil.copytree(path, done / str(number))
