"""Preference tuning of streams by TRL's `DPOTrainer`.

TRL's loss types, metrics, reference handling, PEFT and precomputation run as they are; what they are given
are log-probabilities of this model (`scoring.py`), weighted by the parts of a reply (`weighting.py`), of
text, drawn images, edits, sketch traces, frames and actions alike. The reference is a full copy, the policy
with its adapters off, or precomputed: then as the vector of sums by column, so that weights may change.

A head without a likelihood is scored by paired noise (`paired.py`).

DPO: Rafailov et al., arXiv 2305.18290; on the codes of images: VARGPT-v1.1, arXiv 2504.02949.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import GenerationConfig, Trainer
from trl import DPOConfig, DPOTrainer
from unified.train.preference.collator import PairCollator, check_length, width_of
from unified.train.preference.paired import check_arguments, pair_noise
from unified.train.preference.scoring import install
from unified.train.preference.tokenizer import control_tokenizer
from unified.train.preference.weighting import Weighting, by_column, check_losses, name_of

from unified.finite import check_number
from unified.model import UnifiedModel
from unified.stream.vocabulary import Vocabulary

COLUMNS = ["prompt_ids", "chosen_ids", "rejected_ids"]


@dataclass
class PreferenceConfig(DPOConfig):
    """TRL's configuration, and: `weights`, `decay`: see `Weighting`. `sft`: weight of the mean negative
    log-likelihood of a target of the chosen replies (nats), added to the loss. Rows are not cut unless
    `max_length` is given."""

    weights: str = field(default="token", metadata={"help": "token, mean, map or coarse_first"})
    decay: float = field(default=0.5, metadata={"help": "weight of a map by that before, for coarse_first"})
    sft: float = field(default=0.0, metadata={"help": "weight of the likelihood of chosen replies"})
    max_length: int | None = field(default=None, metadata={"help": "longest row of ids; None: as they are"})
    gradient_checkpointing: bool = field(default=False, metadata={"help": "compute activations twice"})

    def __post_init__(self) -> None:
        super().__post_init__()
        Weighting(scheme=self.weights, decay=self.decay)
        check_number("beta", self.beta)
        check_number("sft", self.sft, least=0)
        check_losses([self.loss_type] if isinstance(self.loss_type, str) else self.loss_type, self.weights)
        if self.use_weighting and self.weights != "token":
            raise ValueError("use_weighting (WPO) compares log-probabilities: it needs weights='token'")
        if self.ld_alpha is not None and self.precompute_ref_log_probs:
            raise ValueError(
                "ld_alpha weighs targets by their place in a reply, a precomputed reference keeps "
                "sums by column: use a copy or adapters as the reference"
            )
        if self.truncation_mode != "keep_start":
            raise ValueError("truncation_mode must be 'keep_start': a stream starts with <|begin|>")


class PreferenceTrainer(DPOTrainer):
    """`model`: a `UnifiedModel`, or a `PeftModel` around one. `train_dataset`, `eval_dataset`: what
    `read_pairs` gives, with the columns `prompt_ids`, `chosen_ids`, `rejected_ids`: the ids of a prompt with
    the assistant's turn opened, and of two replies. `ref_model`: by default a copy of the model as it is now,
    none with adapters or `precompute_ref_log_probs`. `options` go to TRL's trainer (`peft_config`,
    `callbacks`, `optimizers`). ValueError names a row that cannot be learned from, before anything runs.

    Besides TRL's, the log has `logps/COLUMN/chosen` and `logps/COLUMN/rejected`, the mean sums of
    log-probabilities (without weights) of text, actions and each map, and `sft_loss`."""

    def __init__(
        self,
        model: Any,
        ref_model: Any = None,
        args: PreferenceConfig | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | None = None,
        **options: Any,
    ) -> None:
        base = unwrapped(model)
        args = args or PreferenceConfig(output_dir="preference")
        self.vocabulary: Vocabulary = base.vocabulary
        self.weighting = Weighting(scheme=args.weights, decay=args.decay)
        check_arguments(base, args)
        self.scored: list[Tensor] = []  # log-probabilities [2B, T] of the passes of a step, the policy first
        self.installed = False
        self.longest, self.sft = args.max_length, args.sft
        datasets = [d for d in (train_dataset, eval_dataset) if d is not None]
        self.width = max((self._width(dataset) for dataset in datasets), default=0)
        adapters = isinstance(model, PeftModel) or options.get("peft_config") is not None
        if ref_model is None and not adapters and not args.precompute_ref_log_probs:
            ref_model = copy.deepcopy(model)
        if ref_model is not None:
            ref_model.requires_grad_(False)
        for part in (base, *([] if ref_model is None else [unwrapped(ref_model)])):
            part.generation_config = getattr(part, "generation_config", None) or GenerationConfig()
        collator = PairCollator(
            self.vocabulary,
            self.weighting,
            width=self.width,
            everywhere=args.world_size > 1,
            max_length=args.max_length,
        )
        super().__init__(
            model,
            ref_model=ref_model,
            args=args,
            data_collator=collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=control_tokenizer(self.vocabulary),
            **options,
        )
        self._install()

    def _install(self) -> None:
        """Put our branch in the place of TRL's, in the policy and in the reference."""
        if self.installed:
            return
        self.installed = True
        install(unwrapped(self.model), self.scored.append)
        if self.ref_model is not None:
            reference = unwrapped(self.accelerator.unwrap_model(self.ref_model))
            install(reference, self.scored.append, self.accelerator.autocast)

    # Data ---------------------------------------------------------------------------------------------------

    def _width(self, dataset: Dataset) -> int:
        """Columns that a dataset's replies need. ValueError for a table that holds no pairs of ids."""
        missing = [name for name in COLUMNS if name not in dataset.column_names]
        if missing:
            raise ValueError(f"the pairs have no column {missing[0]!r}: make them with read_pairs")
        rows = [
            [*row["prompt_ids"], *row[side]] for row in dataset for side in ("chosen_ids", "rejected_ids")
        ]
        return width_of(rows, self.vocabulary)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """Rows are ids already; their lengths are checked."""
        for number, row in enumerate(dataset):
            for side in ("chosen_ids", "rejected_ids"):
                ids, prompt = [*row["prompt_ids"], *row[side]], len(row["prompt_ids"])
                check_length(ids, prompt, self.vocabulary, self.longest, f"pair {number}")
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        return EpochOrder(len(dataset), self.args.seed)

    # Scores -------------------------------------------------------------------------------------------------

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        self._install()  # TRL asks for it before its constructor ends
        return super()._precompute_ref_logps(dataset, name, batch_size)

    def compute_ref_log_probs(self, model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The reference's sums by column of the chosen and of the rejected replies, each [B, C]."""
        self.scored.clear()
        super().compute_ref_log_probs(model, inputs)
        sums = by_column(self.scored[-1], inputs["columns"], self.width)
        self.scored.clear()
        chosen, rejected = sums.chunk(2)
        return chosen, rejected

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool) -> Any:
        """TRL's loss of weighted log-probabilities, and the likelihood of chosen replies."""
        self.scored.clear()
        policy = unwrapped(self.accelerator.unwrap_model(model))
        noise = pair_noise(policy, inputs, fresh=policy.training)
        given = inputs if noise is None else {**inputs, "bound_noise": noise}
        found = super()._compute_loss(model, given, return_outputs)
        loss, outputs = found if return_outputs else (found, None)
        log_probs = self.scored[0]
        self.scored.clear()
        self._log_columns(log_probs.detach(), inputs)
        if self.sft:
            counts = inputs["completion_mask"].sum(dim=1).clamp(min=1)
            chosen, _ = (-log_probs.sum(dim=1) / counts).chunk(2)
            self._note("sft_loss", self.accelerator.gather(chosen.detach()).mean().item())
            loss = loss + self.sft * chosen.mean()
        return (loss, outputs) if return_outputs else loss

    def _log_columns(self, log_probs: Tensor, inputs: dict[str, Any]) -> None:
        sums = by_column(log_probs, inputs["columns"], self.width)
        counts = by_column(inputs["completion_mask"].float(), inputs["columns"], self.width)
        table = torch.stack([sums, (counts > 0).float()], dim=1)  # [2B, 2, C]
        for side, part in zip(("chosen", "rejected"), table.chunk(2), strict=True):
            totals, rows = self.accelerator.gather(part.sum(dim=0)[None]).sum(dim=0).tolist()
            for column, (total, count) in enumerate(zip(totals, rows, strict=True)):
                if count:
                    self._note(f"logps/{name_of(column)}/{side}", total / count)

    def _note(self, name: str, value: float) -> None:
        policy: Any = self.model
        self._metrics["train" if policy.training else "eval"][name].append(value)

    # Checkpoints --------------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Without TRL's model card, which tells how to load another kind of model."""
        Trainer._save_checkpoint(self, model, trial)


class EpochOrder(Sampler):
    """All numbers below `count` in an order that depends on (seed, epoch) alone, so that a resumed run sees
    what it would have seen."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        order: Sequence[int] = np.random.default_rng([self.seed, self.epoch]).permutation(self.count).tolist()
        return iter(order)


def unwrapped(model: Any) -> UnifiedModel:
    """The `UnifiedModel` itself. ValueError if there is none."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(base, UnifiedModel):
        raise ValueError(f"this trainer scores streams: it takes a UnifiedModel, got {type(base).__name__}")
    return base
