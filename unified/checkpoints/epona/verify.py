"""Epona against a golden folder (`python -m unified.checkpoints verify`): geometry, context, heads, the
passes of a chain with gradients, planning and frames. Tolerances are those recommended there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.epona.flow_transformer import flowed
from unified.checkpoints.epona.geometry import MotionScales
from unified.checkpoints.epona.network import Epona, EponaSizes, load
from unified.checkpoints.epona.sampling import predict, shifted_times
from unified.checkpoints.epona.training import PassDraws, chain_of_forward, window_of
from unified.checkpoints.epona.transformer import causal_frames
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.recorded_noise import RecordedNoise
from unified.checkpoints.trace import Trace
from unified.checkpoints.transformer_verify import needed
from unified.text_files import content_of

INPUT = re.compile(
    r"latents|poses|(dit|traj)\.(noise|t)|chain\d+\.(noise|t|noise_traj|t_traj)|sample\w*\.noise(_traj)?"
)
HIDDEN = -1e9  # what is stored in a mask for minus infinity
RELEASED = {"img": 512, "traj": 15}  # tokens of the released heads
RELEASE = re.compile(r"schedule\.release_(img|traj)_(\d+)")


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this model."""
    return config.get("case") == "epona"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    with content_of(folder):
        model = load(read_state(folder, config), sizes_of(config))
        computed = {
            **_tables(model, config, stored),
            **_context(model, stored),
            **_chain(model, config, stored),
            **_sampled(model, config, stored),
        }
    if "stt.mask_time" in stored:
        stored["stt.mask_time"] = stored["stt.mask_time"].clamp(min=HIDDEN)
    yield from compare(stored, computed, lambda name: bool(INPUT.fullmatch(name)), _tolerance)


def _tolerance(name: str) -> Tolerance:
    if name == "geom.yaw_indices":
        return Tolerance(1e-3)
    return Tolerance(1e-5, 1e-3) if ".grad." in name else Tolerance(1e-4, 1e-5)


