"""Continuous speculative decoding against a golden folder (`python -m unified.checkpoints verify`): the rule,
trajectories of two heads, and whole images. Tolerances are those recommended in `cspd/README.md`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.cspd import rule
from unified.checkpoints.cspd.rule import Redrawn, Trajectory
from unified.checkpoints.cspd.sampling import SpeculativeMasked, Writer, sample
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.mar.head import inside, load_head
from unified.checkpoints.mar.head_verify import sections_of
from unified.checkpoints.mar.network import MAR, load, to_images
from unified.checkpoints.recorded_noise import of_steps
from unified.checkpoints.transformer_verify import needed
from unified.heads.denoiser import Denoiser
from unified.heads.diffusion import DiffusionDistribution, Term
from unified.heads.diffusion_schedule import cosine

HEADS = 2  # of attention
TAU = 42.0  # the released temperature of acceptance
NEEDED = (
    "respacing",
    "temperature",
    "cfg",
    "num_iter",
    "gamma",
    "prefill",
    "grid",
    "hard_tau",
    "temperatures",
)
INPUTS = ("rule.x", "rule.u", "rule.accept_u", "rule.proposal_noise", "run.labels", "run.orders",
          "traj.z", "traj.z_uncond", "traj.noise0", "traj.noise", "run.noise0", "run.noise",
          *(f"rule.{law}_{name}" for law in "pq" for name in ("mean", "std", "logsum")))  # fmt: skip
RUNS = ("relaxed", "relaxed_cfg", "hard_cfg")
NO_NUMBER = -1.0  # in place of a ratio that is no number, in both


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds cases of continuous speculative decoding."""
    return config.get("case") == "cspd"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    missing = [name for name in NEEDED if name not in config]
    if missing:
        raise ValueError(f"{folder}: config.json lacks {missing[0]}")
    state = read_state(folder, config)
    with torch.no_grad():
        computed = _rule(config, stored)
        heads = {name: load_head(state, f"{name}.net.") for name in ("draft", "target")}
        for case in ("plain", "cfg"):
            computed |= _trajectories(config, stored, heads, case)
        models = {name: load(inside(state, f"mar_{name}."), HEADS) for name in ("draft", "target")}
        computed |= _target(config, stored, models["target"])
        for name in RUNS:
            if f"run.{name}.tokens" in stored:
                computed |= _run(config, stored, models, name)
    ratios = {name for name in stored if ".ratio." in name}
    stored = {k: v.nan_to_num(NO_NUMBER, torch.inf) if k in ratios else v for k, v in stored.items()}
    computed |= {k: computed[k].nan_to_num(NO_NUMBER, torch.inf) for k in ratios if k in computed}
    yield from compare(stored, computed, _is_input, _tolerance)


def _is_input(name: str) -> bool:
    return name in INPUTS or name.rpartition(".")[2] in ("u", "n")


def _tolerance(name: str) -> Tolerance:
    if ".ratio." in name or name.endswith(("factor", "_pdf")):
        return Tolerance(1e-30, 1e-3)
    return Tolerance(1e-4, 1e-4)


# The rule ---------------------------------------------------------------------------------------------------


