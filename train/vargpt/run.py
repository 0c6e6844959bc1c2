"""Runs a recipe of VARGPT: stage after stage, each from the weights of the one before.

OUT/recipe.json
OUT/stages/0-projectors/   checkpoint-N, log.jsonl, tensorboard/, model/ (the stage's result: it is done)
OUT/model/                 the finished model with its tokenizer, image processor and chat template
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, TrainingArguments
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from unified.train.machine import Machine, stage_checkpoint, stage_folder
from unified.train.recipe import VARGPTRecipe
from unified.train.settings import trainer_settings
from unified.train.trainer import JsonLines
from unified.train.vargpt.examples import Encoder, Rows
from unified.train.vargpt.stage import VARGPTStage, select_parts
from unified.train.vargpt.trainer import VARGPTTrainer

from unified.checkpoints.vargpt import VARGPT
from unified.checkpoints.vargpt_published import INDEX, load_folder, save_folder
from unified.objectives import build_objective
from unified.pretrained import find
from unified.vision_language.processor import PretrainedProcessor, load_image_half

MODEL, DONE = "model", "config.json"


def run_vargpt(recipe: VARGPTRecipe, machine: Machine) -> Path:
    """Stage after stage; what is done is found again. Returns the folder of the finished model."""
    if not recipe.start:
        raise ValueError("start names no model: give --override start=FOLDER of VARGPT-v1.1's weights")
    if machine.deepspeed or machine.fsdp:
        raise ValueError("VARGPT is trained whole in every process: leave --deepspeed and --fsdp away")
    check_pairs(recipe)
    start = find(recipe.start)
    processor = load_image_half(start, "qwen2_vl", Qwen2VLImageProcessorPil)
    before, done = start, machine.out / MODEL
    for number in range(len(recipe.stages)):
        result = stage_folder(recipe, machine, number) / MODEL
        if not (result / DONE).is_file():
            run_stage(recipe, machine, number, before, processor)
        before = result
    if int(os.environ.get("RANK", 0)) == 0 and not (done / DONE).is_file():
        export(before, start, done, torch.bfloat16 if recipe.output.export_bf16 else None)
    return done


def check_pairs(recipe: VARGPTRecipe) -> None:
    """ValueError for the first file of pairs that is not there."""
    for stage in recipe.stages:
        for name in stage.data.pairs:
            if not Path(name).is_file():
                raise ValueError(f"stage {stage.name!r}: {name}: no such file of pairs")


def run_stage(
    recipe: VARGPTRecipe, machine: Machine, number: int, start: Path, processor: PretrainedProcessor
) -> None:
    """One stage, from the weights in `start`."""
    stage, folder = recipe.stages[number], stage_folder(recipe, machine, number)
    model = stage_model(stage, start)
    encoder = Encoder.of(processor, model.sizes)
    rows = Rows(stage, recipe.data, encoder, recipe.seed)
    settings = trainer_settings(recipe, machine, number)
    pad = processor.tokenizer.pad_token_id
    trainer = VARGPTTrainer(
        model,
        TrainingArguments(**settings),
        rows,
        build_objective(stage.objective.name, stage.objective.options),
        pad=model.sizes.language["eos_token_id"] if pad is None else pad,
        callbacks=[JsonLines(folder / "log.jsonl", _line)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    checkpoint = stage_checkpoint(machine, folder)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.args.should_save:
        save_folder(folder / MODEL, model)
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.free_memory()


def stage_model(stage: VARGPTStage, start: Path) -> VARGPT:
    """The model in a folder as a stage trains it: parts that it leaves alone are frozen."""
    model = load_folder(start)
    model.sizes = replace(model.sizes, resolution=stage.resolution)
    select_parts(model, stage.trains)
    return model.train()


def export(last: Path, start: Path, done: Path, dtype: torch.dtype | None) -> None:
    """The weights of the last stage, in `dtype` (None: float32), beside the other files of the model that was
    begun with. The configuration, which marks the folder as whole, comes last."""
    done.mkdir(parents=True, exist_ok=True)
    for path in sorted(start.iterdir()):
        weights = path.name == DONE or path.name == INDEX or path.suffix == ".safetensors"
        if path.is_file() and not weights:
            shutil.copyfile(path, done / path.name)
    save_folder(done, load_folder(last), dtype)


def _line(entry: dict[str, Any], steps: int) -> str:
    shown = {"loss": entry["loss"], "text": entry.get("loss_text"), "slot": entry.get("loss_slot"),
             "margin": entry.get("reward_margin")}  # fmt: skip
    words = [f"{name} {value:.3f}" for name, value in shown.items() if value]
    return f"step {entry['step']}/{steps}  {'  '.join(words)}"
