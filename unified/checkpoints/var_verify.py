"""The published VAR transformer against a golden folder (`python -m unified.checkpoints verify`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints import var_tokenizer
from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.next_scale import finished
from unified.checkpoints.transformer_verify import (
    HIDDEN,
    LOGITS,
    Run,
    explained,
    needed,
    outputs,
    perform,
    read_tokenizer,
    run_names,
    smoothed_losses,
    traced,
    with_parts,
)
from unified.checkpoints.var import VAR, levels
from unified.checkpoints.var import load as load_transformer
from unified.decoding.guidance import Ramp
from unified.decoding.sampling import Sampler
from unified.orders.shapes import Shapes

SEEDED_CFG = 1.5  # guidance of the runs whose name tells none
_PARTS = {
    "cfg": re.compile(r"cfg(\d+(?:[.p]\d+)?)"),
    "top_k": re.compile(r"k(\d+)"),
    "top_p": re.compile(r"p(\d+(?:\.\d+)?)"),
    "seed": re.compile(r"seed(\d+)"),
}


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this transformer."""
    return "var_kwargs" in config and not is_flexvar(config)


def is_flexvar(config: Mapping[str, Any]) -> bool:
    marks = {"runs", "tf_schedules"} & set(config) or "token_dropout_p" in config.get("var_kwargs", {})
    return bool(marks) or "flexvar" in str(config.get("source", "")).lower()


def load(folder: Path) -> VAR:
    """Transformer and tokenizer of a golden folder. ValueError with a short reason if anything does not
    fit."""
    config = read_config(folder)
    tokenizer = var_tokenizer.load(*read_tokenizer(folder, config))
    return load_transformer(config["var_kwargs"], read_state(folder, config), tokenizer)


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    model, stored = load(folder), read_io(folder)
    computed = {"lvl_1L": levels(model.config.shapes)}
    if any(name.startswith(("tf.", "x_BLCv", "attn_allowed")) for name in stored):
        computed |= _forced(model, stored)
    computed |= _filtered(stored)
    obstacles = {}
    for name in run_names(stored):
        run = parse_run(name, model.config.shapes)
        obstacles[name] = "a run of unknown options" if run is None else run.obstacle
        if run is not None and not run.obstacle:
            computed |= _generated(model, needed(stored, "gen.label_B"), name, run)
    checks = compare(stored, with_parts(stored, computed, 1), _is_input, _tolerance)
    yield from explained(checks, obstacles)


def _is_input(name: str) -> bool:
    return name in ("label_B", "gen.label_B", "filter.logits_in") or name.startswith("gt_idx.")


def _tolerance(name: str) -> Tolerance:
    """The measured ones of `var_transformer/README.md`."""
    if "smooth" in name and name.startswith("gen."):
        return Tolerance(5e-2)  # a small temperature amplifies rounding
    if name.endswith(".image"):
        return Tolerance(1e-4)
    if name.startswith("x_BLCv"):
        return Tolerance(1e-5, 1e-4)
    return HIDDEN if name.startswith(("tf.hidden.", "tf.grad")) else LOGITS


def _forced(model: VAR, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The training pass on the stored codes."""
    shapes = model.config.shapes
    codes = [needed(stored, f"gt_idx.{step}") for step in range(len(shapes))]
    vectors = model.needed_tokenizer().transformer_inputs(codes, shapes).detach()
    flat = torch.cat(codes, dim=1)
    trace = traced(model, needed(stored, "label_B"), flat, vectors, shapes)
    return {
        "x_BLCv_wo_first_l": vectors,
        "attn_allowed": trace["attn_allowed"],
        **{f"tf.{name}": value for name, value in trace.items()},
        **smoothed_losses(stored, "tf.", trace["logits"], flat),
    }


def _filtered(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`filter.k{K}_p{P}.kept`: what top-k and top-p leave in."""
    found = {}
    for name in stored:
        match = re.fullmatch(r"filter\.k(\d+)_p(\d+(?:\.\d+)?)\.kept", name)
        if match:
            sampler = Sampler(top_k=int(match[1]), top_p=float(match[2]))
            found[name] = sampler.filter(needed(stored, "filter.logits_in")) > -torch.inf
    return found


def _generated(model: VAR, labels: Tensor, name: str, run: Run) -> dict[str, Tensor]:
    made = perform(model, labels, run)
    total = finished(model, made.vectors, run.shapes)
    latent = {f"gen.{name}.f_hat_last": total, f"gen.{name}.image": model.decode(total)}
    return {**outputs(name, made), **latent}


def parse_run(name: str, shapes: Shapes) -> Run | None:
    """The options that a run's name spells: `cfg1.5` (greedy), `sampled_k8_p0.9_seed7`,
    `smooth_k8_p0.9_seed7`; None if a part of it is unknown."""
    options: dict[str, float] = {}
    words = name.split("_")
    for word in words:
        hits = {key: match for key, pattern in _PARTS.items() if (match := pattern.fullmatch(word))}
        if not hits and word not in ("sampled", "smooth", "greedy"):
            return None
        options |= {key: float(match[1].replace("p", ".")) for key, match in hits.items()}
    seed = options.get("seed")
    return Run(
        shapes=shapes,
        guidance=Ramp(options.get("cfg", SEEDED_CFG)),
        top_k=int(options.get("top_k", 1 if seed is None else 0)),
        top_p=options.get("top_p", 0.0),
        seed=None if seed is None else int(seed),
        more_smooth="smooth" in words,
    )
