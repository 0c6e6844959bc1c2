"""The published FlexVAR transformer against a golden folder (`python -m unified.checkpoints verify`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints import flexvar_tokenizer
from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.flexvar import FlexVAR, waves
from unified.checkpoints.flexvar import load as load_transformer
from unified.checkpoints.folder import read_config, read_io, read_state
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
    split_maps,
    traced,
    with_parts,
)
from unified.checkpoints.var_verify import is_flexvar
from unified.decoding.guidance import CappedRamp, Constant
from unified.orders.shapes import Shapes, as_shapes


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this transformer."""
    return "var_kwargs" in config and is_flexvar(config)


def load(folder: Path) -> FlexVAR:
    """Transformer and tokenizer of a golden folder. ValueError with a short reason if anything does not
    fit."""
    config = read_config(folder)
    tokenizer = flexvar_tokenizer.load(*read_tokenizer(folder, config))
    return load_transformer(config["var_kwargs"], read_state(folder, config), tokenizer)


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, model, stored = read_config(folder), load(folder), read_io(folder)
    first = waves(model.config.width)[None]
    computed = {"pos_init_slice": first[:, :, ::5, ::7], "pos_init_sum_abs": first.double().abs().sum()}
    computed |= _pooled(model, stored)
    for name, sides in config.get("tf_schedules", {}).items():
        if any(key.startswith(f"tf.{name}.") for key in stored):
            computed |= _forced(model, stored, f"tf.{name}.", as_shapes(sides))
    obstacles, runs = {}, config.get("runs", {})
    for name in run_names(stored):
        run = run_of(runs[name]) if name in runs else None
        obstacles[name] = "a run that config.json does not describe" if run is None else run.obstacle
        if run is not None and not run.obstacle:
            computed |= _generated(model, needed(stored, "gen.label_B"), name, run)
    checks = compare(stored, with_parts(stored, computed, 1), _is_input, _tolerance)
    yield from explained(checks, obstacles)


def _is_input(name: str) -> bool:
    return name in ("label_B", "gen.label_B") or (name.startswith("tf.") and name.endswith(".gt_idx_BL"))


def _tolerance(name: str) -> Tolerance:
    """The measured ones of `flexvar_transformer/README.md`."""
    if name.endswith(".image"):
        return Tolerance(2e-4)
    if name.startswith("pos_") or name.endswith(".x_BLCv_wo_first_l"):
        return Tolerance(2e-5, 1e-5)
    return HIDDEN if ".hidden." in name or ".grad" in name else LOGITS


@torch.no_grad()
def _pooled(model: FlexVAR, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`pos_area.{side}.first{n}ch`: positions [1, side^2, n] of one map."""
    found = {}
    for name in stored:
        match = re.fullmatch(r"pos_area\.(\d+)\.first(\d+)ch", name)
        if match:
            found[name] = model.map_positions((int(match[1]), int(match[1])))[..., : int(match[2])]
    return found


def _forced(model: FlexVAR, stored: Mapping[str, Tensor], prefix: str, shapes: Shapes) -> dict[str, Tensor]:
    """The training pass on the stored codes of one schedule."""
    codes = needed(stored, f"{prefix}gt_idx_BL")
    vectors = model.needed_tokenizer().transformer_inputs(split_maps(codes, shapes), shapes).detach()
    trace = traced(model, needed(stored, "label_B"), codes, vectors, shapes)
    return {
        f"{prefix}x_BLCv_wo_first_l": vectors,
        **{prefix + name: value for name, value in trace.items()},
        **smoothed_losses(stored, prefix, trace["logits"], codes),
    }


def _generated(model: FlexVAR, labels: Tensor, name: str, run: Run) -> dict[str, Tensor]:
    made = perform(model, labels, run)
    return {**outputs(name, made), f"gen.{name}.image": model.image(made.codes, run.shapes)}


def run_of(options: Mapping[str, Any]) -> Run:
    """A run by the options of the published sampler. Without sizes or guidance: ValueError."""
    for name in ("infer_patch_nums", "cfg"):
        if name not in options:
            raise ValueError(f"a run of config.json lacks {name}")
    cfg, largest = float(options["cfg"]), int(options.get("max_pn", 16))
    seed = options.get("g_seed", options.get("seed"))
    return Run(
        shapes=as_shapes(options["infer_patch_nums"]),
        guidance=Constant(cfg) if options.get("used_llamagen_cfg") else CappedRamp(cfg, largest),
        top_k=int(options.get("top_k", 0)),
        top_p=float(options.get("top_p", 0.0)),
        seed=None if seed is None else int(seed),
        forbidden=tuple(options.get("invalid_ids") or ()),
        greedy_beyond=largest,
    )
