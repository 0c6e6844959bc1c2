"""Hugging Face's `Trainer` with an objective, the parts of the likelihood in the log, whole checkpoints and
throughput."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from unified.train.average import Average, is_sharded
from unified.train.reference import Reference, reference_for
from unified.train.rows import Batches
from unified.train.sharded import save_shares
from unified.train.stage_files import saved_whole
from unified.train.throughput import ModelFlops, peak_flops

from unified.bound import need_exact
from unified.objectives import CrossEntropy, Objective, Progress, Scores
from unified.stream.vocabulary import Vocabulary

SHARES = "shares"  # folder of a checkpoint: weights and the optimiser's state under FSDP2


class Scalars:
    """Means of scalars by name since the last report: what an objective logs."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, logs: Mapping[str, Tensor]) -> None:
        """The same names every time, in every process."""
        for name, value in logs.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1

    def report(self) -> dict[str, float]:
        """Means over all processes, which have added equally often; empties the scalars."""
        (sums, count), (self.sums, self.count) = (self.sums, self.count), ({}, 0)
        if not sums:
            return {}
        table = torch.stack(list(sums.values())) / count
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(table)
            table /= torch.distributed.get_world_size()
        return dict(zip(sums, table.tolist(), strict=True))


class Meter:
    """Sums of the negative log-likelihood of targets by part and by task, and a count of ids, since the last
    report."""

    def __init__(self, vocabulary: Vocabulary, tasks: list[str]) -> None:
        sides = range(vocabulary.max_side + 1)
        self.names = ["loss_text", "loss_action", *(f"loss_image_{side}" for side in sides)]
        self.parts = len(self.names)
        self.names += [f"task_{task}" for task in tasks]
        self.sums: Tensor | None = None  # [2, names + 1]: sums and counts; the last column: flops and ids

    def add(self, nll: Tensor, scored: Tensor, parts: Tensor, tasks: Tensor, flops: float) -> None:
        """nll, scored (bool), parts and tasks, each [B, T]."""
        table = torch.zeros(2, len(self.names) + 1, device=nll.device, dtype=torch.float64)
        values = torch.stack([nll * scored, scored]).double().flatten(1)  # what is not scored adds nothing
        table.index_add_(1, parts.flatten(), values)
        table.index_add_(1, self.parts + tasks.flatten().clamp(min=0), values)
        table[0, -1] += flops
        table[1, -1] = (tasks >= 0).sum()
        self.sums = table if self.sums is None else self.sums + table

    def report(self) -> tuple[dict[str, float], int, float]:
        """(means by name, ids seen, arithmetic done) over all processes; empties the meter."""
        if self.sums is None:
            return {}, 0, 0.0
        sums, self.sums = self.sums, None
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            sums = sums if sums.device.type != "mps" else sums.float()
            torch.distributed.all_reduce(sums)
        totals, counts = sums.tolist()
        found = zip(self.names, totals, counts, strict=False)
        return {name: total / count for name, total, count in found if count}, int(counts[-1]), totals[-1]


