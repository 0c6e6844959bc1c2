"""Self-autoregressive refinement of FlexVAR as its released trainer computes it, against a golden folder
(`python -m unified.checkpoints verify`): both passes, losses and gradients, and the staggered pass over all
maps, which is the paper's figure and no path of the release. Tolerances are those recommended in
`sar/README.md`.

The released second pass has the last map alone in context, behind a class token without its start vector.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.flexvar import FlexVAR, draw_sides
from unified.checkpoints.flexvar import load as load_transformer
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.transformer_verify import needed, split_maps
from unified.decoding.sampling import Sampler
from unified.objectives.self_refinement import refined
from unified.orders.shapes import Shapes, as_shapes
from unified.tokenizers.resize import area, bicubic_tokens
from unified.tokenizers.vq import VQConfig, VQTokenizer

MODES = ("csfl", "tf_then_single_sf", "teacher_forcing")
OPTIONS = (
    "training_mode",
    "schedule",
    "sf_use_sampling",
    "sf_cfg_scale",
    "sf_top_k",
    "sf_top_p",
    "sigma",
    "seed",
)
DERIVED = "derived_all_scales"


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds cases of self-autoregressive refinement."""
    return config.get("case") == "sar"


def load(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> FlexVAR:
    """Transformer and codebook of a golden folder. ValueError if they do not fit."""
    table = needed(state, "quantize.embedding.weight")
    tokenizer = VQTokenizer(VQConfig(codes=table.shape[0], dim=table.shape[1], normalised=True))
    tokenizer.table.load_state_dict({"weight": table})
    own = {k.removeprefix("transformer."): v for k, v in state.items() if k.startswith("transformer.")}
    options = {**config["var_kwargs"], "num_classes": config["num_classes"]}
    return load_transformer({**options, "patch_nums": config["schedule"]}, own, tokenizer.eval())


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    missing = [name for name in ("var_kwargs", "num_classes", "schedule", "cases") if name not in config]
    if missing:
        raise ValueError(f"{folder}: config.json lacks {missing[0]}")
    model = load(config, read_state(folder, config))
    computed: dict[str, Tensor] = {}
    for name, case in config["cases"].items():
        if f"{name}.total_loss" in stored:
            computed |= {f"{name}.{key}": value for key, value in _case(model, stored, case).items()}
    origin = config.get("derived_from")
    if f"{DERIVED}.logits" in stored:
        if f"{origin}.predicted_ids" not in computed:
            raise ValueError(f"config.json names no case to derive all scales from, but {origin!r}")
        schedule, codes = config["cases"][origin]["schedule"], computed[f"{origin}.predicted_ids"]
        computed |= _derived(model, needed(stored, "labels"), codes, as_shapes(schedule))
    if "schedules" in stored:
        seed = config.get("schedules_python_random_seed", 0)
        computed["schedules"] = schedules(seed, *stored["schedules"].shape)
    yield from compare(stored, computed, lambda name: name in ("latent", "labels"), _tolerance)


def _tolerance(name: str) -> Tolerance:
    if ".grad" in name:
        return Tolerance(1e-5, 1e-3)
    if name.endswith("loss") or "ce_per_scale" in name:
        return Tolerance(0.0, 1e-5)
    return Tolerance(2e-4 if name.endswith("logits") else 2e-5)


def schedules(seed: int, count: int, width: int) -> Tensor:
    """[count, width]: sides drawn one after another, filled up with zeros."""
    rng, found = random.Random(seed), torch.zeros(count, width, dtype=torch.long)
    for row in found:
        sides = draw_sides(rng, keep_finest=False)[:width]
        row[: len(sides)] = torch.tensor(sides)
    return found


# Both passes ------------------------------------------------------------------------------------------------


def _case(model: FlexVAR, stored: Mapping[str, Tensor], case: Mapping[str, Any]) -> dict[str, Tensor]:
    """All that is stored of a case. ValueError for a missing option or an unknown mode."""
    missing = [name for name in OPTIONS if name not in case]
    if missing or case["training_mode"] not in MODES:
        wrong = (
            f"lacks {missing[0]}" if missing else f"has an unknown training_mode {case['training_mode']!r}"
        )
        raise ValueError(f"a case of config.json {wrong}")
    tokenizer, shapes = model.needed_tokenizer(), as_shapes(case["schedule"])
    labels, latent = needed(stored, "labels"), needed(stored, "latent")
    if len(shapes) < 2:
        raise ValueError(f"a schedule needs two maps at least, got {case['schedule']}")
    with torch.no_grad():
        maps = [tokenizer.quantise(area(latent, shape)).ids for shape in shapes]
        fed = tokenizer.transformer_inputs(maps, shapes)
    codes = torch.cat(maps, dim=1)
    model.zero_grad()
    guided = case["sf_use_sampling"] and case["sf_cfg_scale"] > 1
    twice = [labels, torch.full_like(labels, model.null_label)]
    logits = model(torch.cat(twice), fed.repeat(2, 1, 1), shapes) if guided else model(labels, fed, shapes)
    teacher = _entropy(logits[: len(labels)], codes)
    found = {"gt_ids": codes, "tf_input": fed, "tf_logits": logits, "tf_loss": teacher}
    total = teacher
    if case["training_mode"] != "teacher_forcing":
        with torch.no_grad():
            predicted = _predictions(case, logits, len(labels), shapes)
        last = split_maps(predicted, shapes)[-2:]
        inputs = bicubic_tokens(model.vectors(last[0]), shapes[-2], shapes[-1]).detach()
        student = student_logits(model, labels, inputs, shapes[-1:])
        wanted = last[1] if case["training_mode"] == "csfl" else maps[-1]
        loss = _entropy(student, wanted)
        total = refined(teacher, loss, case["sigma"])
        found |= {"predicted_ids": predicted, "sf_input": inputs, "sf_logits": student, "sf_loss": loss}
    total.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    found |= {f"grad.{name}": gradient for name, gradient in gradients.items()}
    found["grad_norm_all"] = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    return {name: value.detach() for name, value in {**found, "total_loss": total}.items()}


def _entropy(logits: Tensor, codes: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), codes.flatten())


