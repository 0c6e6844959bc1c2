"""Harmon against a golden folder (`python -m unified.checkpoints verify`): a generation pass and an
understanding pass with gradients, schedules, whole runs. Tolerances are those recommended there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.harmon.network import (
    IMAGE,
    Harmon,
    Prompts,
    images,
    latents,
    load,
    our_names,
    text_loss,
)
from unified.checkpoints.harmon.sampling import Entered, sample
from unified.checkpoints.mar.head_verify import null_half, sections_of
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.checkpoints.recorded_noise import RecordedNoise, of_steps
from unified.checkpoints.transformer_verify import needed
from unified.heads.denoiser import Denoiser
from unified.heads.diffusion import DiffusionDistribution, Term, denoised
from unified.heads.diffusion_schedule import cosine, spaced
from unified.orders.masked_schedule import first_masked, masked_steps
from unified.orders.shapes import Shape
from unified.text_files import content_of

INPUT = re.compile(
    r"(gen|und)\.(vae_mode|input_ids|attention_mask|labels|orders|t|noise)"
    r"|sample\d+\.(input_ids|attention_mask|orders|init_noise|step_noise)"
)
SCHEDULE = re.compile(r"schedule\.(\d+)_(\d+)")
SELECTED = [0, 1, 250, 500, 750, 998, 999]  # steps whose shares of variance are stored
FIRST_BETAS, FIRST_ROWS = 4, 8


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this model."""
    return config.get("case") == "harmon"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    with content_of(folder):
        model = load(read_state(folder, config), config["heads"], config["llm"])
        computed = {
            **_schedules(config, stored),
            **_generation(model, config, stored),
            **_understanding(model, config, stored),
        }
        for number, options in enumerate(config["samp"]):
            computed |= _run(model, config, stored, f"sample{number}", options)
    yield from compare(stored, computed, lambda name: bool(INPUT.fullmatch(name)), tolerance)


def tolerance(name: str) -> Tolerance:
    if name.startswith("diffusion."):
        return Tolerance(1e-7, 1e-5)
    if ".grad." in name:
        return Tolerance(1e-5, 1e-3)
    return Tolerance(2e-3) if name.endswith((".latents", ".output")) else Tolerance(2e-4, 1e-5)


def prompts_of(stored: Mapping[str, Tensor], prefix: str) -> Prompts:
    """The prompts of a pass or run."""
    ids, mask = needed(stored, f"{prefix}.input_ids"), needed(stored, f"{prefix}.attention_mask")
    return Prompts(ids, mask.bool())


