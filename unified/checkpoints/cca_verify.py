"""Condition contrastive alignment as its two published trainers compute it, against a golden folder (`python
-m unified.checkpoints verify`): on given logits, and through tiny VAR and LlamaGen transformers.

Tolerances are those recommended in `cca/README.md`. Where a trainer is asked for no null condition it does
not compute the paper's loss: `objective_of` says what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints import llamagen, var
from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.transformer_verify import needed
from unified.objectives import CCA, DPO, CCAConfig, DPOConfig, Objective, Scores
from unified.objectives.cca import equal_samples

BRANCHES = ("var", "llamagen")
NULL_CLASS = 1000  # written into VAR's trainer; also the number of classes for the given logits
INPUTS = ("labels", "ids", "policy_logits", "reference_logits", "var.input")
Run = Callable[[str, Tensor], Tensor]  # ("policy" or "reference", labels [2B]) -> logits [2B, L, V]


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds cases of condition contrastive alignment."""
    return config.get("case") == "cca"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    computed: dict[str, Tensor] = {}
    for branch in BRANCHES:
        for name, case in config.get("cases", {}).items():
            computed |= _given(stored, branch, name, case)
        if f"model.{branch}.loss" in stored:
            computed |= _model(folder, config, stored, branch)
    yield from compare(stored, computed, _is_input, lambda name: _tolerance(name, config, stored))


def _is_input(name: str) -> bool:
    return name in INPUTS or name in ("llamagen.ids", "llamagen.labels")


