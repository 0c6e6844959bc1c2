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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PrinterCallback, ProgressCallback, TrainingArguments
from unified.train.average import Average, is_sharded
from unified.train.build import first_model, loaded, stage_model, take_over
from unified.train.checkpoints import latest_checkpoint, problem
from unified.train.optimiser import is_inner, muon
from unified.train.pictures import task_of
from unified.train.preference.run import run_preference
from unified.train.preference.stage import unrolled
from unified.train.prepared import Prepared, Tokenizers, prepare, whole_shards
from unified.train.recipe import (
    ModelRecipe,
    PreferenceRecipe,
    Recipe,
    TextTokenizerRecipe,
    VisualTokenizerRecipe,
)
from unified.train.rows import Rows
from unified.train.sharded import merge, save_shares
from unified.train.sheets import Sheets
from unified.train.stage import Stage
from unified.train.stage_files import WEIGHTS
from unified.train.stage_model import Beginning, copies_reference, cuts
from unified.train.stored import completed, to_json, write_text
from unified.train.tensor_file import Entry, write_tensors
from unified.train.train_tokenizers import text_tokenizer, visual_tokenizer
from unified.train.trainer import JsonLines, UnifiedTrainer

from unified.config import UnifiedConfig
from unified.objectives import build_objective
from unified.pretrained import WEIGHTS as MODEL
from unified.pretrained import save_processor
from unified.text_files import content_of, read_object

PATIENCE = 24 * 3600  # seconds that other processes wait for the first one to prepare


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Processes beside those that train: `making` data, and `reading` it while training (of each)."""

    making: int = 1
    reading: int = 0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a recipe runs; none of it changes what is computed. `data`: folder of prepared ids (default
    OUT/data), which may be shared by runs. `compile`: layers go through torch.compile.
    `deepspeed` (a configuration) or `fsdp` (FSDP2) cut the model to pieces."""

    out: Path
    data: Path | None = None
    resume: str = "auto"
    deepspeed: dict[str, Any] | None = None
    fsdp: bool = False
    workers: Workers = Workers()
    cpu: bool = False
    compile: bool = False

    @property
    def device(self) -> str:
        return "cpu" if self.cpu or not torch.cuda.is_available() else "cuda"


def run(recipe: Recipe, machine: Machine) -> Path:
    """Run a recipe to its end; returns the folder of its result."""
    _claim(recipe, machine)
    if isinstance(recipe, TextTokenizerRecipe):
        text_tokenizer(recipe, machine.out)
        return machine.out
    if isinstance(recipe, VisualTokenizerRecipe):
        visual_tokenizer(recipe, machine.out, workers=machine.workers.making, device=machine.device)
        return machine.out
    if isinstance(recipe, PreferenceRecipe):
        from unified.train.preference.recipe import run_recipe  # it runs stages as this module says

        return run_recipe(recipe, machine)
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
    elif path.is_file() and machine.resume == "auto":
        _check_same(path, recipe)
    write_text(path, to_json(recipe))


def _check_same(path: Path, recipe: Recipe) -> None:
    """ValueError with the first difference if the run in a folder was begun with another recipe."""
    stored, wanted = read_object(path), json.loads(to_json(recipe))
    with content_of(path):
        stored = completed(stored, recipe)
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
    return f"{path.lstrip('.')} was {json.dumps(old)}"


# Data -------------------------------------------------------------------------------------------------------