def _predictions(case: Mapping[str, Any], logits: Tensor, rows: int, shapes: Shapes) -> Tensor:
    """[rows, L] of logits [rows or 2 rows, L, V]: the likeliest codes, or guided samples."""
    if not case["sf_use_sampling"]:
        return logits[:rows].argmax(dim=-1)
    rng = torch.Generator().manual_seed(case["seed"])
    sampler = Sampler(top_k=case["sf_top_k"], top_p=case["sf_top_p"])
    found = []
    for number, part in enumerate(split_maps(logits, shapes)):
        weight = case["sf_cfg_scale"] / 2 * (1 + number / (len(shapes) - 1))
        own = part[:rows]
        if len(part) > rows:
            own = (1 + weight) * own - weight * part[rows:]
        law = sampler.probabilities(own).flatten(0, 1)
        found.append(torch.multinomial(law, 1, replacement=True, generator=rng).view(rows, -1))
    return torch.cat(found, dim=1)


def student_logits(model: FlexVAR, labels: Tensor, vectors: Tensor, shape: Shapes) -> Tensor:
    """The released second pass: logits [B, n, V] of one map from its inputs [B, n, C] and the class."""
    condition = model.condition(labels)
    inputs = torch.cat([condition.start, model.later_inputs(vectors)], dim=1)
    return model.predict(inputs, condition, ((1, 1), *shape))[:, 1:]


@torch.no_grad()
def _derived(model: FlexVAR, labels: Tensor, codes: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Every map fed the predictions of the one before it."""
    maps = split_maps(codes, shapes)
    fed = model.needed_tokenizer().transformer_inputs(maps, shapes)
    logits = model(labels, fed, shapes)
    pairs = zip(split_maps(logits, shapes), maps, strict=True)
    losses = torch.stack([_entropy(part, own) for part, own in pairs])
    return {f"{DERIVED}.input": fed, f"{DERIVED}.logits": logits, f"{DERIVED}.ce_per_scale": losses}
