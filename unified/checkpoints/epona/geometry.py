"""Ego motion of Epona: motion between poses, what its network is told of it, and trajectories as its head
has them.

Poses are 4 x 4 matrices in metres; motion is (forward, left) in metres and yaw in degrees. What is told of
motion stays continuous: nothing is rounded. Source: Zhang et al., Epona, arXiv 2506.24113 (Kevin-thu/Epona,
MIT).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FORWARD, SIDE, TURN = 8.0, 1.0, 16.0  # ranges: 0 to 8 m, half a metre and 8 degrees to both sides


@dataclass(frozen=True, kw_only=True)
class MotionScales:
    """`steps` of the scales of forward, side and yaw; `bounds` of trajectories: metres forward and to the
    side, degrees."""

    steps: tuple[int, int, int] = (128, 128, 512)
    bounds: tuple[float, float, float] = (50.0, 10.0, 12.0)

    def places(self, motion: Tensor) -> Tensor:
        """Motions [..., 3] (forward, side, yaw) -> places on the scales [..., 3], continuous, clipped to
        them."""
        ahead, side, yaw = motion.unbind(dim=-1)
        forward, across, turn = self.steps
        return torch.stack(
            [
                (ahead * forward / FORWARD).clamp(0, forward),
                ((side + SIDE / 2 - 0.5 / across) * across / SIDE).clamp(0, across),
                ((yaw + TURN / 2 - TURN / 2 / turn) * turn / TURN).clamp(0, turn),
            ],
            dim=-1,
        )

    def normalised(self, trajectory: Tensor) -> Tensor:
        """Way points [..., 3] -> about -1 to 1."""
        bounds = trajectory.new_tensor(self.bounds)
        scaled = trajectory / bounds
        return torch.cat([2 * scaled[..., :1] - 1, scaled[..., 1:]], dim=-1)

    def trajectory(self, normalised: Tensor) -> Tensor:
        """The inverse of `normalised`."""
        ahead = (normalised[..., :1] + 1) / 2
        return torch.cat([ahead, normalised[..., 1:]], dim=-1) * normalised.new_tensor(self.bounds)


def motion_between(before: Tensor, after: Tensor) -> Tensor:
    """Poses [..., 4, 4] -> (forward, side, yaw) of the second one as seen from the first [..., 3]."""
    back = torch.linalg.inv(before[..., :3, :3])
    turn = back @ after[..., :3, :3]
    way = (back @ (after[..., :3, 3:] - before[..., :3, 3:]))[..., 0]
    yaw = torch.rad2deg(torch.atan2(turn[..., 1, 0], turn[..., 0, 0]))
    return torch.cat([way[..., :2], yaw[..., None]], dim=-1)


def motions(poses: Tensor, frames: int) -> Tensor:
    """[B, frames + 1, 3]: of every frame from the one before it; the first has none."""
    found = motion_between(poses[:, :frames], poses[:, 1 : frames + 1])
    return torch.cat([torch.zeros_like(found[:, :1]), found], dim=1)


def trajectories(poses: Tensor, frames: int, length: int) -> Tensor:
    """[B, frames, length, 3]: where each frame's car is in the next frames. ValueError for too few poses."""
    if poses.shape[1] < frames + length:
        raise ValueError(f"{frames} frames with {length} way points need {frames + length} poses")
    found = [motion_between(poses[:, n, None], poses[:, n + 1 : n + 1 + length]) for n in range(frames)]
    return torch.stack(found, dim=1)
