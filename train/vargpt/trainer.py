"""Hugging Face's `Trainer` for VARGPT: bits of drawings with self-correction, objectives of ours, whole
checkpoints."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainingArguments
from unified.train.average import Average
from unified.train.reference import Reference, reference_for
from unified.train.stage_files import saved_whole
from unified.train.trainer import Scalars
from unified.train.vargpt.examples import Rows, collator
from unified.train.vargpt.scoring import scores_of

from unified.checkpoints.infinity_correction import SelfCorrection, example
from unified.checkpoints.vargpt import VARGPT, Forced, Sketch
from unified.checkpoints.vargpt_published import IMAGE_WEIGHT
from unified.objectives import Objective, Progress, Scores
from unified.orders.shapes import Shapes


class VARGPTTrainer(Trainer):
    """Rows are in their order already. Policy and reference are given the same flipped bits. Objectives that
    compare pairs see drawings alone, others text and `image` times the drawings."""

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: VARGPT,
        args: TrainingArguments,
        rows: Rows,
        objective: Objective,
        *,
        pad: int,
        **options: Any,
    ) -> None:
        self.objective: Objective = objective
        self.reference: Reference | None = reference_for(model) if objective.needs_reference else None
        self.weighting = (0.0, 1.0) if objective.needs_pairs else (1.0, IMAGE_WEIGHT)
        self.shapes: Shapes = model.sizes.shapes()
        self.own, self.scalars, self.correction = model, Scalars(), SelfCorrection()
        if args.world_size > 1:
            model.register_forward_hook(touch_all)
        super().__init__(model=model, args=args, train_dataset=rows, data_collator=collator(pad), **options)
        self.model_accepts_loss_kwargs = False

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)  # type: ignore[arg-type]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The objective's loss of a micro-batch."""
        progress = Progress(step=self.state.global_step, steps=self.state.max_steps, seed=self.args.seed)
        batch = self.objective.prepare(inputs, progress)
        sketch, bits = self.sketch(batch)
        arguments = {"ids": batch["ids"], "sketch": sketch, "pictures": batch["pictures"]}
        policy = self.scores(model(**arguments), batch, bits)
        reference = None
        if self.reference is not None:
            with torch.no_grad(), self.accelerator.autocast():
                reference = self.scores(self.reference(model, arguments), batch, bits)
        found = self.objective.loss(policy, reference, batch)
        self.scalars.add({**_means(policy), **found.logs})
        return (found.loss, policy) if return_outputs else found.loss

    def scores(self, forced: Any, batch: Mapping[str, Any], bits: Tensor | None) -> Scores:
        draws = (batch["ids"] == self.own.sizes.ids.pad).any(dim=1)
        return scores_of(forced, batch["labels"], bits, self.shapes, draws=draws, weights=self.weighting)

    @torch.no_grad()
    def sketch(self, batch: Mapping[str, Any]) -> tuple[Sketch | None, Tensor | None]:
        """What is drawn, with bits flipped by (seed, number of the batch's first row), and the bits to be
        learned; None where nothing is."""
        if batch["drawn"] is None:
            return None, None
        tokenizer = self.own.tokenizer.to(batch["drawn"].device)
        with torch.autocast(batch["drawn"].device.type, enabled=False):
            latent = tokenizer.latent(batch["drawn"]).float()
        seed = np.random.default_rng([self.args.seed, zlib.crc32(b"flips"), batch["number"]]).integers(2**62)
        generator = torch.Generator().manual_seed(int(seed))
        grid = self.own.decoder.grid
        flips = self.correction.flips(grid, self.shapes, len(latent), generator)
        made = example(grid, latent, self.shapes, flips)
        return Sketch(vectors=made.vectors, shapes=self.shapes, null=batch["null"]), made.labels

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= self.scalars.report()
        super().log(logs, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        saved_whole(self, partial(super()._save_checkpoint, model, trial), Average(0.0))


def touch_all(model: nn.Module, given: tuple[Any, ...], forced: Forced) -> Forced:
    """A forward hook: zero times all trained parameters becomes part of the logits. Parallel training wants a
    gradient of each in every process, and a batch without a drawing or a picture leaves some out."""
    trained = [p.flatten()[0] for p in model.parameters() if p.requires_grad]
    return replace(forced, text=forced.text + 0 * torch.stack(trained).float().sum())


def _means(policy: Scores) -> dict[str, Tensor]:
    """Mean negative log-likelihood of ids of text and of slots (all their bits); 0 without any."""
    found = {}
    for number, name in enumerate(("loss_text", "loss_slot")):
        inside = policy.targets & (policy.segment == number)
        total = -(policy.log_probs.detach() * inside).sum()
        found[name] = total / inside.sum().clamp(min=1)
    return found