def gradients(model: Harmon, stored: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Gradients of the parameters that are stored under `prefix`, by their official names."""
    parameters, found = dict(model.named_parameters()), {}
    for name in stored:
        if name.startswith(prefix):
            parameter = parameters.get(our_names(name.removeprefix(prefix)))
            if parameter is not None and parameter.grad is not None:
                found[name] = parameter.grad.clone()
    return found


def _schedules(config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    whole, kept = cosine(1000), cosine(1000, sections_of(config["steps"]))
    found = {
        "diffusion.gen_timestep_map": kept.steps,
        "diffusion.gen_betas": kept.betas,
        "diffusion.gen_posterior_log_variance_clipped": kept.posterior_log_variance,
        "diffusion.train_alphas_cumprod_sel": whole.kept[SELECTED],
        "diffusion.train_betas_head": whole.betas[:FIRST_BETAS],
    }
    for name in stored:
        if name.startswith("diffusion.map_"):
            found[name] = torch.tensor(spaced(1000, sections_of(name.rsplit("_", 1)[1])))
    for match in filter(None, map(SCHEDULE.fullmatch, stored)):
        made = masked_steps(int(match[1]), int(match[2]))
        found[match[0]] = torch.tensor([step.written for step in made])
    return found


def training_mask(config: Mapping[str, Any], orders: Tensor) -> Tensor:
    """[B, n] bool: what is masked in training, one share for the batch, as the published draws have it: of
    NumPy's generator with the folder's seed the orders, then a uniform number."""
    import numpy as np

    from unified.orders.masked_schedule import training_rate

    generator = np.random.RandomState(config["np_seed"])
    for _ in orders:
        generator.shuffle(np.arange(orders.shape[1]))
    rate = training_rate(torch.tensor(generator.uniform()), config["mask_ratio_min"])
    return first_masked(orders, int((orders.shape[1] * rate).ceil()))


def loss_terms(
    model: Harmon, hidden: Tensor, tokens: Tensor, mask: Tensor, steps: Tensor, noise: Tensor
) -> dict[str, Tensor]:
    """The diffusion loss of masked tokens and its parts, over repetitions of the whole list."""
    repeats = len(steps) // tokens.shape[:2].numel()
    seen, true = (x.flatten(0, 1).repeat(repeats, 1) for x in (hidden, tokens))
    made, weights = (
        denoised(model.mar.diffloss, seen, true, steps, noise),
        mask.flatten().float().repeat(repeats),
    )
    return {
        "mse": made.squared_error,
        "vb": made.bound,
        "net_out_head": made.outputs[:FIRST_ROWS],
        "loss": (made.loss * weights).sum() / weights.sum(),
    }


def _generation(model: Harmon, config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    grid: Shape = tuple(config["gen_shape"])
    tokens = latents(needed(stored, "gen.vae_mode"), config["patch_size"])
    mask = training_mask(config, needed(stored, "gen.orders"))
    encoded = model.encode(tokens, mask, grid)
    merged = model.merged(encoded, model.after(prompts_of(stored, "gen"), model.span(encoded)))
    hidden = model.decode(merged, mask, grid)
    terms = loss_terms(model, hidden, tokens, mask, needed(stored, "gen.t"), needed(stored, "gen.noise"))
    model.zero_grad()
    terms["loss"].backward()
    found = {
        "latents": tokens.unflatten(1, grid),
        "mask": mask.float(),
        "mae_encoder": encoded,
        "x_enc": merged,
        "z": hidden,
        **terms,
    }
    named = {f"gen.{name}": value.detach() for name, value in found.items()}
    return {**named, **gradients(model, stored, "gen.grad.")}


def _understanding(
    model: Harmon, config: Mapping[str, Any], stored: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    grid: Shape = tuple(config["und_shape"])
    tokens = latents(needed(stored, "und.vae_mode"), config["patch_size"])
    none = torch.zeros(tokens.shape[:2], dtype=torch.bool)
    rows = model.understood(tokens, grid)
    given = prompts_of(stored, "und")
    logits = model.logits(Prompts(given.ids, given.mask, rows, IMAGE))
    loss = text_loss(logits, needed(stored, "und.labels"))
    model.zero_grad()
    loss.backward()
    found = {
        "x_enc": model.encode(tokens, none, grid),
        "z_enc": rows,
        "logits": logits * given.mask[..., None],
        "loss": loss,
    }
    named = {f"und.{name}": value.detach() for name, value in found.items()}
    return {**named, **gradients(model, stored, "und.grad.")}


# Runs -------------------------------------------------------------------------------------------------------


def run_noise(
    stored: Mapping[str, Tensor], prefix: str, settings: MaskedDecoding, rows: int, count: int
) -> list[list[Tensor]]:
    """The recorded noise of a run for every step that writes: for each half of its batch (one half without
    guidance) a row [K, C] for each token; both halves have the same start."""
    start, flat = needed(stored, f"{prefix}.init_noise"), needed(stored, f"{prefix}.step_noise")
    kept, channels = len(cosine(1000, settings.sections).steps), start.shape[1]
    repeats, used, first, found = 1 + (settings.scale != 1), 0, 0, []
    for step in masked_steps(count, settings.steps):
        own = rows * step.written
        size = kept * repeats * own * channels
        if len(flat) < used + size or len(start) < first + own:
            raise ValueError(f"{prefix} stores less noise than its steps need")
        drawn = flat[used : used + size].view(kept, repeats, own, channels).flip(0)
        halves = drawn.unbind(dim=1)
        found.append([of_steps(start[first : first + own], half, kept) for half in halves])
        used, first = used + size, first + own
    return [halves for halves in found if len(halves[0])]


def null_values(
    head: Denoiser, settings: MaskedDecoding, step: Entered, chosen: Tensor, halves: list[Tensor]
) -> Tensor:
    """What the published sampler drew for the null half of a step [w, C], which it then throws away."""
    rows, schedule = len(chosen), cosine(1000, settings.sections)
    own, null = (
        DiffusionDistribution(head, schedule, (Term(part[chosen], 1.0, 1.0),))
        for part in (step.hidden[:rows], step.hidden[rows:])
    )
    guided = own.guided(null, step.scale - 1)
    states = list(guided.trajectory(halves[0], settings.temperature))
    return null_half(guided, null, states, halves[1].transpose(0, 1), settings.temperature)[-1]


def run_settings(config: Mapping[str, Any], options: Mapping[str, Any]) -> MaskedDecoding:
    return MaskedDecoding(
        steps=options["num_iter"],
        scale=options["cfg"],
        linear=options["cfg_schedule"] == "linear",
        temperature=options["temperature"],
        sections=sections_of(config["steps"]),
    )


def _run(
    model: Harmon,
    config: Mapping[str, Any],
    stored: Mapping[str, Tensor],
    name: str,
    options: Mapping[str, Any],
) -> dict[str, Tensor]:
    grid: Shape = tuple(options["shape"])
    settings, prompts = run_settings(config, options), prompts_of(stored, name)
    repeats = 1 + (settings.scale != 1)
    rows, count = len(prompts.ids) // repeats, grid[0] * grid[1]
    recorded = run_noise(stored, name, settings, rows, count)
    noise = RecordedNoise([halves[0] for halves in recorded])
    entered: list[Entered] = []
    orders = needed(stored, f"{name}.orders")[:rows]
    tokens = sample(model, prompts, orders, grid, noise, settings, entered.append)
    found = {
        "masks": torch.stack([one.mask.repeat(repeats, 1) for one in entered]).float(),
        "revealed": torch.tensor([one.values.shape[1] for one in entered]),
        "cfg_used": torch.tensor([one.scale for one in entered]),
        "z_first": entered[0].hidden,
        "z_last": entered[-1].hidden,
        "x_enc_last": entered[-1].encoded,
        "latents": torch.cat(_latents(model, settings, entered, recorded)),
        "output": images(tokens, grid, config["patch_size"]),
    }
    return {f"{name}.{what}": value for what, value in found.items()}


@torch.no_grad()
def _latents(
    model: Harmon, settings: MaskedDecoding, entered: list[Entered], recorded: list[list[Tensor]]
) -> list[Tensor]:
    """What each step wrote, and after it what was drawn for the null half."""
    found = []
    for number, (step, halves) in enumerate(zip(entered, recorded, strict=True)):
        found.append(step.values.flatten(0, 1))
        if len(halves) > 1:
            last = number + 1 == len(entered)
            chosen = step.mask if last else step.mask & ~entered[number + 1].mask
            found.append(null_values(model.mar.diffloss, settings, step, chosen, halves))
    return found
