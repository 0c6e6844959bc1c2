"""Planning and frame prediction by Epona: a trajectory from the features of the last frame, then the next
frame, told the first way point or a given motion.

Source: Zhang et al., arXiv 2506.24113. The features of a window are computed once for all solver steps;
`context` keeps keys and values over time while a window grows. Noise is a function of row and place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from unified.checkpoints.epona.flow_transformer import FlowTransformer
from unified.checkpoints.epona.network import Epona
from unified.decoding.noise import Noise
from unified.finite import check_count

FEW, MANY = (256, 0.5), (4096, 1.15)  # tokens and shift, between which the shift is linear


def shifted_times(steps: int, tokens: int) -> Tensor:
    """[steps + 1] from 0 (noise) to 1, with more of them near noise where there are more tokens."""
    check_count("steps", steps, 1)
    slope = (MANY[1] - FEW[1]) / (MANY[0] - FEW[0])
    shift = math.exp(FEW[1] + slope * (tokens - FEW[0]))
    noise = torch.linspace(1, 0, steps + 1)
    return 1 - shift / (shift + 1 / noise - 1)


def integrated(
    head: FlowTransformer, start: Tensor, steps: int, features: Tensor, vector: Tensor | None = None
) -> Tensor:
    """Euler steps from noise [B, N, C] to data, given features [B, m, F]."""
    times = shifted_times(steps, start.shape[1]).tolist()
    x = start
    for time, following in pairwise(times):
        told = torch.full((len(x),), time, device=x.device)
        x = x + (following - time) * head(x, told, features, vector)
    return x


@dataclass(frozen=True, eq=False)
class Predicted:
    """`trajectory` [B, P, 3] in metres and degrees, and the latent `frame` [B, N, C]."""

    trajectory: Tensor
    frame: Tensor


@torch.no_grad()
def plan(model: Epona, features: Tensor, noise: Noise, steps: int = 100) -> Tensor:
    """A trajectory [B, P, 3] in metres and degrees, from the features [B, 3 + N, D] of the last frame."""
    start = _noise(noise, len(features), model.sizes.points, model.traj_dit, "trajectory")
    return model.sizes.scales.trajectory(integrated(model.traj_dit, start, steps, features))


@torch.no_grad()
def next_frame(model: Epona, features: Tensor, motion: Tensor, noise: Noise, steps: int = 100) -> Tensor:
    """The latent [B, N, C] of the next frame after a motion [B, 3] (metres, degrees)."""
    tokens = model.sizes.grid[0] * model.sizes.grid[1]
    start = _noise(noise, len(features), tokens, model.dit, "frame")
    return integrated(model.dit, start, steps, features, model.model.modulation(motion))


@torch.no_grad()
def predict(
    model: Epona,
    frames: Tensor,
    motion: Tensor,
    noise: Noise,
    steps: int = 100,
    command: Tensor | None = None,
) -> Predicted:
    """The next step after frames [B, F, N, C] and the motion [B, F, 3] that led to each. `command` [B, 3]:
    the motion to carry out, by default the first way point of the trajectory that is drawn."""
    features = model.model(frames, motion)[:, -1]
    trajectory = plan(model, features, noise, steps)
    chosen = trajectory[:, 0] if command is None else command
    return Predicted(trajectory, next_frame(model, features, chosen, noise, steps))


class StepNoise:
    """Noise of a step of a rollout: another sequence of numbers for each."""

    def __init__(self, noise: Noise, step: int) -> None:
        self.noise, self.step = noise, step

    def normal(
        self, places: Tensor, count: int, purpose: str = "normal", device: torch.device | None = None
    ) -> Tensor:
        return self.noise.normal(places, count, f"{purpose} {self.step}", device)

    def uniform(
        self, places: Tensor, count: int, purpose: str = "sample", device: torch.device | None = None
    ) -> Tensor:
        return self.noise.uniform(places, count, f"{purpose} {self.step}", device)

    def draw(self, probs: Tensor, places: Tensor, purpose: str = "sample") -> Tensor:
        return self.noise.draw(probs, places, f"{purpose} {self.step}")


@torch.no_grad()
def rollout(
    model: Epona, frames: Tensor, motion: Tensor, noise: Noise, length: int, steps: int = 100
) -> list[Predicted]:
    """So many next steps, each read in place of the oldest frame by those after it."""
    found: list[Predicted] = []
    for number in range(length):
        found.append(predict(model, frames, motion, StepNoise(noise, number), steps))
        frames = torch.cat([frames[:, 1:], found[-1].frame[:, None]], dim=1)
        motion = torch.cat([motion[:, 1:], found[-1].trajectory[:, None, 0]], dim=1)
    return found


def _noise(noise: Noise, rows: int, tokens: int, head: FlowTransformer, purpose: str) -> Tensor:
    device = head.token_in.weight.device
    places = torch.arange(tokens, device=device).expand(rows, -1)
    return noise.normal(places, head.config.channels, purpose, device).float()
