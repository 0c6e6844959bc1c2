"""A learned reward and termination read-out: what a step earns, and whether it ends the episode, from the
frame before it and the frame after it. `unified.train.read_out` trains one on steps of the voxel world.

    reward = LearnedReward(load_read_out(find_read_out("reach")))
    env = gymnasium.make("unified/WorldModel-v0", reward_fn=reward)

It has no memory: of a task that is done after several rewarded steps it cannot tell the last one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unified.checkpoints.state_dict import load_strict, read_safetensors
from unified.pretrained import SHIPPED
from unified.text_files import parse_json

EVENTS = ("reward", "end")  # the two logits


@dataclass(frozen=True, kw_only=True)
class ReadOutConfig:
    """`task`: of the voxel world; `amount`: the reward of a rewarded step. Frames are averaged to `size`
    pixels a side, a multiple of 8: finer detail is what a tokenizer loses. `width`: channels of the first
    layer."""

    task: str = "reach"
    amount: float = 1.0
    size: int = 32
    width: int = 16

    def __post_init__(self) -> None:
        if self.size < 8 or self.size % 8 or self.width < 1:
            raise ValueError(
                f"size must be a multiple of 8 and width at least 1, got {self.size} and {self.width}"
            )
        if not np.isfinite(self.amount):
            raise ValueError(f"amount must be a finite reward, got {self.amount}")


class RewardReadOut(nn.Module):
    """Logits of `EVENTS` [B, 2] of two frames [B, 2, H, W, 3] of any size, values 0 to 255."""

    def __init__(self, config: ReadOutConfig) -> None:
        super().__init__()
        self.config = config
        widths = (6, config.width, 2 * config.width, 2 * config.width)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.hidden = nn.Linear(widths[-1] * (config.size // 8) ** 2, 3 * config.width)
        self.events = nn.Linear(3 * config.width, len(EVENTS))

    def forward(self, frames: Tensor) -> Tensor:
        x = self.averaged(frames) / 127.5 - 1  # [B, 6, size, size]
        for layer in self.layers:
            x = F.gelu(layer(x))  # [B, 2 * width, size / 8, size / 8]
        return self.events(F.gelu(self.hidden(x.flatten(1))))

    def averaged(self, frames: Tensor) -> Tensor:
        """[B, 2, H, W, 3] -> float [B, 6, size, size], means over pixels."""
        planes = frames.float().permute(0, 1, 4, 2, 3).flatten(1, 2)
        return F.adaptive_avg_pool2d(planes, self.config.size)


@dataclass(frozen=True)
class LearnedReward:
    """A reward function for the world model's environments: (reward, terminated) of a step. An event happens
    where it is more likely than not; with `expected` the reward is the amount times its probability, which
    shows a planner more than a few ones among zeros."""

    read_out: RewardReadOut
    expected: bool = False

    @torch.no_grad()
    def __call__(self, previous: np.ndarray, action: dict[str, Any], frame: np.ndarray) -> tuple[float, bool]:
        frames = torch.from_numpy(np.stack([previous, frame]))[None]
        reward, end = self.read_out(frames)[0].sigmoid().tolist()
        amount = self.read_out.config.amount
        return amount * (reward if self.expected else float(reward >= 0.5)), end >= 0.5


def save_read_out(read_out: RewardReadOut, path: Path, notes: dict[str, Any] | None = None) -> None:
    """Write it in half precision; `notes`: plain data that are kept with it."""
    metadata = {"config": json.dumps(asdict(read_out.config)), "notes": json.dumps(notes or {})}
    state = {name: value.half().contiguous() for name, value in read_out.state_dict().items()}
    save_file(state, path, metadata=metadata)


def load_read_out(path: Path) -> RewardReadOut:
    """A saved read-out. ValueError, in one line, for anything else."""
    state = read_safetensors(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    try:
        found = RewardReadOut(ReadOutConfig(**parse_json(metadata["config"])))
        load_strict(found, {name: value.float() for name, value in state.items()})
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: not a reward read-out ({error})") from None
    return found.eval()


def find_read_out(task: str, folder: Path | None = None) -> Path:
    """The read-out of a task that lies beside a model, else the one that ships with the package: both read
    frames of the same world. ValueError where there is none."""
    name = file_name(task)
    for place in (folder, SHIPPED):
        if place is not None and (place / name).is_file():
            return place / name
    raise ValueError(
        f"no {name} beside the model: train one with python -m unified.train.read_out --task {task}"
    )


def file_name(task: str) -> str:
    """Of the read-out of a task, in the folder of a model."""
    return f"reward_{task}.safetensors"
