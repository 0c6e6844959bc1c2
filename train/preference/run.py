"""Runs a stage of preference tuning: pairs, TRL's trainer with our scores, the stage's weights.

OUT/stages/0-dpo/pairs.jsonl            on-policy pairs, made when the stage begins
OUT/stages/0-dpo/checkpoint-N/ log.jsonl tensorboard/ weights.safetensors, as of any stage
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, ProgressCallback
from unified.tasks.registry import make
from unified.train.average import Average
from unified.train.build import loaded
from unified.train.preference.data import read_pairs
from unified.train.preference.on_policy import Tally, make_pairs, write_pairs
from unified.train.preference.rewards import TaskReward
from unified.train.preference.stage import PreferenceStage
from unified.train.preference.trainer import PreferenceConfig, PreferenceTrainer
from unified.train.select import adapter_config, save_adapters, select
from unified.train.stage_files import ADAPTER, save_stage, saved_whole
from unified.train.trainer import JsonLines

from unified.model import UnifiedModel
from unified.stream.processor import Processor

PAIRS = "pairs.jsonl"
PREFIX = "base_model.model."  # of the names of weights inside a `PeftModel`


class StageTrainer(PreferenceTrainer):
    """With a running mean of the weights, and checkpoints that are marked when they are whole."""

    def __init__(self, model: nn.Module, args: PreferenceConfig, average: Average, **options: Any) -> None:
        super().__init__(model, args=args, **options)
        self.average = average
        self.add_callback(average)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        saved_whole(self, partial(super()._save_checkpoint, model, trial), self.average)

    def weights(self) -> dict[str, Tensor]:
        """All weights in full under the names of a `UnifiedModel` with adapters in it, the averaged ones in
        place of their latest values where there are any. All processes must call it."""
        state = self.accelerator.get_state_dict(self.model_wrapped) or {}
        mean = self.average.whole(self.model)  # type: ignore[arg-type]
        return {name.removeprefix(PREFIX): mean.get(name, value).detach() for name, value in state.items()}


def run_preference(
    stage: PreferenceStage,
    folder: Path,
    model: UnifiedModel,
    processor: Processor,
    settings: Mapping[str, Any],
    checkpoint: Path | None,
    *,
    base: str = "",
) -> None:
    """From `model` as it is to the weights of the stage in `folder`, and the adapters beside them if it
    trained any. `settings`: arguments of `TrainingArguments`; `checkpoint`: that it resumes from, if any;
    `base`: the model that the adapters belong to."""
    args = preference_config(stage, settings)
    with args.main_process_first(local=False, desc="making pairs"):
        pairs = stage_pairs(stage, folder, model, processor)
    chosen = stage.parameters
    options: dict[str, Any] = {}
    if chosen.trains == ("lora",):
        options["peft_config"] = adapter_config(model, chosen.adapter)
    else:
        select(model, chosen.trains)
    adapter = chosen.adapter if options else 0
    build = partial(loaded, model.config, adapter=adapter)  # type: ignore[arg-type]
    trainer = StageTrainer(
        model,
        args,
        Average(chosen.average, checkpoint),
        train_dataset=pairs,
        callbacks=[JsonLines(folder / "log.jsonl", preference_line)],
        **options,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    weights = trainer.weights()
    if options and trainer.accelerator.is_main_process:
        save_adapters(folder / ADAPTER, options["peft_config"], weights, base)
    save_stage(folder, model.config, weights, build, trainer.accelerator)


def preference_config(stage: PreferenceStage, settings: Mapping[str, Any]) -> PreferenceConfig:
    """Of a stage on a machine. Where pairs do not fill a step evenly, some come twice in an epoch."""
    chosen = stage.preference
    even = {"accelerator_config": {**settings.get("accelerator_config", {}), "even_batches": True}}
    return PreferenceConfig(
        **{**settings, **even},
        beta=chosen.beta,
        loss_type=list(chosen.losses),
        loss_weights=list(chosen.loss_weights) or None,
        label_smoothing=chosen.label_smoothing,
        weights=chosen.weights,
        decay=chosen.decay,
        sft=chosen.sft,
        precompute_ref_log_probs=chosen.reference == "precomputed",
    )


def stage_pairs(stage: PreferenceStage, folder: Path, model: UnifiedModel, processor: Processor) -> Any:
    """The pairs of a stage, made first if they are on-policy and not yet there. ValueError names those that
    do not fit."""
    data = stage.pairs
    files = [Path(name) for name in data.files]
    if data.source is not None:
        files = [folder / PAIRS]
        if not files[0].is_file():
            _make(stage, files[0], model, processor)
    pairs = read_pairs(files, processor, images=data.images or None, size=data.size)
    for number, row in enumerate(pairs):
        longest = max(len(row["chosen_ids"]), len(row["rejected_ids"])) + len(row["prompt_ids"])
        if longest > stage.batch.length:
            raise ValueError(
                f"pair {number} takes {longest} ids, a row {stage.batch.length}: raise batch.length"
            )
    return pairs


def _make(stage: PreferenceStage, path: Path, model: UnifiedModel, processor: Processor) -> None:
    source, tally = stage.pairs.source, Tally()
    assert source is not None
    reward = TaskReward(make(source.task, **source.options), source.scores, source.following or None)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).eval()  # type: ignore[arg-type]
    found = make_pairs(model, processor, reward, stage.pairs.on_policy, tally=tally)
    if not write_pairs(path, found):
        raise ValueError(
            f"no pairs of a gap of {stage.pairs.on_policy.margin} were made ({tally}): lower margin"
        )
    model.to("cpu").train()  # type: ignore[arg-type]
    print(f"{path}: {tally}", flush=True)


def preference_line(entry: Mapping[str, Any], steps: int) -> str:
    """What is shown of a line of the log."""
    shown = {"loss": entry["loss"], "accuracy": entry.get("rewards/accuracies")}
    shown |= {"margin": entry.get("rewards/margins"), "chosen": entry.get("logps/chosen")}
    words = [f"{name} {value:.3f}" for name, value in shown.items() if value is not None]
    return f"step {entry['step']}/{steps}  {'  '.join(words)}"