def _rule(config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On given Gaussians."""
    x, uniform = needed(stored, "rule.x"), needed(stored, "rule.u")
    names = ("mean", "std", "logsum")
    p, q = (Trajectory(x, *(needed(stored, f"rule.{law}_{name}") for name in names)) for law in "pq")
    normals, uniforms = needed(stored, "rule.proposal_noise"), needed(stored, "rule.accept_u")
    first = p.mean + p.std * normals[0]
    found = {"factor": rule.factor(p, q), "p_pdf": p.pdf(x), "q_pdf": q.pdf(x)}
    found["residual_keep_of_first_proposal"] = rule.keep_chance(first, p, q)
    for tau in config["temperatures"]:
        verdict = rule.verify(x, p, q, tau, uniform, zip(normals, uniforms, strict=True))
        found |= {
            f"ratio.tau{tau:g}": rule.ratio(x, p, q, tau),
            f"accepted.tau{tau:g}": verdict.accepted,
            f"out.tau{tau:g}": verdict.values,
            f"trials.tau{tau:g}": torch.tensor(verdict.rounds),
        }
    return {f"rule.{name}": value for name, value in found.items()}


def _trajectories(
    config: Mapping[str, Any], stored: Mapping[str, Tensor], heads: Mapping[str, Denoiser], case: str
) -> dict[str, Tensor]:
    """Of both heads, with the same noise."""
    schedule = cosine(1000, sections_of(config["respacing"]))
    start, steps = needed(stored, "traj.noise0"), needed(stored, "traj.noise")
    normal = of_steps(start, steps, len(schedule.steps))
    laws: dict[str, Trajectory] = {}
    for name, head in heads.items():
        own, null = (
            DiffusionDistribution(head, schedule, (Term(needed(stored, f"traj.{z}"), 1.0, 1.0),))
            for z in ("z", "z_uncond")
        )
        own = own.guided(null, config["cfg"] - 1) if case == "cfg" else own
        laws[name] = rule.trajectory(own, normal, config["temperature"])
    found: dict[str, Tensor] = {}
    for name, law in laws.items():
        parts = {"out": law.out, "last_mean": law.mean, "last_std": law.std, "logsum": law.log_sum}
        found |= {f"{name}.{key}": value for key, value in parts.items()}
    p, q = laws["target"], laws["draft"]
    found["factor"] = rule.factor(p, q)
    for tau in config["temperatures"]:
        found[f"ratio.tau{tau:g}"] = rule.ratio(q.out, p, q, tau)
    return {f"traj.{case}.{name}": value for name, value in found.items()}


# Images -----------------------------------------------------------------------------------------------------


def _target(config: Mapping[str, Any], stored: Mapping[str, Tensor], model: MAR) -> dict[str, Tensor]:
    """Conditions that the target finds for all tokens, nothing and half of them being known."""
    labels, orders, start = (needed(stored, f"run.{name}") for name in ("labels", "orders", "noise0"))
    writer = Writer(model, labels, start[:, :, None], SpeculativeMasked())
    everything = torch.ones(orders.shape, dtype=torch.bool)
    half = torch.zeros_like(everything).scatter(1, orders[:, : orders.shape[1] // 2], True)
    nothing = torch.zeros_like(start)
    known = start.masked_fill(half[..., None], 0.0)
    return {
        "run.target.z_first": writer.hidden(nothing, everything, False),
        "run.target.z_half": writer.hidden(known, half, False),
    }


def _run(
    config: Mapping[str, Any], stored: Mapping[str, Tensor], models: Mapping[str, MAR], name: str
) -> dict[str, Tensor]:
    """Images of one case, and which random numbers it used."""
    settings = SpeculativeMasked(
        steps=config["num_iter"],
        scale=config["cfg"] if name.endswith("cfg") else 1.0,
        drafts=config["gamma"],
        prefill=config["prefill"],
        temperature=config["temperature"],
        sections=sections_of(config["respacing"]),
    )
    numbers = Numbers(needed(stored, f"run.{name}.u"), needed(stored, f"run.{name}.n"))
    tau = config["hard_tau"] if name.startswith("hard") else TAU

    def judge(x: Tensor, p: Trajectory, q: Trajectory) -> Redrawn:
        return rule.verify(x, p, q, tau, numbers.uniform(len(x)), numbers.rounds(*x.shape))

    given = [needed(stored, f"run.{key}") for key in ("labels", "orders", "noise0", "noise")]
    labels, orders, start, noise = given
    count = len(cosine(1000, settings.sections).steps)
    normal = torch.cat([start[:, :, None], noise[:, :, 1:count]], dim=2)
    tokens = sample(models["draft"], models["target"], labels, orders, normal, judge, settings)
    return {
        f"run.{name}.tokens": to_images(tokens, config["grid"], 1),
        f"run.{name}.kinds": torch.tensor(numbers.kinds),
    }


class Numbers:
    """Stored uniform and normal numbers, taken in turn; `kinds`: 1 for each draw of uniform ones."""

    def __init__(self, uniform: Tensor, normal: Tensor) -> None:
        self.stored = {1: uniform, 0: normal}
        self.kinds: list[int] = []

    def uniform(self, rows: int) -> Tensor:
        return self._next(1, rows)

    def rounds(self, rows: int, channels: int) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield self._next(0, rows * channels).view(rows, channels), self._next(1, rows)

    def _next(self, kind: int, count: int) -> Tensor:
        """ValueError when they are used up."""
        if len(self.stored[kind]) < count:
            raise ValueError(f"{len(self.stored[kind])} random numbers are left of a run, {count} are needed")
        found, self.stored[kind] = self.stored[kind][:count], self.stored[kind][count:]
        self.kinds.append(kind)
        return found
