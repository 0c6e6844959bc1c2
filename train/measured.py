"""The memory of a plan, measured: its processes train one step on the CPU, and say what they hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PrinterCallback, TrainerCallback
from unified.train.average import Average
from unified.train.memory import Held, Plan, activation_bytes, model_for, sides_of
from unified.train.sharded import share_fsdp, share_zero3, without_weights, write_first
from unified.train.synthetic import SyntheticRows
from unified.train.trainer import UnifiedTrainer

from unified.objectives import build_objective


def measure_stage(name: str, settings: list[str], number: int, plan: Plan) -> Held:
    """Bytes that the first process of a plan holds in stage `number` of a recipe. ValueError with the last
    words of the processes if they fail."""
    with tempfile.TemporaryDirectory() as folder:
        told = {"name": name, "settings": settings, "number": number, "plan": vars(plan), "out": folder}
        command = ["-m", "torch.distributed.run", f"--nproc_per_node={plan.gpus}", "--standalone"]
        environment = {**os.environ, "DS_ACCELERATOR": "cpu", "DS_BUILD_OPS": "0", "CUDA_VISIBLE_DEVICES": ""}
        environment.setdefault("OMP_NUM_THREADS", "1")
        done = subprocess.run(
            [sys.executable, *command, "-m", "unified.train.measured", json.dumps(told)],
            env=environment,
            capture_output=True,
            text=True,
        )
        path = Path(folder) / "held.json"
        if done.returncode or not path.is_file():
            raise ValueError(f"the processes that measure failed: {done.stderr.strip()[-400:]}")
        return Held(**json.loads(path.read_text(encoding="utf-8")))


def bytes_of(tensors: Iterable[Tensor | None]) -> int:
    """Bytes of the memory that tensors lie in, what they share counted once."""
    found = {}
    for tensor in tensors:
        held = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        if held is not None:
            storage = held.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors of nested lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


class Watch(TrainerCallback):
    """Notes what a process holds: gradients before the optimiser steps, the rest after it."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.gradients = 0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        engine = getattr(self.trainer, "deepspeed", None)
        if engine is None:
            return
        step = engine.step

        def watched(*arguments: Any, **named: Any) -> Any:
            self.gradients = max(self.gradients, self._of_engine(engine.optimizer))
            return step(*arguments, **named)

        engine.step = watched

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        if getattr(self.trainer, "deepspeed", None) is None:
            self.gradients = bytes_of(p.grad for p in self.trainer.model.parameters())

    def _of_engine(self, optimizer: Any) -> int:
        buffer = getattr(optimizer, "grad_partitions_flat_buffer", None)
        return bytes_of(tensors_in(optimizer.averaged_gradients if buffer is None else buffer))

    def held(self) -> Held:
        """After a step."""
        trainer = self.trainer
        weights = [p.data for p in trainer.model.parameters()]
        weights += [p.ds_tensor.data for p in trainer.model.parameters() if hasattr(p, "ds_tensor")]
        engine = getattr(trainer, "deepspeed", None)
        inner = engine.optimizer.optimizer if engine else trainer.optimizer
        kept = list(tensors_in(list(inner.state.values())))
        for name in ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat"):
            kept += tensors_in(getattr(engine.optimizer, name, []) if engine else [])
        reference = getattr(trainer.reference, "model", None)
        return Held(
            parameters=bytes_of(weights),
            gradients=self.gradients,
            optimiser=bytes_of(kept),
            average=bytes_of(trainer.average.mean.values()),
            reference=bytes_of(reference.parameters()) if reference is not None else 0,
        )


def main(arguments: list[str] | None = None) -> int:
    from unified.train.__main__ import recipe_named
    from unified.train.machine import Machine, Sharding
    from unified.train.machine_options import deepspeed_config
    from unified.train.override import override
    from unified.train.run import own_optimiser
    from unified.train.settings import micro_rows, training_arguments

    told = json.loads((arguments or sys.argv[1:])[0])
    plan, number, out = Plan(**told["plan"]), told["number"], Path(told["out"])
    recipe = override(recipe_named(told["name"]), told["settings"])
    stage = replace(recipe.stages[number], steps=1)
    recipe = replace(recipe, stages=(*recipe.stages[:number], stage, *recipe.stages[number + 1 :]))
    config = deepspeed_config(f"zero{plan.zero}") if plan.zero else None
    machine = Machine(out=out, cpu=True, sharding=Sharding(deepspeed=config, fsdp=plan.fsdp))
    args = training_arguments(recipe, machine, number)
    args.save_strategy = "no"  # type: ignore[assignment]
    args.report_to = []
    model = _model(recipe, stage, plan, config, args)
    rows = SyntheticRows(model.vocabulary, sides_of(recipe), stage.batch.length, stage.batch.rows)
    watch = Watch()
    trainer = UnifiedTrainer(
        model,
        args,
        rows,
        Average(stage.parameters.average),
        bf16=stage.batch.bf16,
        objective=build_objective(stage.objective.name, stage.objective.options),
        callbacks=[watch],
        optimizers=(own_optimiser(model, stage, args.device), None),
    )
    trainer.remove_callback(PrinterCallback)
    watch.trainer = trainer
    trainer.train()
    if args.process_index == 0:
        alone = model_for(recipe, stage)
        used = activation_bytes(alone, recipe, stage, micro_rows(stage, plan.gpus))
        found = replace(watch.held(), activations=used)
        (out / "held.json").write_text(json.dumps(vars(found)), encoding="utf-8")
    return 0


def _model(recipe: Any, stage: Any, plan: Plan, config: Any, args: Any) -> Any:
    """The stage's model as its processes hold it."""
    if not (plan.gpus > 1 and (plan.fsdp or plan.zero == 3)):
        return model_for(recipe, stage)
    path = Path(args.output_dir) / "weights.safetensors"
    if args.process_index == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_first(lambda: model_for(recipe, stage), path)
    torch.distributed.barrier()
    model = without_weights(lambda: model_for(recipe, stage))
    if plan.fsdp:
        share_fsdp(model, path, args.device)
    else:
        share_zero3(model, path, config, bf16=stage.batch.bf16)
    return model


if __name__ == "__main__":
    sys.exit(main())
