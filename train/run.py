"""Runs a recipe: tokenizers, data, stage after stage, the finished model. Everything that is done is found
again by the same command.

    OUT/recipe.json                   what was run
    OUT/text_tokenizer visual_tokenizer data
    OUT/stages/0-main/                checkpoint-N, log.jsonl, sheets/, tensorboard/
    OUT/stages/0-main/weights.safetensors   the stage's result: the mark that it is done
    OUT/model/                        the finished model with its tokenizers
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback
from unified.train.average import Average, is_sharded
from unified.train.build import check_start, loaded, stage_model
from unified.train.checks import check_heads, check_objectives, check_optimisers, check_sharding
from unified.train.export import export
from unified.train.lock import NAME as LOCK
from unified.train.lock import alone
from unified.train.machine import Machine, stage_checkpoint, stage_folder
from unified.train.optimiser import is_inner, muon
from unified.train.pictures import task_of
from unified.train.preference.run import run_preference
from unified.train.preference.stage import unrolled
from unified.train.prepared import Prepared, Tokenizers, prepare, whole_shards
from unified.train.recipe import (
    ModelRecipe,
    PreferenceRecipe,
    Recipe,
    Source,
    TextTokenizerRecipe,
    VARGPTRecipe,
    VisualTokenizerRecipe,
)
from unified.train.rows import Rows
from unified.train.select import adapter_base, save_adapters
from unified.train.settings import trainer_settings, training_arguments
from unified.train.sharded import Shares, merge, save_shares
from unified.train.sheets import Sheets
from unified.train.stage import Stage
from unified.train.stage_files import ADAPTER, WEIGHTS
from unified.train.stage_model import Beginning, copies_reference, cuts, start_of
from unified.train.stored import completed, to_json, write_text
from unified.train.tensor_file import Entry, write_tensors
from unified.train.train_tokenizers import text_tokenizer, visual_tokenizer
from unified.train.trainer import JsonLines, UnifiedTrainer

from unified.objectives import build_objective
from unified.pretrained import find
from unified.text_files import content_of, read_object

LONGEST = 60  # characters of a value in a message


def run(recipe: Recipe, machine: Machine) -> Path:
    """Run a recipe to its end; returns the folder of its result. ValueError if another run has the folder."""
    with alone(machine.out):
        return run_alone(recipe, machine)


def run_alone(recipe: Recipe, machine: Machine) -> Path:
    """`run` for a caller that has the folder to itself (`lock.alone`)."""
    _claim(recipe, machine)
    if isinstance(recipe, TextTokenizerRecipe):
        text_tokenizer(recipe, machine.out)
        return machine.out
    if isinstance(recipe, VisualTokenizerRecipe):
        visual_tokenizer(recipe, machine.out, workers=machine.workers, device=machine.device)
        return machine.out
    if isinstance(recipe, PreferenceRecipe):
        from unified.train.preference.recipe import run_recipe  # it runs stages as this module says

        return run_recipe(recipe, machine)
    if isinstance(recipe, VARGPTRecipe):
        from unified.train.vargpt.run import run_vargpt

        return run_vargpt(recipe, machine)
    return _run_model(replace(recipe, stages=unrolled(recipe.stages)), machine)


def _claim(recipe: Recipe, machine: Machine) -> None:
    """Note the recipe in the folder; another one there is refused. `--resume none` moves old stages away."""
    if int(os.environ.get("RANK", 0)):
        return
    machine.out.mkdir(parents=True, exist_ok=True)
    path, stages = machine.out / "recipe.json", machine.out / "stages"
    if machine.resume == "none" and stages.exists():
        number = next(n for n in range(1, 1000) if not (machine.out / f"stages.old-{n}").exists())
        stages.rename(machine.out / f"stages.old-{number}")
    elif path.is_file() and machine.resume == "auto" and _begun(machine.out):
        check_same(path, recipe)
    write_text(path, to_json(recipe))


def _begun(folder: Path) -> bool:
    """Whether anything was made there: a run that ended at bad input leaves its recipe alone."""
    left = (path.name for path in folder.rglob("*") if path.is_file())
    return any(name not in ("recipe.json", LOCK) for name in left)


def check_same(path: Path, recipe: Recipe, parts: Sequence[str] = ()) -> None:
    """ValueError with the first difference if the run in a folder was begun with another recipe; `parts`:
    the keys that are compared, all if there are none."""
    stored, wanted = read_object(path), json.loads(to_json(recipe))
    with content_of(path):
        stored = completed(stored, recipe)
    stored, wanted = ({key: tree.get(key) for key in parts or tree} for tree in (stored, wanted))
    if stored != wanted:
        difference = _difference(stored, wanted)
        remedy = "choose another --out, or --resume none"
        raise ValueError(f"{path.parent} was begun with another recipe ({difference}): {remedy}")


def _difference(old: Any, new: Any, path: str = "") -> str:
    """The first value that differs, with its path."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        return _difference(old.get(keys[0]), new.get(keys[0]), f"{path}.{keys[0]}") if keys else "its form"
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        number = next(n for n in range(len(old)) if old[n] != new[n])
        return _difference(old[number], new[number], f"{path}.{number}")
    value = json.dumps(old)
    return f"{path.lstrip('.')} was {value if len(value) <= LONGEST else value[:LONGEST] + ' ...'}"


