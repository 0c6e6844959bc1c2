"""Golden folders of ARBooth (`arbooth`): which parameters are trained, both losses with their gradients, and
the frozen model's rollout with the weights of Infinity's folder beside this one. Tolerances are those
recommended there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints import infinity_verify
from unified.checkpoints.arbooth.losses import PriorLoss, SubjectLoss, held_to, rollout
from unified.checkpoints.arbooth.tuning import SUBJECT, selected
from unified.checkpoints.check import Check, not_compared
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io
from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_published import load as load_transformer
from unified.checkpoints.published import without_buffers
from unified.checkpoints.state_dict import read_weights
from unified.checkpoints.transformer_verify import needed
from unified.orders.shapes import Shapes, as_shapes

GIVEN = ("logits", "labels", "student_reg", "teacher")
SELECTIONS = {"selected_default": ("ca", "ffn"), "selected_sa_only": ("sa",)}
TYPES = ("soft", "hard")


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds losses and a rollout of ARBooth."""
    return config.get("case") == "arbooth"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor, and one per list of parameters
    of config.json. ValueError for an unusable folder."""
    config, stored = read_config(folder), read_io(folder)
    runs, beside = config.get("runs"), Path(folder).parent / str(config.get("infinity_weights"))
    if not isinstance(runs, dict):
        raise ValueError("config.json has no object 'runs'")
    computed: dict[str, Tensor] = {}
    for name, options in runs.items():
        computed |= _losses(name, options, stored)
    if beside.is_dir():
        computed |= _rollout(folder, beside, stored)
    reason = "" if beside.is_dir() else f"needs the folder {beside.name} beside this one"
    for check in compare(stored, computed, _is_input, _tolerance):
        hindered = reason and check.name.startswith("rollout.") and not _is_input(check.name)
        yield not_compared(check.name, reason) if hindered else check
    yield from _selections(config, beside, reason)


def _is_input(name: str) -> bool:
    return name.split(".")[-1] in GIVEN or name in ("rollout.text", "rollout.text_lens")


def _tolerance(name: str) -> Tolerance:
    if name.startswith("rollout."):
        return Tolerance(2e-4)
    return Tolerance(1e-6 if name.endswith("_head") else 1e-5)


# What is trained --------------------------------------------------------------------------------------------


def _selections(config: Mapping[str, Any], beside: Path, reason: str) -> Iterator[Check]:
    """The published lists of names against what is selected of the weights' names."""
    listed = [name for name in (*SELECTIONS, "all_parameters", "n_all_layer") if name in config]
    if reason:
        yield from (not_compared(name, reason) for name in listed)
        return
    state = without_buffers(
        infinity_verify.below(read_weights(beside / "weights.safetensors"), "transformer.")
    )
    names = list(state)
    for name in listed:
        if name == "n_all_layer":
            found, want = 1 + len(selected(names, ("sa", "ca", "ffn"))), config[name]
            yield Check(name, found == want, f"{found} parameters, expected {want}")
            continue
        chosen = selected(names, SELECTIONS[name]) if name in SELECTIONS else names
        wrong = {SUBJECT, *chosen} ^ set(config[name])
        yield Check(name, not wrong, f"{len(wrong)} of {len(config[name])} names differ (exact)")


# Losses -----------------------------------------------------------------------------------------------------


def _losses(name: str, options: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Both losses of a run and their gradients by the logits."""
    if "schedule" not in options:
        raise ValueError(f"the run {name} lacks schedule")
    if options.get("type", "soft") not in TYPES:
        raise ValueError(f"the type of a prior must be one of {', '.join(TYPES)}, got {options['type']!r}")
    logits, bits, student, teacher = (needed(stored, f"{name}.{given}") for given in GIVEN)
    shapes = as_shapes([sides[1:] for sides in options["schedule"]])
    logits, student = (x.unflatten(-1, (-1, 2)).requires_grad_() for x in (logits, student))
    subject, prior = of_run(options)
    losses = [subject(logits, bits.long(), shapes)]
    gradient = torch.autograd.grad(losses[0], logits)[0].flatten(-2)
    areas = [height * width for height, width in shapes]
    found = {
        "grad_subject_head": gradient,
        "grad_subject_abs_per_scale": torch.stack(
            [part.abs().sum() for part in gradient.split(areas, dim=1)]
        ),
    }
    if options.get("reg", 1):
        losses.append(prior(student, teacher.unflatten(-1, (-1, 2))))
        found["grad_prior_head"] = torch.autograd.grad(losses[1], student)[0].flatten(-2)
    else:
        losses.append(torch.zeros(()))
    found["losses"] = torch.stack([loss.detach() for loss in losses])
    heads = {
        key: value for key, value in stored.items() if key.startswith(f"{name}.") and key.endswith("_head")
    }
    found = {f"{name}.{key}": value for key, value in found.items()}
    return found | {key: found[key][:, : value.shape[1]] for key, value in heads.items() if key in found}


def of_run(options: Mapping[str, Any]) -> tuple[SubjectLoss, PriorLoss]:
    """The losses of a run's options; what is not there is as released."""
    smoothing = options.get("ls", 0.0)
    subject = SubjectLoss(
        rest=0.5 if options.get("swt", 1) else 1.0,
        total=options.get("bitloss", "mean") == "sum",
        smoothing=smoothing,
    )
    prior = PriorLoss(
        weight=options.get("lam", 0.5),
        temperature=options.get("temp", 1.0),
        hard=options.get("type", "soft") == "hard",
        smoothing=smoothing,
    )
    return subject, prior


# Rollout ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def _rollout(folder: Path, beside: Path, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the frozen model draws, and both models in one pass over it."""
    config, shapes = read_config(beside), _shapes(beside)
    state = infinity_verify.below(read_weights(beside / "weights.safetensors"), "transformer.")
    tuned = {**state, **read_weights(Path(folder) / "weights.safetensors")}
    tuned.pop(SUBJECT, None)
    teacher, student = (_load(config, weights) for weights in (state, tuned))
    texts = needed(stored, "rollout.text").split(needed(stored, "rollout.text_lens").tolist())
    drawn = rollout(teacher, texts, shapes)
    found = {
        "x_in": drawn.inputs,
        "cond_BD": teacher.text(texts)[0],
        "teacher_logits": drawn.logits.flatten(-2),
        "student_logits": held_to(student, teacher, texts, drawn, shapes).flatten(-2),
        "teacher_forced_logits": held_to(teacher, teacher, texts, drawn, shapes).flatten(-2),
    }
    return {f"rollout.{name}": value for name, value in found.items()}


def _load(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Infinity:
    """Infinity with the level embedded before every chunk of blocks."""
    if not isinstance(config.get("transformer"), dict):
        raise ValueError("the config.json of Infinity has no object 'transformer'")
    options = {**config["transformer"], "add_lvl_embeding_only_first_block": 0}
    return load_transformer(options, state, infinity_verify.of_vae(config)["codebook_dim"])


def _shapes(beside: Path) -> Shapes:
    return as_shapes(needed(read_io(beside), "scale_schedule")[:, 1:].tolist())
