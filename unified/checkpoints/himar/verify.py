"""Hi-MAR against a golden folder (`python -m unified.checkpoints verify`): schedules, one training pass,
whole runs. Tolerances are those recommended there, relative to the largest value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.himar.network import DENSE, PIVOTS, HiMAR, load
from unified.checkpoints.himar.sampling import Entered, TwoPhaseDecoding, pivot_steps, sample
from unified.checkpoints.himar.training import Draws, Masks, hand_over_share, losses
from unified.checkpoints.mar.head_verify import relative, schedule_tables, sections_of
from unified.checkpoints.mar.network import to_images, to_tokens
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.checkpoints.recorded_noise import RecordedNoise, of_steps
from unified.checkpoints.trace import Trace
from unified.checkpoints.transformer_verify import needed
from unified.heads.diffusion import denoised
from unified.heads.diffusion_schedule import cosine
from unified.orders.masked_schedule import first_masked, shuffled_orders, training_rate
from unified.text_files import content_of

INPUTS = (
    *(f"train.{name}" for name in ("imgs", "pivots", "labels", "orders", "class_drop1", "class_drop2")),
    *(f"train.{name}" for name in ("placeholder_u", "dense_r", "pivot.t", "pivot.eps", "dense.t")),
    *("train.dense.eps", "schedule.u", "schedule.dense_r", "sample.labels", "sample.orders"),
    *(f"sample.{name}" for name in ("pivot.noise0", "pivot.noise", "dense.noise0", "dense.noise")),
)
CASE = re.compile(r"sample\.(\w+)\.latent")
ENCODED, CONDITIONS, IN_BLOCK, OF_PIVOT_PASS, ON_MAP = 8, 4, 16, 32, 4  # every so many rows are stored


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this model."""
    return config.get("case") == "himar"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    with content_of(folder):
        model = load(read_state(folder, config), config["heads"], config["dense_heads"])
        computed = {**_schedules(model, config, stored), **_training(model, config, stored)}
        for match in filter(None, map(CASE.fullmatch, stored)):
            computed |= _run(model, config, stored, match[1])
    yield from compare(stored, computed, INPUTS.__contains__, relative(stored))


def dense_rate(uniform: Tensor) -> Tensor:
    """Shares of masked tokens of the dense grid for uniform numbers in [0, 1)."""
    return torch.cos(torch.pi / 2 * uniform)


