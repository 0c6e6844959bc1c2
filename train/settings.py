"""The arguments of the `transformers` trainer for a stage of a recipe."""

from __future__ import annotations

import os
from typing import Any

from transformers import TrainingArguments
from unified.train.machine import Machine, stage_folder

from unified.precision import fast_bf16

PATIENCE = 24 * 3600  # seconds that other processes wait for the first one to prepare


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
        bf16=batch.bf16 and (bool(machine.deepspeed) or fast_bf16(machine.device)),
        gradient_checkpointing=batch.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if batch.gradient_checkpointing else None,
        logging_steps=recipe.output.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it waits for the loss at every step
        save_steps=recipe.output.save_every,
        save_total_limit=recipe.output.keep,
        dataloader_num_workers=machine.loaders,
        average_tokens_across_devices=False,
        remove_unused_columns=False,
        label_names=["labels"],
        accelerator_config={"dispatch_batches": False, "split_batches": False, "even_batches": False},
        report_to=["tensorboard"],
        disable_tqdm=True,
    )