def _tolerance(name: str, config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> Tolerance:
    prefix, _, last = name.rpartition(".")
    if last in ("policy_logits", "reference_logits"):
        return Tolerance(2e-4)
    if ".grad" in name:
        return Tolerance(1e-6, 1e-3)
    if last.endswith("logps") or last == "margin":
        return Tolerance(1e-3)
    if last != "loss":
        return Tolerance(0.0, 1e-6)
    case = config["model_case"] if prefix.startswith("model.") else config["cases"][prefix.split(".", 2)[2]]
    sums = needed(stored, f"{prefix}.img_logps")
    return Tolerance(_rounding(objective_of(prefix.split(".")[1], case), sums), 1e-5)


def _rounding(objective: Any, sums: Tensor) -> float:
    """What a loss may lose of log-probability sums in float32, which differ by little: a few units in their
    last place, by the factors that the objective has on them."""
    config = objective.config
    factor = 1.0 if getattr(config, "terms", "") == "linear" else config.beta
    factor *= 1.0 if getattr(config, "masked", True) else max(1.0, config.lambda_)
    return 4 * torch.finfo(torch.float32).eps * float(sums.abs().max()) * factor


def objective_of(branch: str, case: Mapping[str, Any]) -> Objective:
    """What a published trainer minimises for these options. ValueError for an unknown or missing one."""
    missing = [name for name in ("loss_type", "beta", "lambda_", "uncond_ratio", "seed") if name not in case]
    if missing:
        raise ValueError(f"a case of config.json lacks {missing[0]}")
    kind, beta, null = case["loss_type"], case["beta"], case["uncond_ratio"] > 0
    if kind == "DPO":
        return DPO(DPOConfig(beta=beta))
    if kind not in ("CCA", "unlearning"):
        raise ValueError(f"unknown loss_type {kind!r}: known are CCA, DPO and unlearning")
    linear = kind == "unlearning" or (branch == "llamagen" and not null)
    terms: Any = "linear" if linear else "logistic"
    return CCA(CCAConfig(beta=beta, lambda_=case["lambda_"], terms=terms, masked=null))


@dataclass(frozen=True, eq=False)
class Conditions:
    """`null` [B] bool; `labels` [2B] of the matched and then of the mismatched rows."""

    null: Tensor
    labels: Tensor

    @staticmethod
    def of(labels: Tensor, null_class: int, stored: Tensor | None) -> Conditions:
        """Of classes [B] and those rolled by one; `stored`: the null mask, none without it."""
        null = torch.zeros(len(labels), dtype=torch.bool) if stored is None else stored.bool()
        rolled = [found.masked_fill(null, null_class) for found in (labels, labels.roll(-1))]
        return Conditions(null, torch.cat(rolled))


def drawn(case: Mapping[str, Any], count: int) -> Tensor:
    """The null mask [B] that a trainer draws from the case's seed."""
    rng = torch.Generator().manual_seed(case["seed"])
    return torch.rand(count, generator=rng) < case["uncond_ratio"]


def _scores(logits: Tensor, codes: Tensor, length: int) -> Scores:
    """Rows 2i matched, 2i + 1 mismatched, from logits [2B, L, V] of matched and then mismatched rows."""
    found = logits.float().log_softmax(dim=-1).gather(-1, codes.repeat(2, 1)[..., None])[..., 0]
    found = torch.nn.functional.pad(found[alternating(len(codes))], (length - codes.shape[1], 0))
    targets = torch.ones_like(found, dtype=torch.bool)
    targets[:, : length - codes.shape[1]] = False
    zeros = torch.zeros_like(targets, dtype=torch.long)
    return Scores(
        log_probs=found,
        targets=targets,
        weights=targets.float(),
        segment_sums=found.sum(dim=1, keepdim=True),
        step_sums=found.sum(dim=1)[:, None, None],
        sample=zeros,
        segment=zeros,
        step=zeros,
    )


def alternating(count: int) -> Tensor:
    """[2 count]: 0, count, 1, count + 1, ..."""
    return torch.arange(2 * count).view(2, count).T.flatten()


def _case(
    branch: str, case: Mapping[str, Any], told: Conditions, codes: Tensor, logits: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """All that is stored of a case, by the last part of its name; the loss keeps its graph."""
    order, count = alternating(len(codes)), len(codes)
    ids = torch.cat([told.labels[:, None], codes.repeat(2, 1)], dim=1)[order]
    policy, reference = (_scores(logits[name], codes, ids.shape[1]) for name in ("policy", "reference"))
    made = objective_of(branch, case).loss(policy, reference, {"input_ids": ids})
    equal = equal_samples(ids, policy.sample, 1)[:, 0]
    sums, of_reference = (found.per_sample()[:, 0] for found in (policy, reference))
    difference = sums - of_reference
    return {
        "loss": made.loss,
        "img_logps": sums[0::2],
        "negative_img_logps": sums[1::2],
        "img_ref_logps": of_reference[0::2],
        "negative_img_ref_logps": of_reference[1::2],
        "null_mask": drawn(case, count),
        "positive_mask": equal,
        "weight": torch.where(equal, 1.0, case["lambda_"]),
        "accuracy": (difference[0::2] > difference[1::2]).float().mean(),
        "margin": (difference[0::2] - difference[1::2]).mean(),
        "model_labels": told.labels,
    }


def _given(
    stored: Mapping[str, Tensor], branch: str, name: str, case: Mapping[str, Any]
) -> dict[str, Tensor]:
    """A case on the logits that the folder gives."""
    prefix = f"given.{branch}.{name}"
    if f"{prefix}.loss" not in stored:
        return {}
    objective_of(branch, case)
    told = Conditions.of(needed(stored, "labels"), NULL_CLASS, stored.get(f"{prefix}.null_mask"))
    policy = needed(stored, "policy_logits").clone().requires_grad_()
    logits = {"policy": policy, "reference": needed(stored, "reference_logits")}
    found = _case(branch, case, told, needed(stored, "ids"), logits)
    found["grad_policy_logits"] = torch.autograd.grad(found["loss"], policy)[0]
    return {f"{prefix}.{key}": value.detach() for key, value in found.items()}


# Through a transformer --------------------------------------------------------------------------------------


def _model(
    folder: Path, config: Mapping[str, Any], stored: Mapping[str, Tensor], branch: str
) -> dict[str, Tensor]:
    """The case of a tiny transformer, with gradients of its parameters."""
    case, prefix = config.get("model_case", {}), f"model.{branch}"
    objective_of(branch, case)
    state = read_state(folder, config)
    models = {name: _load(config, _part(state, f"{branch}.{name}.")) for name in ("policy", "reference")}
    own = "" if branch == "var" else "llamagen."
    codes, labels = needed(stored, f"{own}ids"), needed(stored, f"{own}labels")
    null_class = NULL_CLASS if branch == "var" else models["policy"].config.classes
    told = Conditions.of(labels, null_class, stored.get(f"{prefix}.null_mask"))
    inputs = needed(stored, "var.input") if branch == "var" else codes
    twice = torch.cat([inputs, inputs])
    logits = {"policy": models["policy"](told.labels, twice)}
    with torch.no_grad():
        logits["reference"] = models["reference"](told.labels, twice)
    found = _case(branch, case, told, codes, logits)
    found["loss"].backward()
    gradients = {name: p.grad for name, p in models["policy"].named_parameters() if p.grad is not None}
    found |= {f"grad.{name}": gradient for name, gradient in gradients.items()}
    found["grad_norm_all"] = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    found |= {f"{name}_logits": value for name, value in logits.items()}
    return {f"{prefix}.{key}": value.detach() for key, value in found.items()}


def _load(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Any:
    """The transformer that these weights are of."""
    if "class_emb.weight" not in state:
        options = {"block_size": config.get("grid", 0) ** 2, **config.get("llama_kwargs", {})}
        return llamagen.load(options, state)
    options = {"num_classes": len(state["class_emb.weight"]) - 1, "patch_nums": config.get("patch", [])}
    return var.load({**config.get("var_kwargs", {}), **options}, state)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