# Data -------------------------------------------------------------------------------------------------------


def tokenizers_of(recipe: ModelRecipe, machine: Machine) -> Tokenizers:
    """Train the tokenizers of a model where they are missing; where they lie."""
    chosen = recipe.tokenizers
    if (chosen is None) != (recipe.model is None):
        raise ValueError("tokenizers and model are either both given or both those of `start` (null)")
    if chosen is None:
        return Tokenizers.of_model(find(recipe.start))
    text, visual = chosen.text, chosen.visual
    text_tokenizer(text, machine.out / "text_tokenizer")
    visual_tokenizer(visual, machine.out / "visual_tokenizer", workers=machine.workers, device=machine.device)
    return Tokenizers(
        text=text if isinstance(text, str) else str(machine.out / "text_tokenizer"),
        visual=visual if isinstance(visual, str) else str(machine.out / "visual_tokenizer"),
        sides=chosen.sides,
        max_side=chosen.max_side,
        merge=chosen.merge,
        frame_sides=chosen.frame_sides,
        order=chosen.order,
        start=str(find(recipe.start)) if recipe.start else "",
    )


def prepare_all(
    recipe: ModelRecipe, machine: Machine, tokenizers: Tokenizers | None = None, share: float = 1.0
) -> dict[str, Prepared]:
    """Every source of a model, or the first `share` of each, as ids; made where they are missing."""
    tokenizers = tokenizers or tokenizers_of(recipe, machine)
    root = machine.data or machine.out / "data"
    found = {}
    for source in recipe.data.sources:
        part = replace(source, samples=whole_shards(source.samples, share))
        found[source.label] = prepare(
            part, recipe.seed, recipe.data.split, tokenizers, root, workers=machine.workers
        )
    return found


# Stages -----------------------------------------------------------------------------------------------------


def _run_model(recipe: ModelRecipe, machine: Machine) -> Path:
    check_optimisers(recipe, machine)
    check_objectives(recipe)
    check_heads(recipe)
    check_sharding(recipe, machine)
    start = find(recipe.start) if recipe.start else None
    if recipe.model and start and not (start / "model.safetensors").is_file():
        raise ValueError(f"start={recipe.start}: no model.safetensors there")
    done = machine.out / "model"
    pending = [
        n for n in range(len(recipe.stages)) if not (stage_folder(recipe, machine, n) / WEIGHTS).is_file()
    ]
    first = pending[0] if pending else len(recipe.stages) - 1
    arguments = training_arguments(recipe, machine, first)  # joins the other processes, if any
    with arguments.main_process_first(local=False, desc="training tokenizers"):
        tokenizers = tokenizers_of(recipe, machine)
    if recipe.model and start:
        check_start(recipe.model, tokenizers.processor().vocabulary, start)
    for number in pending:
        with arguments.main_process_first(local=False, desc="preparing data"):
            stage = recipe.stages[number]
            share = stage.data.samples if stage.kind == "supervised" else 0.0
            sources = prepare_all(recipe, machine, tokenizers, share) if share else {}
        run_stage(recipe, machine, number, sources, tokenizers.processor())
    if arguments.process_index == 0 and (pending or not done.exists()):
        folders = [stage_folder(recipe, machine, number) for number in range(len(recipe.stages))]
        export(done, folders, tokenizers.processor(), bf16=recipe.output.export_bf16, start=start)
    return done


