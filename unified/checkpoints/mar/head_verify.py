"""The diffusion head of MAR against a golden folder (`python -m unified.checkpoints verify`): schedules,
network, loss and samples. Tolerances are those recommended there, relative to the largest value of a
tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.mar.head import load_head
from unified.checkpoints.recorded_noise import of_steps
from unified.checkpoints.transformer_verify import needed
from unified.heads.denoiser import Denoiser, waves
from unified.heads.diffusion import DiffusionDistribution, Term, denoised
from unified.heads.diffusion_schedule import DiffusionSchedule, cosine, spaced, strided
from unified.text_files import content_of

EVERY = 37  # steps of the full schedule that are stored
INPUTS = (
    *(f"train.{name}" for name in ("x0", "z", "eps", "t", "mask")),
    *(f"sample.{name}" for name in ("z", "z_uncond", "noise0", "noise", "noise_uncond_half")),
)
CASES = ("plain", "temp", "cfg", "full_plain", "full_cfg")


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this head."""
    return config.get("case") == "mar_head"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    with content_of(folder):
        head = load_head(read_state(folder, config), "net.")
        sections = sections_of(config["respacing"])
        computed = {**_schedules(config, stored, sections), **_training(head, stored)}
        for case in CASES:
            if f"{case}.out" in stored:
                computed |= _sampled(head, config, stored, case, sections)
    yield from compare(stored, computed, INPUTS.__contains__, relative(stored))


def relative(stored: Mapping[str, Tensor], share: float = 1e-4, least: float = 1e-6) -> Any:
    """A tolerance of `share` of the largest absolute value of a stored tensor, at least `least`; what is
    stored in float64 (schedules, guidance scales) agrees to 1e-6 in every element."""

    def tolerance(name: str) -> Tolerance:
        if stored[name].dtype == torch.float64:
            return Tolerance(1e-12, 1e-6)
        largest = stored[name].double().abs().max() if stored[name].numel() else 0.0
        return Tolerance(max(share * float(largest), least))

    return tolerance


def sections_of(text: object) -> tuple[int, ...]:
    """How many steps each section of a respacing such as "10,15,20" keeps. ValueError for another text."""
    try:
        return tuple(int(part) for part in str(text).split(","))
    except ValueError:
        raise ValueError(f"a respacing is a list of numbers, got {text!r}") from None


def schedule_tables(schedule: DiffusionSchedule) -> dict[str, Tensor]:
    """The quantities of a schedule by their published names."""
    value, noisy = schedule.posterior_weights
    return {
        "betas": schedule.betas,
        "alphas_cumprod": schedule.kept,
        "posterior_variance": schedule.posterior_variance,
        "posterior_log_variance_clipped": schedule.posterior_log_variance,
        "posterior_mean_coef1": value,
        "posterior_mean_coef2": noisy,
        "timestep_map": schedule.steps,
    }


def _schedules(
    config: Mapping[str, Any], stored: Mapping[str, Tensor], sections: tuple[int, ...]
) -> dict[str, Tensor]:
    found = {f"schedule.gen.{k}": v for k, v in schedule_tables(cosine(1000, sections)).items()}
    found |= {f"schedule.train.{k}": v[::EVERY] for k, v in schedule_tables(cosine(1000)).items()}
    found["schedule.full.timestep_map"] = torch.tensor(spaced(1000, [config["steps_full"]]))
    for name in stored:
        if name.startswith("respacing."):
            text = name.removeprefix("respacing.")
            kept = (
                strided(1000, int(text.removeprefix("ddim")))
                if text.startswith("ddim")
                else spaced(1000, sections_of(text.replace("_", ",")))
            )
            found[name] = torch.tensor(kept)
    return found


def _training(head: Denoiser, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    hidden = needed(stored, "train.z").clone().requires_grad_()
    steps, mask = needed(stored, "train.t"), needed(stored, "train.mask")
    made = denoised(head, hidden, needed(stored, "train.x0"), steps, needed(stored, "train.eps"))
    loss = (made.loss * mask).sum() / mask.sum()
    weights = [hidden, head.inputs.weight, head.outputs.weight]
    gradients = torch.autograd.grad(loss, weights)
    found = {
        "xt": made.noisy,
        "net": made.outputs,
        "mse": made.squared_error,
        "vb": made.bound,
        "loss_per_token": made.loss,
        "loss": loss,
        "loss_nomask": made.loss.mean(),
        "p_mean": made.mean,
        "p_log_variance": made.log_variance,
        "pred_xstart": made.value,
        "time_emb": head.time(waves(steps)),
        **dict(zip(("grad_z", "grad_input_proj", "grad_final"), gradients, strict=True)),
    }
    return {f"train.{name}": value.detach() for name, value in found.items()}


@torch.no_grad()
def _sampled(
    head: Denoiser,
    config: Mapping[str, Any],
    stored: Mapping[str, Tensor],
    case: str,
    sections: tuple[int, ...],
) -> dict[str, Tensor]:
    schedule = cosine(1000, (config["steps_full"],) if "full" in case else sections)
    count = len(schedule.steps)
    temperature = 1.0 if "plain" in case else config["temperature"]
    start, noises = needed(stored, "sample.noise0"), needed(stored, "sample.noise")
    own = DiffusionDistribution(head, schedule, (Term(needed(stored, "sample.z"), 1.0, 1.0),))
    found = own
    if "cfg" in case:
        null = DiffusionDistribution(head, schedule, (Term(needed(stored, "sample.z_uncond"), 1.0, 1.0),))
        found = own.guided(null, config["cfg"] - 1)
    states = list(found.trajectory(of_steps(start, noises, count), temperature))
    if "cfg" in case:
        below = null_half(found, null, states, needed(stored, "sample.noise_uncond_half"), temperature)
        states = [torch.cat(pair) for pair in zip(states, below, strict=True)]
    return {f"{case}.out": states[-1], f"{case}.x_half": states[count // 2]}


def null_half(
    guided: DiffusionDistribution,
    null: DiffusionDistribution,
    states: list[Tensor],
    noises: Tensor,
    temperature: float,
) -> list[Tensor]:
    """The second half of the published batch: it has the noise that guidance predicts for the first half, and
    variances and random numbers of its own."""
    x, found = states[0], [states[0]]
    table = guided.schedule.table.tolist()
    for index, first in zip(reversed(range(len(table))), states, strict=False):
        scale, ratio, of_value, of_noisy, smallest, largest = table[index]
        step = int(guided.schedule.steps[index])
        predicted, place = guided.predicted(first, step)[0], null.predicted(first, step)[1]
        x = of_value * (scale * x - ratio * predicted) + of_noisy * x
        if index:
            log_variance = smallest + (place + 1) / 2 * (largest - smallest)
            x = x + temperature * torch.exp(0.5 * log_variance) * noises[index]
        found.append(x)
    return found
