"""Epona: a world model of driving that is autoregressive in time and draws each step by flow matching:
first the trajectory of the car, then the next frame, from one shared context.

Source: Zhang et al., Epona: Autoregressive Diffusion World Model for Autonomous Driving, arXiv 2506.24113
(Kevin-thu/Epona, MIT). Parameter names are the published ones, with `token_in` for `img_in` and `traj_in`.
Test: tests/unified/checkpoints/epona/test_epona.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from unified.checkpoints.epona.flow_transformer import FlowConfig, FlowTransformer
from unified.checkpoints.epona.geometry import MotionScales
from unified.checkpoints.epona.transformer import ContextTransformer
from unified.checkpoints.mar.head import matrix
from unified.checkpoints.rotary_grid import grid_positions
from unified.checkpoints.state_dict import load_strict
from unified.heads.transformer_layers import count_blocks
from unified.orders.shapes import Shape


@dataclass(frozen=True, kw_only=True)
class EponaSizes:
    """What weights do not tell: `grid` of image tokens, `frames` of the context, way `points` of a
    trajectory, heads of the three networks and the channels of a head for each axis."""

    grid: Shape = (2, 3)
    frames: int = 3
    points: int = 4
    heads: tuple[int, int, int] = (2, 2, 2)
    axes: tuple[tuple[int, ...], tuple[int, ...]] = ((4, 6, 6), (4, 6, 6))
    scales: MotionScales = field(default_factory=MotionScales)


class Epona(nn.Module):
    """`model`: the context; `dit`: the head of frames; `traj_dit`: the head of trajectories."""

    def __init__(
        self, sizes: EponaSizes, model: ContextTransformer, dit: FlowTransformer, traj_dit: FlowTransformer
    ) -> None:
        super().__init__()
        self.sizes, self.model, self.dit, self.traj_dit = sizes, model, dit, traj_dit


def frame_positions(grid: Shape) -> Tensor:
    """[N, 3]: 0, row and column of every token."""
    found = grid_positions(*grid)
    return torch.cat([torch.zeros_like(found[:, :1]), found], dim=1)


def point_positions(points: int) -> Tensor:
    """[N, 3]: 0, 0 and the number of every way point."""
    return torch.cat([torch.zeros(points, 2, dtype=torch.long), torch.arange(points)[:, None]], dim=1)


def load(state: Mapping[str, Tensor], sizes: EponaSizes) -> Epona:
    """The published model, without its autoencoder. ValueError with a short reason if weights do not fit."""
    width = matrix(state, "model.time_emb")[1]
    context = ContextTransformer(
        channels=matrix(state, "model.img_projector.0.weight")[1],
        width=width,
        depth=count_blocks(state, "model.causal_time_space_blocks"),
        heads=sizes.heads[0],
        waves=matrix(state, "model.yaw_projector.0.weight")[1],
        grid=sizes.grid,
        frames=matrix(state, "model.time_emb")[0],
        scales=sizes.scales,
    )
    dit = FlowTransformer(_head_config(state, "dit", "img_in", sizes, 0), frame_positions(sizes.grid))
    traj = FlowTransformer(
        _head_config(state, "traj_dit", "traj_in", sizes, 1), point_positions(sizes.points)
    )
    model = Epona(sizes, context, dit, traj)
    load_strict(model, state, our_names)
    return model.eval()


def _head_config(
    state: Mapping[str, Tensor], prefix: str, tokens: str, sizes: EponaSizes, number: int
) -> FlowConfig:
    vector = f"{prefix}.vector_in.in_layer.weight"
    width, channels = matrix(state, f"{prefix}.{tokens}.weight")
    return FlowConfig(
        channels=channels,
        condition=matrix(state, f"{prefix}.cond_in.weight")[1],
        vector=matrix(state, vector)[1] if vector in state else 0,
        width=width,
        heads=sizes.heads[1 + number],
        axes=sizes.axes[number],
        depth=(
            count_blocks(state, f"{prefix}.double_blocks"),
            count_blocks(state, f"{prefix}.single_blocks"),
        ),
    )


def our_names(name: str) -> str:
    """The name of a published weight in `Epona`."""
    return re.sub(r"\.(img|traj)_in\.", ".token_in.", name)