def run_stage(
    recipe: ModelRecipe, machine: Machine, number: int, sources: dict[str, Prepared], processor: Any
) -> None:
    """One stage, from the weights of the one before to its own."""
    stage, folder = recipe.stages[number], stage_folder(recipe, machine, number)
    if stage.kind == "preference":
        _preference_stage(recipe, machine, number, processor)
        return
    arguments = training_arguments(recipe, machine, number)
    checkpoint = stage_checkpoint(machine, folder)
    start = stage_folder(recipe, machine, number - 1) / WEIGHTS if number else None
    beginning = Beginning(
        recipe=recipe, stage=stage, processor=processor, start=start, folder=folder, device=machine.device
    )
    sharded = arguments.world_size > 1 and cuts(machine.deepspeed, fsdp=machine.fsdp)
    if sharded and not (machine.deepspeed and copies_reference(stage)):
        model: Any = beginning.sharded(arguments, machine.deepspeed)
    else:
        model = beginning.whole()
    chosen = stage.parameters
    if machine.compile:
        compile_layers(model)
    config: Any = model.config
    build = partial(loaded, config, adapter=chosen.adapter if "lora" in chosen.trains else 0)
    trainer = UnifiedTrainer(
        model,
        arguments,
        Rows(stage, sources, processor.vocabulary, recipe.seed),
        Average(chosen.average, checkpoint),
        bf16=stage.batch.bf16,
        objective=build_objective(stage.objective.name, stage.objective.options),
        processing_class=processor,  # its tokenizers go into every checkpoint
        callbacks=[JsonLines(folder / "log.jsonl")],
        optimizers=(own_optimiser(model, stage, arguments.device), None),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if recipe.output.sheet_every:
        samples = [
            _held_out(source, recipe.seed)
            for source in recipe.data.sources
            if source.label in stage.data.names
        ]
        trainer.add_callback(
            Sheets(samples, processor, trainer.weights, build, folder / "sheets", recipe.output.sheet_every)
        )
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if arguments.process_index == 0:
        model.config.save_pretrained(folder)
    _save_weights(trainer, folder, build, adapter_base(recipe.start, number))
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.free_memory()


def _preference_stage(recipe: ModelRecipe, machine: Machine, number: int, processor: Any) -> None:
    """A stage on pairs of replies, from the weights of the one before or those that the first one has."""
    stage, folder = recipe.stages[number], stage_folder(recipe, machine, number)
    if number:
        model = stage_model(stage_folder(recipe, machine, number - 1))
    else:
        model = start_of(recipe, processor, machine.device)
    settings = trainer_settings(recipe, machine, number)
    checkpoint = stage_checkpoint(machine, folder)
    run_preference(
        stage, folder, model, processor, settings, checkpoint, base=adapter_base(recipe.start, number)
    )


def _held_out(source: Source, seed: int) -> Any:
    """A sample of a source for sheets: of its validation split, or of what it trains on if it has none."""
    task = task_of(source, seed)
    try:
        return task.sample(0, "validation")
    except ValueError:
        return task.sample(0, "train")


def _save_weights(trainer: UnifiedTrainer, folder: Path, build: Any, base: str) -> None:
    """The stage's result, and adapters as `peft` reads them if it trained any (`base`: what they belong to).
    Of a model in shares, every process writes its own; the first one merges them."""
    config = getattr(trainer.model, "adapter_config", None)
    main = trainer.args.process_index == 0
    if is_sharded(trainer.model):  # type: ignore[arg-type]
        parts = folder / "shares"
        save_shares(parts, trainer.model, trainer.average.mean)  # type: ignore[arg-type]
        trainer.accelerator.wait_for_everyone()
        if main:
            merge(parts, folder / WEIGHTS)
            if config is not None:
                save_adapters(folder / ADAPTER, config, Shares(parts).adapters(), base)
            shutil.rmtree(parts)
        return
    weights = trainer.weights()
    if main:
        if config is not None:
            save_adapters(folder / ADAPTER, config, weights, base)
        merged = build(weights).state_dict()
        write_tensors(folder / WEIGHTS, {name: Entry.of(value) for name, value in merged.items()})


def compile_layers(model: Any) -> None:
    """In place; ValueError for a decoder that has none under their usual name."""
    layers = getattr(model.backbone, "layers", None)
    if layers is None:
        raise ValueError(f"{type(model.backbone).__name__} has no `layers` to compile")
    for layer in layers:
        layer.compile()


def own_optimiser(model: Any, stage: Stage, device: Any) -> torch.optim.Optimizer | None:
    """What the stage names, or None for the trainer's own AdamW."""
    chosen = stage.optimisation
    if chosen.optimiser == "adamw":
        return None
    model.to(device)  # it steps matrices that share their memory with the weights: they must lie still
    return muon(
        model.named_parameters(), is_inner, stage.optimisation.learning_rate, stage.optimisation.weight_decay
    )