def tokenizers_of(recipe: ModelRecipe, machine: Machine) -> Tokenizers:
    """Train the tokenizers of a model where they are missing; where they lie."""
    chosen = recipe.tokenizers
    text, visual = chosen.text, chosen.visual
    text_tokenizer(text, machine.out / "text_tokenizer")
    visual_tokenizer(
        visual, machine.out / "visual_tokenizer", workers=machine.workers.making, device=machine.device
    )
    return Tokenizers(
        text=text if isinstance(text, str) else str(machine.out / "text_tokenizer"),
        visual=visual if isinstance(visual, str) else str(machine.out / "visual_tokenizer"),
        sides=chosen.sides,
        max_side=chosen.max_side,
        merge=chosen.merge,
        frame_sides=chosen.frame_sides,
        start=recipe.start,
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
        found[source.task] = prepare(
            part, recipe.seed, recipe.data.split, tokenizers, root, workers=machine.workers.making
        )
    return found


# Stages -----------------------------------------------------------------------------------------------------


def _run_model(recipe: ModelRecipe, machine: Machine) -> Path:
    check_optimisers(recipe, machine)
    check_objectives(recipe)
    check_sharding(recipe, machine)
    if recipe.start and not (Path(recipe.start) / "model.safetensors").is_file():
        raise ValueError(f"start={recipe.start}: no model.safetensors there")
    done = machine.out / "model"
    pending = [
        n for n in range(len(recipe.stages)) if not (stage_folder(recipe, machine, n) / WEIGHTS).is_file()
    ]
    first = pending[0] if pending else len(recipe.stages) - 1
    arguments = training_arguments(recipe, machine, first)  # joins the other processes, if any
    with arguments.main_process_first(local=False, desc="training tokenizers"):
        tokenizers = tokenizers_of(recipe, machine)
    for number in pending:
        with arguments.main_process_first(local=False, desc="preparing data"):
            stage = recipe.stages[number]
            share = stage.data.samples if stage.kind == "supervised" else 0.0
            sources = prepare_all(recipe, machine, tokenizers, share) if share else {}
        run_stage(recipe, machine, number, sources, tokenizers.processor())
    if arguments.process_index == 0 and (pending or not done.exists()):
        last = stage_folder(recipe, machine, len(recipe.stages) - 1)
        export(done, last, tokenizers.processor(), recipe.output.export_bf16)
    return done


def export(done: Path, last: Path, processor: Any, bf16: bool) -> None:
    """The finished model with its tokenizers, from the files of its last stage, one tensor at a time."""
    done.mkdir(parents=True, exist_ok=True)
    dtype = torch.bfloat16 if bf16 else torch.float32
    state = load_file(last / WEIGHTS)  # mapped, not read
    write_tensors(done / MODEL, {name: Entry.of(value, dtype) for name, value in state.items()})
    UnifiedConfig.from_pretrained(last).save_pretrained(done)
    save_processor(done, processor)


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
        callbacks=[JsonLines(folder / "log.jsonl")],
        optimizers=(own_optimiser(model, stage, arguments.device), None),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if recipe.output.sheet_every:
        samples = [
            task_of(source, recipe.seed).sample(0, "validation")
            for source in recipe.data.sources
            if source.task in stage.data.names
        ]
        trainer.add_callback(
            Sheets(samples, processor, trainer.weights, build, folder / "sheets", recipe.output.sheet_every)
        )
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if arguments.process_index == 0:
        model.config.save_pretrained(folder)
    _save_weights(trainer, folder, build)
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.free_memory()


def _preference_stage(recipe: ModelRecipe, machine: Machine, number: int, processor: Any) -> None:
    """A stage on pairs of replies, from the weights of the one before or those that the first one has."""
    stage, folder = recipe.stages[number], stage_folder(recipe, machine, number)
    if number:
        model = stage_model(stage_folder(recipe, machine, number - 1))
    else:
        model = first_model(recipe.model, processor.vocabulary, recipe.seed, device=machine.device)
        if recipe.start:
            take_over(model, recipe.start)
    settings = trainer_settings(recipe, machine, number)
    run_preference(stage, folder, model, processor, settings, stage_checkpoint(machine, folder))


def _save_weights(trainer: UnifiedTrainer, folder: Path, build: Any) -> None:
    """The stage's result. Of a model in shares, every process writes its own; the first one merges them."""
    main = trainer.args.process_index == 0
    if is_sharded(trainer.model):  # type: ignore[arg-type]
        parts = folder / "shares"
        save_shares(parts, trainer.model, trainer.average.mean)  # type: ignore[arg-type]
        trainer.accelerator.wait_for_everyone()
        if main:
            merge(parts, folder / WEIGHTS)
            shutil.rmtree(parts)
        return
    weights = trainer.weights()
    if main:
        merged = build(weights).state_dict()
        write_tensors(folder / WEIGHTS, {name: Entry.of(value) for name, value in merged.items()})


def compile_layers(model: Any) -> None:
    """In place; ValueError for a decoder that has none under their usual name."""
    layers = getattr(model.backbone, "layers", None)
    if layers is None:
        raise ValueError(f"{type(model.backbone).__name__} has no `layers` to compile")
    for layer in layers:
        layer.compile()


def check_optimisers(recipe: ModelRecipe, machine: Machine) -> None:
    """ValueError, before anything is made, if a stage's optimiser cannot run on this machine."""
    for stage in recipe.stages:
        if machine.deepspeed and stage.optimisation.optimiser == "muon":
            raise ValueError(
                f"stage {stage.name!r} uses muon, which needs whole matrices, and DeepSpeed cuts them to "
                "pieces: override its optimiser with adamw"
            )


def check_objectives(recipe: ModelRecipe) -> None:
    """ValueError, before anything is made, if a stage's objective needs other data than sources give."""
    for stage in recipe.stages:
        if (
            stage.kind == "supervised"
            and build_objective(stage.objective.name, stage.objective.options).needs_pairs
        ):
            raise ValueError(
                f"stage {stage.name!r}: objective {stage.objective.name!r} needs pairs of replies, which "
                "the sources of a recipe do not give: give UnifiedTrainer PairedRows (train/pairs.py)"
            )


def check_sharding(recipe: ModelRecipe, machine: Machine) -> None:
    """ValueError, before anything is made, for what FSDP2 cannot do."""
    if machine.fsdp and machine.deepspeed:
        raise ValueError("--fsdp and --deepspeed both cut the model to pieces: give one of them")
    for stage in recipe.stages:
        if machine.fsdp and stage.optimisation.optimiser == "muon":
            raise ValueError(f"stage {stage.name!r} uses muon, which needs whole matrices: not with --fsdp")
        if machine.fsdp and stage.kind == "preference":
            raise ValueError(f"stage {stage.name!r} tunes on preferences: use --deepspeed, not --fsdp")
        if machine.fsdp and copies_reference(stage):
            raise ValueError(
                f"stage {stage.name!r} needs a copy of the model as its reference, which --fsdp does not "
                'cut: train adapters alone (trains=["lora"]), or use --deepspeed'
            )


def own_optimiser(model: Any, stage: Stage, device: Any) -> torch.optim.Optimizer | None:
    """What the stage names, or None for the trainer's own AdamW."""
    chosen = stage.optimisation
    if chosen.optimiser == "adamw":
        return None
    model.to(device)  # it steps matrices that share their memory with the weights: they must lie still
    return muon(
        model.named_parameters(), is_inner, stage.optimisation.learning_rate, stage.optimisation.weight_decay
    )


def stage_folder(recipe: Any, machine: Machine, number: int) -> Path:
    return machine.out / "stages" / f"{number}-{recipe.stages[number].name}"


def stage_checkpoint(machine: Machine, folder: Path) -> Path | None:
    """The checkpoint that a stage resumes from."""
    if machine.resume in ("auto", "none"):
        return latest_checkpoint(folder)
    path = Path(machine.resume)
    if path.parent.resolve() != folder.resolve():  # of another stage: that one is done
        return latest_checkpoint(folder)
    if reason := problem(path):
        raise ValueError(f"{path} cannot be resumed: {reason}")
    return path


def micro_rows(stage: Any, processes: int) -> int:
    """Rows that a process runs at once: the largest number that divides its part of a step."""
    batch = stage.batch
    if batch.rows % processes:
        raise ValueError(f"{processes} processes cannot share the {batch.rows} rows of stage {stage.name!r}")
    part = batch.rows // processes
    return next(n for n in range(min(batch.micro_rows, part), 0, -1) if part % n == 0)


def without_compilation() -> None:
    """DeepSpeed would compile a shared-memory all-reduce for minutes; gloo does without."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def training_arguments(recipe: Any, machine: Machine, number: int) -> TrainingArguments:
    """Hugging Face's arguments for one stage."""
    return TrainingArguments(**trainer_settings(recipe, machine, number))


def trainer_settings(recipe: Any, machine: Machine, number: int) -> dict[str, Any]:
    """Them as a dict, for one stage of any kind."""
    stage, folder = recipe.stages[number], stage_folder(recipe, machine, number)
    batch, optimisation = stage.batch, stage.optimisation
    processes = int(os.environ.get("WORLD_SIZE", 1))
    micro = micro_rows(stage, processes)
    cpu = machine.device == "cpu"
    if cpu and machine.deepspeed:
        without_compilation()
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
    return dict(
        output_dir=str(folder),
        use_cpu=cpu,
        ddp_backend="gloo" if cpu and processes > 1 else None,
        ddp_timeout=PATIENCE,
        deepspeed=machine.deepspeed,
        seed=recipe.seed,
        max_steps=stage.steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch.rows // processes // micro,
        learning_rate=optimisation.learning_rate,
        weight_decay=optimisation.weight_decay,
        adam_beta2=0.95,
        max_grad_norm=optimisation.clip,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": optimisation.final},
        warmup_steps=optimisation.warmup,
        bf16=batch.bf16,
        gradient_checkpointing=batch.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if batch.gradient_checkpointing else None,
        logging_steps=recipe.output.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it waits for the loss at every step
        save_steps=recipe.output.save_every,
        save_total_limit=recipe.output.keep,
        dataloader_num_workers=machine.workers.reading,
        average_tokens_across_devices=False,
        remove_unused_columns=False,
        label_names=["labels"],
        accelerator_config={"dispatch_batches": False, "split_batches": False, "even_batches": False},
        report_to=["tensorboard"],
        disable_tqdm=True,
    )
