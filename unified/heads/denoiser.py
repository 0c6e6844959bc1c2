"""The network of a diffusion head: residual MLP blocks modulated by time and hidden state (AdaLN).

Source: Li et al., Autoregressive Image Generation without Vector Quantization (MAR), arXiv 2406.11838;
LTH14/mar (MIT), models/diffloss.py. Parameter names are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FREQUENCIES = 128
EPS = 1e-6


class Denoiser(nn.Module):
    """`channels` noisy values, told the step and a hidden state of `width`, by `depth` blocks of width
    `inner`. `outputs`: values that are predicted, by default twice as many as channels."""

    def __init__(self, width: int, channels: int, inner: int, depth: int, outputs: int | None = None) -> None:
        super().__init__()
        outputs = 2 * channels if outputs is None else outputs
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, inner), nn.SiLU(), nn.Linear(inner, inner))
        self.condition = nn.Linear(width, inner)
        self.inputs = nn.Linear(channels, inner)
        self.blocks = nn.ModuleList(Block(inner) for _ in range(depth))
        self.norm = nn.LayerNorm(inner, eps=EPS, elementwise_affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(inner, 2 * inner))
        self.outputs = nn.Linear(inner, outputs)
        self.start()

    def initialise(self, std: float) -> None:
        """As of every part of a model that begins on its own."""
        self.start()

    @torch.no_grad()
    def start(self) -> None:
        """First weights: blocks pass on what they get, and the outputs are zero."""
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                nn.init.constant_(parameter, float(name.endswith("norm.weight")))
            elif "modulation" in name or name.startswith("outputs"):
                nn.init.zeros_(parameter)
            elif name.startswith("time."):
                nn.init.normal_(parameter, std=0.02)
            else:
                nn.init.xavier_uniform_(parameter)

    def forward(self, noisy: Tensor, steps: Tensor, hidden: Tensor) -> Tensor:
        """noisy [M, C], steps [M] or [1], hidden [M, D] -> [M, 2C] float32: the predicted noise, and where
        its variance lies between the smallest (-1) and the largest (1). With other `outputs`: that many
        values."""
        dtype = self.inputs.weight.dtype
        told = self.time(waves(steps).to(dtype)) + self.condition(hidden.to(dtype))
        x = self.inputs(noisy.to(dtype))
        for block in self.blocks:
            x = block(x, told)
        shift, scale = self.modulation(told).chunk(2, dim=-1)
        return self.outputs(torch.addcmul(shift, self.norm(x), 1 + scale)).float()


class Block(nn.Module):
    def __init__(self, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inner, eps=EPS)
        self.mlp = nn.Sequential(nn.Linear(inner, inner), nn.SiLU(), nn.Linear(inner, inner))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(inner, 3 * inner))

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(told).chunk(3, dim=-1)
        return torch.addcmul(x, gate, self.mlp(torch.addcmul(shift, self.norm(x), 1 + scale)))


def waves(steps: Tensor) -> Tensor:
    """Cosines and sines [M, 256] of steps [M], in periods from 1 to 10,000 radians per step."""
    rates = 10_000.0 ** (-torch.arange(FREQUENCIES, device=steps.device) / FREQUENCIES)
    angles = steps[:, None].float() * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