def sizes_of(config: Mapping[str, Any]) -> EponaSizes:
    """What a folder's options say that its weights do not."""
    cell = config["downsample_size"] * config["patch_size"]
    rows, columns = (side // cell for side in config["image_size"])
    return EponaSizes(
        grid=(rows, columns),
        frames=config["condition_frames"],
        points=config["traj_len"],
        heads=(config["n_head"], config["n_head_dit"], config["n_head_dit_traj"]),
        axes=(tuple(config["axes_dim_dit"]), tuple(config["axes_dim_dit_traj"])),
        scales=MotionScales(
            steps=tuple(config[f"{name}_vocab_size"] for name in ("pose_x", "pose_y", "yaw")),  # type: ignore[arg-type]
            bounds=tuple(config[f"{name}_bound"] for name in ("pose_x", "pose_y", "yaw")),  # type: ignore[arg-type]
        ),
    )


def _tables(model: Epona, config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    window = window_of(model, needed(stored, "latents"), needed(stored, "poses"))
    scales, sizes = model.sizes.scales, model.sizes
    places, (cos, sin) = scales.places(window.motion), model.model.rotation()
    mask = torch.zeros(sizes.frames, sizes.frames).masked_fill(~causal_frames(0, sizes.frames), HIDDEN)
    steps = config["num_sampling_steps"]
    found = {
        "geom.rel_pose": window.motion[..., :2],
        "geom.rel_yaw": window.motion[..., 2:],
        "geom.pose_indices": places[..., :2],
        "geom.yaw_indices": places[..., 2:],
        "geom.traj": window.trajectory,
        "geom.traj_normalised": scales.normalised(window.trajectory),
        "stt.rope_cos": cos,
        "stt.rope_sin": sin,
        "stt.mask_time": mask,
        "schedule.img": shifted_times(steps, sizes.grid[0] * sizes.grid[1]),
        "schedule.traj": shifted_times(steps, sizes.points),
    }
    for match in filter(None, map(RELEASE.fullmatch, stored)):
        found[match[0]] = shifted_times(int(match[2]), RELEASED[match[1]])
    return found


@torch.no_grad()
def _context(model: Epona, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Features of the first window, and one call of each head, in which nothing is rounded."""
    window = window_of(model, needed(stored, "latents"), needed(stored, "poses"))
    first: Any = model.model.causal_time_space_blocks[0]
    with Trace({"block0": first, "block0_time": first.causal_time_block}) as trace:
        features = model.model(window.frames, window.motion[:, :-1])
    rows = len(features)
    over_time = trace.found["block0_time"].unflatten(0, (rows, -1)).transpose(1, 2)
    flat, vector = features.flatten(0, 1), model.model.modulation(window.motion[:, 1:]).flatten(0, 1)
    targets = torch.cat([window.frames[:, 1:], window.following[:, None]], dim=1).flatten(0, 1)
    noise, times = needed(stored, "dit.noise"), needed(stored, "dit.t")
    frame = flowed(model.dit, targets, noise, times, flat, vector)
    paths = model.sizes.scales.normalised(window.trajectory).flatten(0, 1)
    noise, times = needed(stored, "traj.noise"), needed(stored, "traj.t")
    path = flowed(model.traj_dit, paths, noise, times, flat)
    return {
        "stt.block0": trace.found["block0"],
        "stt.block0_time": over_time,
        "stt.features": flat,
        "stt.pose_emb": vector,
        "dit.velocity": frame.found,
        "dit.predict": frame.value,
        "dit.loss": frame.loss,
        "traj.predict": path.value,
        "traj.loss": path.loss,
    }


def _chain(model: Epona, config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = ("t_traj", "noise_traj", "t", "noise")
    draws = [
        PassDraws(*(needed(stored, f"chain{number}.{name}") for name in names))
        for number in range(config["forward_iter"])
    ]
    latents, poses = needed(stored, "latents"), needed(stored, "poses")
    found: dict[str, Tensor] = {}
    passes = chain_of_forward(model, latents, poses, iter(draws), config["lambda_yaw_pose"])
    for number, (window, made) in enumerate(passes):
        model.zero_grad()
        made.total.backward()
        own = {
            "cond": window.frames,
            "rel_pose_cond": window.motion[:, :-1, :2],
            "rel_yaw_cond": window.motion[:, :-1, 2:],
            "loss_all": made.total,
            "loss_diff": made.frame_loss,
            "loss_yaw_pose": made.trajectory_loss,
            "predict": made.frames.flatten(0, 1),
            "predict_traj": made.trajectories.flatten(0, 1),
            **_gradients(model),
        }
        found |= {f"chain{number}.{name}": value.detach() for name, value in own.items()}
    return found


def _gradients(model: Epona) -> dict[str, Tensor]:
    first: Any = model.model.img_projector[0]
    weights = {
        "time_emb_head": model.model.time_emb,
        "img_projector.0.weight": first.weight,
        "dit.cond_in.weight": model.dit.cond_in.weight,
        "traj_dit.cond_in.weight": model.traj_dit.cond_in.weight,
    }
    found = {f"grad.{name}": w.grad.clone() for name, w in weights.items() if w.grad is not None}
    head = found["grad.time_emb_head"][: model.sizes.frames + 1]
    return {**found, "grad.time_emb_head": head}


def _sampled(model: Epona, config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    window = window_of(model, needed(stored, "latents"), needed(stored, "poses"))
    motion, steps = window.motion[:, :-1], config["num_sampling_steps"]
    with torch.no_grad():
        found = {
            "sample.features": model.model(window.frames, motion)[:, -1],
            "sample.pose_emb_given": model.model.modulation(window.motion[:, -1]),
        }
    for name, command in (("sample", None), ("sample_given", window.motion[:, -1])):
        normal = [needed(stored, f"{name}.{what}").flatten(0, 1) for what in ("noise_traj", "noise")]
        made = predict(model, window.frames, motion, RecordedNoise(normal), steps, command)
        found[f"{name}.traj"] = made.trajectory
        found[f"{name}.latents"] = made.frame.unflatten(1, model.sizes.grid)
    return found
