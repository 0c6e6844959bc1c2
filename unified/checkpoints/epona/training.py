"""Training of Epona, and chain-of-forward training, in which it reads its own estimates as it will in a
rollout.

A pass predicts the next frame and the trajectory of every frame of its window at once. In a chain the next
pass moves the window on by one frame and reads the one-step estimates of the pass before in place of
frames. Source: Zhang et al., arXiv 2506.24113. As published, the normalised trajectory of an estimate is
read as metres and degrees, unless `rescaled`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unified.checkpoints.epona.flow_transformer import flowed
from unified.checkpoints.epona.geometry import motions, trajectories
from unified.checkpoints.epona.network import Epona


@dataclass(frozen=True, eq=False)
class PassDraws:
    """Times [B F, 1, 1] and noise of the trajectories [B F, P, 3] and of the frames [B F, N, C] of a pass."""

    trajectory_times: Tensor
    trajectory_noise: Tensor
    frame_times: Tensor
    frame_noise: Tensor


@dataclass(frozen=True, eq=False)
class Window:
    """What a pass reads: latents `frames` [B, F, N, C], the `motion` [B, F + 1, 3] that led to each and to
    the next one, and the targets: the latent of the `following` frame [B, N, C] and `trajectory` [B, F, P,
    3] of each."""

    frames: Tensor
    motion: Tensor
    following: Tensor
    trajectory: Tensor


@dataclass(frozen=True, eq=False)
class PassResult:
    """Losses, and the one-step estimates of frames [B, F, N, C] and normalised trajectories [B, F, P, 3].
    `total` is the sum; the loss of trajectories has its weight in it."""

    total: Tensor
    frame_loss: Tensor
    trajectory_loss: Tensor
    frames: Tensor
    trajectories: Tensor


def window_of(model: Epona, latents: Tensor, poses: Tensor, start: int = 0) -> Window:
    """The true window of latents [B, T, N, C] and poses [B, T', 4, 4] that begins at a frame."""
    frames, points = model.sizes.frames, model.sizes.points
    own = poses[:, start:]
    return Window(
        latents[:, start : start + frames],
        motions(own, frames),
        latents[:, start + frames],
        trajectories(own, frames, points),
    )


def losses(model: Epona, window: Window, draws: PassDraws, weight: float = 1.0) -> PassResult:
    """One pass; `weight` of the loss of trajectories."""
    rows, frames = window.frames.shape[:2]
    features = model.model(window.frames, window.motion[:, :frames]).flatten(0, 1)
    vector = model.model.modulation(window.motion[:, 1:]).flatten(0, 1)
    paths = model.sizes.scales.normalised(window.trajectory).flatten(0, 1)
    noise = draws.trajectory_noise.bfloat16()  # rounded, as published
    path = flowed(model.traj_dit, paths.bfloat16(), noise, draws.trajectory_times, features)
    targets = torch.cat([window.frames[:, 1:], window.following[:, None]], dim=1).flatten(0, 1)
    frame = flowed(model.dit, targets, draws.frame_noise, draws.frame_times, features, vector)
    weighted = weight * path.loss
    return PassResult(
        frame.loss + weighted,
        frame.loss,
        weighted,
        frame.value.unflatten(0, (rows, frames)),
        path.value.unflatten(0, (rows, frames)),
    )


def chained(model: Epona, true: Window, before: PassResult, *, rescaled: bool = False) -> Window:
    """The window after a pass: its estimates in place of frames and of the motion that led to them; motion
    to the next frame, and targets that no estimate stands for, are true."""
    first = before.trajectories[:, :, 0].detach()
    motion = model.sizes.scales.trajectory(first) if rescaled else first
    motion = torch.cat([motion, true.motion[:, -1:]], dim=1)
    return Window(before.frames.detach(), motion, true.following, true.trajectory)


def chain_of_forward(
    model: Epona, latents: Tensor, poses: Tensor, draws: Iterator[PassDraws], weight: float = 1.0
) -> Iterator[tuple[Window, PassResult]]:
    """Passes over windows that move on by one frame, as many as there are draws; between two of them the
    caller may take a step of the optimiser."""
    before: PassResult | None = None
    for number, own in enumerate(draws):
        window = window_of(model, latents, poses, number)
        window = window if before is None else chained(model, window, before)
        before = losses(model, window, own, weight)
        yield window, before