class UnifiedTrainer(Trainer):
    """`rows` are already in order and normalised (see `rows.py`); `average` is saved with each checkpoint. An
    `objective` (default cross-entropy) that needs a reference gets one made from the weights that `model` has
    now, see `reference.py` for its memory. ValueError if the objective and the rows do not fit."""

    # The loss is a mean over the rows of a micro-batch: the trainer divides by the accumulation.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        rows: Batches,
        average: Average,
        *,
        bf16: bool,
        objective: Objective | None = None,
        **options: Any,
    ) -> None:
        self.objective: Objective = objective or CrossEntropy()
        if self.objective.needs_pairs and not rows.paired:
            raise ValueError(
                f"{type(self.objective).__name__} needs pairs of replies: give PairedRows (train/pairs.py)"
            )
        if self.objective.needs_likelihood:
            need_exact(model, type(self.objective).__name__)
        needed = self.objective.needs_reference
        self.reference: Reference | None = reference_for(model) if needed else None
        collator = rows.collator(everywhere=args.world_size > 1)
        # FSDP2 models are of our making: checkpoints of their shares, too (`_save_optimizer_and_scheduler`).
        self.fsdp = getattr(model, "is_distributed_loading_by_transformers", False)
        args.save_only_model = self.fsdp
        super().__init__(model=model, args=args, train_dataset=rows, data_collator=collator, **options)
        args.save_only_model = False
        self.model_accepts_loss_kwargs = False
        self.meter, self.average = Meter(rows.vocabulary, rows.names), average
        self.scalars = Scalars()
        self.flops = ModelFlops(model)
        self.peak = peak_flops(args.device, bf16=bf16) * args.world_size
        self.clock = time.perf_counter()
        self.add_callback(average)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The objective's loss of a micro-batch; its parts and the objective's own scalars are noted for the
        log."""
        progress = Progress(step=self.state.global_step, steps=self.state.max_steps, seed=self.args.seed)
        batch = self.objective.prepare(inputs, progress)
        outputs = model(**_arguments(batch))
        policy = Scores.of(outputs, batch["layout"], batch["labels"], batch["weights"])
        further = self.objective.rolled_out(model, batch)
        if further is not None:
            told = further["layout"], further["labels"], further["weights"]
            batch = {**batch, "rolled_out": Scores.of(model(**_arguments(further)), *told)}
        found = self.objective.loss(policy, self._reference_scores(model, batch), batch)
        flops = self.flops(batch["work"])
        nll = -policy.log_probs.detach()
        self.meter.add(nll, policy.weights > 0, batch["parts"], batch["tasks"], flops)
        self.scalars.add(found.logs)
        return (found.loss, outputs) if return_outputs else found.loss

    def _reference_scores(self, model: nn.Module, batch: Mapping[str, Any]) -> Scores | None:
        if self.reference is None:
            return None
        with torch.no_grad(), self.accelerator.autocast():
            outputs = self.reference(model, _arguments(batch))
        return Scores.of(outputs, batch["layout"], batch["labels"], batch["weights"])

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Of a batch, for the trainer's own count: its guess walks through the model at every step."""
        return int(self.flops(inputs["work"]))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            means, ids, flops = self.meter.report()
            now = time.perf_counter()
            spent, self.clock = now - self.clock, now
            logs |= {
                **means,
                **self.scalars.report(),
                "tokens_per_second": ids / spent,
                "mfu": flops / spent / self.peak,
            }
        super().log(logs, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        saved_whole(self, partial(self._write_checkpoint, model, trial), self.average)

    def _write_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        config = getattr(self.model, "adapter_config", None)
        if config is not None and self.args.should_save:  # says how the adapters in the weights are merged
            config.save_pretrained(f"{self.args.output_dir}/checkpoint-{self.state.global_step}")

    # Models in shares ---------------------------------------------------------------------------------------

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the library does, but of a model in shares every process writes its own: nothing is gathered."""
        if not is_sharded(self.model):  # type: ignore[arg-type]
            super().save_model(output_dir, _internal_call)
            return
        folder = Path(output_dir or str(self.args.output_dir))
        save_shares(folder, self.model, {})  # type: ignore[arg-type]
        if self.args.should_save:
            own: Any = self.model
            own.config.save_pretrained(folder)
            torch.save(self.args, folder / "training_args.bin")

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.fsdp:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        from torch.distributed import checkpoint

        checkpoint.save(self._shares(), checkpoint_id=Path(output_dir) / SHARES)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")  # type: ignore[union-attr]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.fsdp:  # else weights come with the optimiser's state, when there is one
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.fsdp or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        from torch.distributed import checkpoint as distributed
        from torch.distributed.checkpoint.state_dict import set_state_dict

        state = self._shares()
        distributed.load(state, checkpoint_id=Path(checkpoint) / SHARES)
        model, optimiser = self.model, self.optimizer.optimizer  # type: ignore[union-attr]
        set_state_dict(model, optimiser, model_state_dict=state["model"], optim_state_dict=state["optimiser"])  # type: ignore[arg-type]
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / "scheduler.pt"))  # type: ignore[union-attr]

    def _shares(self) -> dict[str, Any]:
        """Weights and the optimiser's state, as DTensors of which each process holds its share."""
        from torch.distributed.checkpoint.state_dict import get_state_dict

        model, optimiser = get_state_dict(self.model, self.optimizer.optimizer)  # type: ignore[arg-type, union-attr]
        return {"model": model, "optimiser": optimiser}

    def _defer_fsdp_gradient_reduction(self) -> Any:
        """Every micro-batch's gradients are shared out at once: whole ones would need room."""
        return nullcontext()

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def weights(self) -> dict[str, Tensor]:
        """All weights in full, the averaged ones in place of their latest values where there are any. All
        processes must call it."""
        mean = self.average.whole(self.model)  # type: ignore[arg-type]
        if self.fsdp:
            own: Any = self.model
            found = {name: mean.get(name, value) for name, value in own.state_dict().items()}
            return {n: v.full_tensor() if isinstance(v, DTensor) else v for n, v in found.items()}
        state = self.accelerator.get_state_dict(self.model_wrapped) or {}
        return {name: mean.get(name, value).detach() for name, value in state.items()}


def _arguments(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What the model's `forward` is given of a batch."""
    given = {name: batch[name] for name in ("input_ids", "labels", "layout")}
    return {**given, "return_logits": False, **batch.get("options", {})}


class JsonLines(TrainerCallback):
    """The log as one JSON object a line, and the main figures on the screen, a `line` of an entry and the
    number of steps; on resuming, lines after the checkpoint go."""

    def __init__(self, path: Path, line: Callable[[dict[str, Any], int], str] | None = None) -> None:
        self.path, self.line = path, line or _line

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("".join(json.dumps(entry) + "\n" for entry in state.log_history))

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(state.log_history[-1]) + "\n")
            if "loss" in state.log_history[-1]:
                print(self.line(state.log_history[-1], state.max_steps), flush=True)


def _line(entry: dict[str, Any], steps: int) -> str:
    sides = [value for name, value in entry.items() if name.startswith("loss_image_")]
    shown = {"loss": entry["loss"], "text": entry.get("loss_text"), "action": entry.get("loss_action")}
    shown["image (last map)"] = sides[-1] if sides else None
    words = [f"{name} {value:.3f}" for name, value in shown.items() if value is not None]
    speed = f"{entry['tokens_per_second']:,.0f} tokens/s, MFU {entry['mfu']:.0%}"
    return f"step {entry['step']}/{steps}  {'  '.join(words)}  ({speed})"