def _schedules(model: HiMAR, config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    parts = model.config.pivots, model.config.tokens
    orders, rates = needed(stored, "schedule.numpy_orders"), training_rate(needed(stored, "schedule.u"))
    of_dense = dense_rate(needed(stored, "schedule.dense_r"))
    found = {
        "numpy_orders": shuffled_orders(len(orders), parts, config["seed"]),
        "pivot_rate": rates,
        "pivot_count": (parts[0] * rates).ceil().long(),
        "dense_rate": of_dense,
        "dense_count": (parts[1] * of_dense).ceil().long(),
    }
    for name in ("pivot", "dense"):
        tables = schedule_tables(cosine(1000, sections_of(config[f"{name}_respacing"])))
        found |= {f"{name}.gen.{what}": value for what, value in tables.items()}
    return {f"schedule.{name}": value for name, value in found.items()}


# Training pass ----------------------------------------------------------------------------------------------


def _training(model: HiMAR, config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    given = {
        name.removeprefix("train."): needed(stored, name) for name in INPUTS if name.startswith("train.")
    }
    pivots, tokens = to_tokens(given["pivots"], 1), to_tokens(given["imgs"], 1)
    masks = _masks(model, config, given)
    told = tuple(
        model.classes(given["labels"], len(tokens), given[f"class_drop{phase}"] < config["label_drop"])
        for phase in (1, 2)
    )
    dense_noise = given["dense.eps"].flatten(2).transpose(1, 2)
    draws = Draws(given["pivot.t"], given["pivot.eps"], given["dense.t"], dense_noise)
    layers = {
        "enc_block0": model.encoder_blocks[0],
        "enc": model.encoder_norm,
        "dense_head": model.cond_diffloss,
        "dense_block0": model.cond_diffloss.blocks[0],
    }
    model.zero_grad()
    with Trace(layers, first=True) as first, Trace(layers) as last:
        made = losses(model, pivots, tokens, masks, told, draws)  # type: ignore[arg-type]
    made.total.backward()
    count, side = model.config.pivots, given["imgs"].shape[2]
    states = made.pivot_states[:, :count]
    repeats = len(draws.pivot_steps) // states.shape[:2].numel()
    seen, true = (x.flatten(0, 1).repeat(repeats, 1) for x in (states, pivots))
    of_head = denoised(model.diffloss, seen, true, draws.pivot_steps, draws.pivot_noise)
    found = {
        "pivot_mask": masks.pivots,
        "dense_mask": masks.dense,
        "pivot.enc": first.found["enc"],
        "pivot.enc_block0": first.found["enc_block0"],
        "pivot.z": states,
        "pivot.dense_rows_of_decoder": made.pivot_states[:, count::OF_PIVOT_PASS],
        "pivot.net": of_head.outputs,
        "pivot.mse": of_head.squared_error,
        "pivot.vb": of_head.bound,
        "pivot.loss_per_token": of_head.loss,
        "dense.enc": last.found["enc"][:, ::ENCODED],
        "dense.z": made.dense_states[:, ::CONDITIONS],
        "dense.net": to_images(last.found["dense_head"], side, 1),
        "dense.block0": last.found["dense_block0"][:, ::IN_BLOCK],
        "dense.loss_per_image": made.per_image,
        "loss1": made.pivots,
        "loss2": made.dense,
        "total": made.total,
        **_gradients(model),
    }
    return {f"train.{name}": value.detach() for name, value in found.items()}


def _masks(model: HiMAR, config: Mapping[str, Any], given: Mapping[str, Tensor]) -> Masks:
    count, tokens, orders = model.config.pivots, model.config.tokens, given["orders"]
    of_pivots = math.ceil(count * config["pivot_rate"])
    of_dense = int((tokens * dense_rate(given["dense_r"])).ceil())
    share = hand_over_share(config["stage2_rate"], config["epoch"])
    return Masks(
        first_masked(orders[:, :count], of_pivots),
        first_masked(orders[:, count:] - count, of_dense),
        given["placeholder_u"] <= 1 - share,
    )


def _gradients(model: HiMAR) -> dict[str, Tensor]:
    first: Any = model.encoder_blocks[0]
    weights = {
        "z_proj": model.z_proj.weight,
        "cond_tokens": model.cond_tokens,
        "cond_z_proj": model.cond_z_proj.weight,
        "pivot_final": model.diffloss.outputs.weight,
        "dense_c_embedder": model.cond_diffloss.c_embedder["proj"].weight,
        "task_emb": model.encoder_task_emb.weight,
        "adaLN_scale": first.adaLN_scale,
    }
    found = {f"grad_{name}": weight.grad for name, weight in weights.items() if weight.grad is not None}
    return {**found, "grad_adaLN_scale": found["grad_adaLN_scale"].flatten(1)}  # type: ignore[dict-item]


# Runs -------------------------------------------------------------------------------------------------------


def _run(
    model: HiMAR, config: Mapping[str, Any], stored: Mapping[str, Tensor], case: str
) -> dict[str, Tensor]:
    settings = _settings(model, config, case)
    entered: list[Entered] = []
    noise = RecordedNoise(_recorded(model, stored, settings))
    labels, orders = needed(stored, "sample.labels"), needed(stored, "sample.orders")
    made = sample(model, labels, orders, noise, settings, entered.append)
    pivots, dense = ([one for one in entered if one.phase == phase] for phase in (PIVOTS, DENSE))
    side, small = (round(count**0.5) for count in (model.config.tokens, model.config.pivots))

    def on_map(one: Entered) -> Tensor:
        return to_images(one.hidden, side, 1)[..., ::ON_MAP, ::ON_MAP]

    found = {
        "pivots": to_images(made.pivots, small, 1),
        "latent": to_images(made.tokens, side, 1),
        "pivot_weights": torch.tensor([one.scale for one in pivots], dtype=torch.float64),
        "dense_weights": torch.tensor([one.scale for one in dense], dtype=torch.float64),
        "dense_z_first": on_map(dense[0]),
        "dense_z_last": on_map(dense[-1]),
        "tokens_before_last": to_images(dense[-1].tokens, side, 1),
    }
    found = {f"sample.{case}.{name}": value for name, value in found.items()}
    for name, each in (("pivot", pivots), ("dense", dense)):
        masks = torch.stack([one.mask for one in each])
        found |= {f"sample.{name}_masks": masks, f"sample.{name}_masked_count": masks[:, 0].sum(dim=1)}
    if case == "both_cfg":
        found["sample.pivot_z_step0"] = pivots[0].hidden
    return found


def _settings(model: HiMAR, config: Mapping[str, Any], case: str) -> TwoPhaseDecoding:
    linear, temperature = case != "constant", config["temperature"] if case == "both_cfg" else 1.0
    pivots = MaskedDecoding(
        steps=pivot_steps(model.config.pivots),
        scale=1.0 if case == "nocfg" else config["re_cfg"],
        linear=linear,
        temperature=temperature,
        sections=sections_of(config["pivot_respacing"]),
    )
    dense = MaskedDecoding(
        steps=config["num_iter"],
        scale=1.0 if case in ("nocfg", "pivot_cfg_only") else config["cfg"],
        linear=linear,
        temperature=temperature,
        sections=sections_of(config["dense_respacing"]),
    )
    return TwoPhaseDecoding(pivots=pivots, dense=dense)


def _tokens(noise: Tensor) -> Tensor:
    """[..., T, C, h, w] -> [..., T h w, C]: rows of tokens."""
    return noise.flatten(-2).transpose(-1, -2).flatten(-3, -2)


def _recorded(model: HiMAR, stored: Mapping[str, Tensor], settings: TwoPhaseDecoding) -> list[Tensor]:
    """Noise of the pivots, then of the grid's steps, one row [K, C] for each token."""
    counts = [len(cosine(1000, part.sections).steps) for part in (settings.pivots, settings.dense)]
    names = (f"sample.{part}.{what}" for part in ("pivot", "dense") for what in ("noise0", "noise"))
    pivot_start, pivot_steps_, start, steps = (needed(stored, name) for name in names)
    grids = [
        of_steps(_tokens(first), _tokens(later), counts[1]) for first, later in zip(start, steps, strict=True)
    ]
    return [of_steps(pivot_start, pivot_steps_, counts[0]), *grids]
